"""A call that blocks is waited for, even by who gave it up; then nobody is told how it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from streamkit.processing.kafka.blocking import in_thread, in_thread_for


async def test_what_it_says_comes_back() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_who_gives_up_waits_until_it_has_returned(caplog: pytest.LogCaptureFixture) -> None:
    began, end, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        end.wait()
        ended.set()
        raise OSError("nobody wants to know")

    caller = asyncio.create_task(in_thread(call))
    await asyncio.to_thread(began.wait)
    caller.cancel()
    done, _ = await asyncio.wait([caller], timeout=0.05)
    assert not done
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
    with caplog.at_level(logging.ERROR, "asyncio"):
        gc.collect()
    assert not caplog.records


async def test_a_call_that_does_not_return_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    end, ended = threading.Event(), threading.Event()

    def call() -> None:
        end.wait()
        ended.set()
        raise OSError("nobody wants to know")

    with pytest.raises(TimeoutError):
        await in_thread_for(0.01, call)
    end.set()
    await asyncio.to_thread(ended.wait)
    with caplog.at_level(logging.ERROR, "asyncio"):
        await asyncio.sleep(0)
        gc.collect()
    assert not caplog.records


async def test_a_call_that_returns_in_time_says_what_it_has_to() -> None:
    assert await in_thread_for(60, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread_for(60, divmod, 7, 0)


async def test_who_gives_up_a_call_with_a_limit_waits_for_it_as_well() -> None:
    began, end = threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        end.wait()

    caller = asyncio.create_task(in_thread_for(60, call))
    await asyncio.to_thread(began.wait)
    caller.cancel()
    done, _ = await asyncio.wait([caller], timeout=0.05)
    assert not done
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
