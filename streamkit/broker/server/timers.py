"""One heap of deadlines for a whole node, and one alarm of the event loop for the earliest of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from streamkit.runtime.contracts.clock import Clock

SWEEP_MIN_CANCELLED = 1024


class Timer:
    """A deadline that can be called off; `callback` runs once on the event loop."""

    __slots__ = ("callback", "deadline_ms", "order", "timers")

    def __init__(self, timers: Timers, deadline_ms: int, order: int, callback: Callable[[], None]) -> None:
        self.timers = timers
        self.deadline_ms = deadline_ms
        self.order = order
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return (self.deadline_ms, self.order) < (other.deadline_ms, other.order)

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self.timers.cancelled()


class Timers:
    """Cancelled timers stay in the heap until their turn, or until they are most of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._order = 0
        self._cancelled = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ms = 0

    def after(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` in `delay_ms`, not earlier."""
        self._order += 1
        timer = Timer(self, self._clock.monotonic_ms() + max(0, int(delay_ms)), self._order, callback)
        heappush(self._heap, timer)
        if self._heap[0] is timer:
            self._set_alarm()
        return timer

    def every(self, period_ms: int, callback: Callable[[], None]) -> None:
        """Run `callback` each `period_ms` until the timers are closed."""

        def again() -> None:
            callback()
            self.after(period_ms, again)

        self.after(period_ms, again)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._heap.clear()

    def cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > SWEEP_MIN_CANCELLED and self._cancelled * 2 > len(self._heap):
            self._heap = [timer for timer in self._heap if timer.callback is not None]
            heapify(self._heap)
            self._cancelled = 0

    def _set_alarm(self) -> None:
        deadline_ms = self._heap[0].deadline_ms
        if self._alarm is not None:
            if self._alarm_ms <= deadline_ms:
                return
            self._alarm.cancel()
        self._alarm_ms = deadline_ms
        delay_s = max(0, deadline_ms - self._clock.monotonic_ms()) / 1000
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now_ms = self._clock.monotonic_ms()
        heap = self._heap
        while heap and heap[0].deadline_ms <= now_ms:
            timer = heappop(heap)
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                callback()
            heap = self._heap
        if heap:
            self._set_alarm()
