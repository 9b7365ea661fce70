"""Timers at work: each waits for its moments, one after the other, and calls its function.

A call that takes longer than the schedule's pace makes the moments meanwhile pass unused. So does whatever
keeps a worker from looking at the clock (it was suspended, another call blocked the loop): a moment of the
wall clock that is more than `LATEST_MS` past is not made up for, since another worker may have seen it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import structlog

from streamkit.processing.timers import Timer
from streamkit.runtime.contracts.clock import Clock

LATEST_MS = 5_000
LONGEST_REST_S = 30.0  # the wall clock may be set meanwhile

log = structlog.get_logger("worker")


async def run_timer(timer: Timer, clock: Clock, leads: Callable[[], bool]) -> None:
    """Until cancelled. `leads`: are we the worker at which timers `on_leader` run?"""
    schedule = timer.schedule
    now_ms = clock.now_ms if schedule.wall else clock.monotonic_ms
    due_ms = schedule.next_ms(now_ms())
    while True:
        while (wait_ms := due_ms - now_ms()) > 0:
            await asyncio.sleep(min(wait_ms / 1000, LONGEST_REST_S))
        if (not timer.on_leader or leads()) and not (schedule.wall and -wait_ms > LATEST_MS):
            await _call(timer)
        due_ms = schedule.next_ms(due_ms)
        if due_ms <= now_ms():
            due_ms = schedule.next_ms(now_ms())


async def _call(timer: Timer) -> None:
    try:
        result = timer.function()
        if inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("timer failed", timer=timer.name)
