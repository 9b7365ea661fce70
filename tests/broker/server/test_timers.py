"""One heap of deadlines: order, cancelling, repeating."""

from __future__ import annotations

import asyncio

from streamkit.broker.server.timers import Timers
from streamkit.runtime.os.clock import SystemClock


async def test_callbacks_run_in_the_order_of_their_deadlines() -> None:
    timers, rang, done = Timers(SystemClock()), [], asyncio.Event()
    timers.after(20, lambda: rang.append("later"))
    timers.after(5, lambda: rang.append("sooner"))
    timers.after(30, done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert rang == ["sooner", "later"]


async def test_a_cancelled_timer_never_rings() -> None:
    timers, rang, done = Timers(SystemClock()), [], asyncio.Event()
    timers.after(1, lambda: rang.append("no")).cancel()
    timers.after(10, done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert rang == []


async def test_a_callback_may_set_the_next_timer() -> None:
    timers, done, count = Timers(SystemClock()), asyncio.Event(), 0

    def again() -> None:
        nonlocal count
        count += 1
        if count == 3:
            done.set()

    timers.every(1, again)
    await asyncio.wait_for(done.wait(), 5)
    timers.close()


async def test_many_cancelled_timers_do_not_stay() -> None:
    timers = Timers(SystemClock())
    kept = timers.after(60_000, lambda: None)
    for _ in range(10_000):
        timers.after(60_000, lambda: None).cancel()
    assert len(timers._heap) < 4_000
    kept.cancel()
    timers.close()
