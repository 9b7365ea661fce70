"""A call that blocks is waited for, even by who gave it up; then nobody is told how it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from streamkit.processing.kafka.blocking import in_thread


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
