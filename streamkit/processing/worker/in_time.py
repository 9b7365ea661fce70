"""An agent's call and its `timeout=`: Python's own TimeoutError says nothing, to a log or a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def in_time(call: Awaitable[T], timeout_ms: int) -> T:
    """Raises TimeoutError, which tells of the limit unless it is one of the call's own."""
    limit = asyncio.timeout(timeout_ms / 1000)
    try:
        async with limit:
            return await call
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"no answer within timeout={timeout_ms / 1000:g} s") from error
