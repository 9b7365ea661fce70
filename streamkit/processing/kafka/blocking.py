"""librdkafka's calls block, so the loop leaves them to a thread.

Some have been seen to forget their own time limit: those are left behind when it is long over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(fn: Callable[..., T], *args: Any) -> T:
    """`fn(*args)` in a thread; cancelled only when it has returned: a client must not be closed under it."""
    call = asyncio.ensure_future(asyncio.to_thread(fn, *args))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # looked at: nobody else will
        raise


async def in_thread_for(seconds: float, fn: Callable[..., T], *args: Any) -> T:
    """As `in_thread`, but raises TimeoutError after so long: the call goes on, and nobody hears of it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(end: Callable[[Any], None], what: object) -> None:
        if not answer.done():
            end(what)

    def call() -> None:
        end: Callable[[Any], None] = answer.set_result
        what: object
        try:
            what = fn(*args)
        except BaseException as error:
            end, what = answer.set_exception, error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, end, what)

    threading.Thread(target=call, name=fn.__name__, daemon=True).start()  # an exit does not wait for it
    deadline = loop.time() + seconds
    try:
        done, _ = await asyncio.wait([answer], timeout=seconds)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([answer], timeout=deadline - loop.time())
        if not answer.cancel():
            answer.exception()  # looked at: nobody else will
        raise
    if not done:
        answer.cancel()
        raise TimeoutError
    return answer.result()
