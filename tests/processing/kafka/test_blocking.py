"""A call that blocks is waited for, even by who gave it up; then nobody is told how it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from streamkit.processing.kafka.blocking import in_thread, in_thread_for


class Call:
    """`block` does so until `end` is set, and fails."""

    def __init__(self) -> None:
        self.began, self.end, self.ended = threading.Event(), threading.Event(), threading.Event()

    def block(self) -> None:
        self.began.set()
        self.end.wait()
        self.ended.set()
        raise OSError("nobody wants to know")


async def check_giving_up_waits(call: Call, waiting: Coroutine[Any, Any, None]) -> None:
    caller = asyncio.create_task(waiting)
    await asyncio.to_thread(call.began.wait)
    caller.cancel()
    done, _ = await asyncio.wait([caller], timeout=0.05)
    assert not done
    call.end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert call.ended.is_set()


async def test_what_it_says_comes_back() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_who_gives_up_waits_until_it_has_returned(caplog: pytest.LogCaptureFixture) -> None:
    call = Call()
    await check_giving_up_waits(call, in_thread(call.block))
    with caplog.at_level(logging.ERROR, "asyncio"):
        gc.collect()
    assert not caplog.records


async def test_a_call_that_does_not_return_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    call = Call()
    with pytest.raises(TimeoutError):
        await in_thread_for(0.01, call.block)
    call.end.set()
    await asyncio.to_thread(call.ended.wait)
    with caplog.at_level(logging.ERROR, "asyncio"):
        await asyncio.sleep(0)
        gc.collect()
    assert not caplog.records


async def test_a_call_that_returns_in_time_says_what_it_has_to() -> None:
    assert await in_thread_for(60, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread_for(60, divmod, 7, 0)


async def test_who_gives_up_a_call_with_a_limit_waits_for_it_as_well() -> None:
    call = Call()
    await check_giving_up_waits(call, in_thread_for(60, call.block))
