"""Functions that run by the clock: what `@app.timer` and `@app.crontab` declare.

A schedule names moments. One that is `wall` names the same moments to every worker, so that the cluster can
agree on who runs at each; the others count from when the worker began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from streamkit.processing.operators.function import check_function


class Schedule(Protocol):
    @property
    def wall(self) -> bool: ...

    @property
    def text(self) -> str:
        """For `explain`."""
        ...

    def next_ms(self, after_ms: int) -> int:
        """The first moment after this one: of wall time, or of a clock that never goes back."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Timer:
    """`on_leader`: it runs at one worker of the app only, whichever that is at the moment."""

    name: str
    schedule: Schedule
    function: Callable[[], Any]
    on_leader: bool

    def __post_init__(self) -> None:
        check_function(self.function, f"the timer {self.name}", may_await=True)


@dataclass(frozen=True)
class Interval:
    """Every so many milliseconds; with `wall`, at multiples of them since the epoch."""

    interval_ms: int
    wall: bool = False

    @property
    def text(self) -> str:
        return f"every {self.interval_ms} ms"

    def next_ms(self, after_ms: int) -> int:
        if self.wall:
            return after_ms - after_ms % self.interval_ms + self.interval_ms
        return after_ms + self.interval_ms
