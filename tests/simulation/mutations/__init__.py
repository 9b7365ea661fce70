"""Defects of the kind that real systems had, patched in by name: the simulator has to catch each of them.

    with mutated("acknowledge-before-fsync"):
        assert play(tape).violations

`python -m tests.simulation.mutations` looks for a seed that catches each (`make sim-proof`) and keeps its
tape in `tapes/`; the tests play these tapes, with the defect and without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from streamkit.simulation.draw import draw_tape
from streamkit.simulation.tape import Tape

VARIATIONS = 12
TAPES = Path(__file__).parent / "tapes"

ROOMS = ("durability", "replication", "elections", "transactions")
"""The modules that enter their defects."""

Patch = Callable[[pytest.MonkeyPatch], None]
Scenario = Callable[[Tape], Tape]
"""What makes a drawn tape more likely to lead where a defect shows."""
MUTATIONS: dict[str, Mutation] = {}


class Mutation:
    """A defect: its number in the specification, how it is patched in, and where it can show."""

    def __init__(self, number: int, nodes: int, scenario: Scenario, patch: Patch) -> None:
        self.number = number
        self.nodes = nodes
        self.scenario = scenario
        self.patch = patch
        self.meaning = (patch.__doc__ or "").strip()

    def tape(self, seed: int, until_ms: int) -> Tape:
        return self.scenario(draw_tape(seed, until_ms, nodes=self.nodes))


def as_drawn(tape: Tape) -> Tape:
    return tape


def mutation(number: int, *, nodes: int, scenario: Scenario = as_drawn) -> Callable[[Patch], Patch]:
    """Enter a patch under the name of its function; `nodes` is the smallest cluster in which it can show."""

    def enter(patch: Patch) -> Patch:
        MUTATIONS[patch.__name__.replace("_", "-")] = Mutation(number, nodes, scenario, patch)
        return patch

    return enter


def variations(tape: Tape) -> Iterator[Tape]:
    """The tape, and the same with other small things (latencies, which sectors survive).

    Any change of the node shifts these, and what depends on a few milliseconds then needs another try.
    """
    return (replace(tape, seed=tape.seed + number) for number in range(VARIATIONS))


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The package with this defect, until the end of the block."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        all_mutations()[name].patch(monkeypatch)
        yield


def all_mutations() -> dict[str, Mutation]:
    for room in ROOMS:
        importlib.import_module(f"{__name__}.{room}")
    return MUTATIONS


def wrapped(owner: Any, name: str, make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `make(original)` in the place of what `owner` has under this name."""
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))
