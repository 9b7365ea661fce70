"""Time as an input: one wall clock for timestamps, one monotonic clock for deadlines."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall-clock milliseconds since the Unix epoch; may jump either way."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds from an arbitrary origin; never goes back."""
        ...

    def monotonic_s(self) -> float:
        """The same in seconds, at the clock's full resolution: for measuring how long something took."""
        ...
