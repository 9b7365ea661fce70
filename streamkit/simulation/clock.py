"""The clocks of a simulated machine: true virtual time at its own rate, and a wall clock that somebody may
set."""

from __future__ import annotations

from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.owner import MachineClock

EPOCH_MS = 1_700_000_000_000
"""What wall clocks that are right show at the beginning."""


class SimulatedClock:
    def __init__(self, loop: VirtualLoop, machine: MachineClock) -> None:
        self._loop = loop
        self._machine = machine

    def now_ms(self) -> int:
        return EPOCH_MS + self.monotonic_ms() + self._machine.offset_ms

    def monotonic_ms(self) -> int:
        return int(self._loop.now_s * self._machine.rate * 1000)

    def monotonic_s(self) -> float:
        return self._loop.now_s * self._machine.rate
