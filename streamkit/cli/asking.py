"""Asking a cluster what librdkafka has no words for: by our own client, from a command that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streamkit.client.node import AnsweredError, Node
from streamkit.errors import DeadlineError, NotFoundError, RefusedError, StreamkitError, UsageError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.runtime.os.network import TcpNetwork

T = TypeVar("T")

_KINDS: dict[ErrorCode, type[StreamkitError]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: NotFoundError,
    ErrorCode.INVALID_REQUEST: UsageError,
    ErrorCode.INVALID_REPLICA_ASSIGNMENT: UsageError,
    ErrorCode.INVALID_TOPIC_EXCEPTION: UsageError,
}


def ask(bootstrap: str, work: Callable[[Node], Awaitable[T]]) -> T:
    """What `work` finds out from a broker of the cluster; errors are those of the command line."""

    async def connect_and_work() -> T:
        node = await Node.connect(TcpNetwork(), bootstrap)
        try:
            return await work(node)
        finally:
            await node.close()

    try:
        return asyncio.run(connect_and_work())
    except AnsweredError as error:
        if error.code is ErrorCode.REQUEST_TIMED_OUT:
            raise DeadlineError("the controller did not answer", hint="streamkit cluster health") from error
        raise _KINDS.get(error.code, RefusedError)(error.message) from error
