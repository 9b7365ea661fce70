"""A failing tape cut shorter while it still fails, by delta debugging (Zeller's ddmin).

In turn: the horizon, the faults, the clients' operations, how bad each fault is. A tape fails the same way
when one of its violations has the same name; what else it finds does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from streamkit.simulation.run import play
from streamkit.simulation.tape import Tape

T = TypeVar("T")

Fails = Callable[[Tape], bool]
TAIL_MS = 500
CALM = 0.0


def kind_of(violation: str) -> str:
    """The name of an invariant, without the particulars."""
    return violation.partition(":")[0].partition(" by ")[0]


def fails_alike(violations: Sequence[str]) -> Fails:
    names = {kind_of(violation) for violation in violations}
    return lambda tape: any(kind_of(found) in names for found in play(tape).violations)


def shrink(tape: Tape, fails: Fails, progress: Callable[[Tape], None] = lambda tape: None) -> Tape:
    """The shortest tape found that still fails."""

    def attempt(shorter: Tape) -> bool:
        if not fails(shorter):
            return False
        progress(shorter)
        return True

    tape = _shorter_horizon(tape, attempt)
    faults = ddmin(tape.faults, lambda kept: attempt(msgspec.structs.replace(tape, faults=kept)))
    tape = msgspec.structs.replace(tape, faults=faults)
    operations = ddmin(tape.operations, lambda kept: attempt(msgspec.structs.replace(tape, operations=kept)))
    tape = msgspec.structs.replace(tape, operations=operations)
    return _shorter_horizon(tape, attempt)


def _shorter_horizon(tape: Tape, attempt: Fails) -> Tape:
    """End as early as the failure allows: a tape without what comes later is a shorter one."""
    low, high = 0, tape.until_ms
    while high - low > TAIL_MS:
        middle = (low + high) // 2
        shorter = cut(tape, middle)
        if attempt(shorter):
            tape, high = shorter, middle
        else:
            low = middle
    return tape


def cut(tape: Tape, until_ms: int) -> Tape:
    return msgspec.structs.replace(
        tape,
        until_ms=until_ms,
        faults=tuple(fault for fault in tape.faults if fault.at_ms < until_ms),
        operations=tuple(one for one in tape.operations if one.at_ms < until_ms),
    )


def ddmin(items: tuple[T, ...], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """A subset that still fails and of which no part can be left out, as far as parts were tried."""
    parts = 2
    while items:
        size = max(1, len(items) // parts)
        for start in range(0, len(items), size):
            without = items[:start] + items[start + size :]
            if fails(without):
                items, parts = without, max(2, parts - 1)
                break
        else:
            if size == 1:
                return items
            parts = min(len(items), parts * 2)
    return items
