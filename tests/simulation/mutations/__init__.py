"""Defects of the kind that real systems had, patched in by name: the simulator has to catch each of them.

    with mutated("acknowledge-before-fsync"):
        assert play(tape).violations

`python -m tests.simulation.mutations` looks for a seed that catches each (`make sim-proof`) and keeps its
tape in `tapes/`; the tests play these tapes, with the defect and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TAPES = Path(__file__).parent / "tapes"

Patch = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: dict[str, Mutation] = {}


class Mutation:
    """A defect: its number in the specification, how it is patched in, and where it can show."""

    def __init__(self, number: int, nodes: int, patch: Patch) -> None:
        self.number = number
        self.nodes = nodes
        self.patch = patch
        self.meaning = (patch.__doc__ or "").strip()


def mutation(number: int, *, nodes: int) -> Callable[[Patch], Patch]:
    """Enter a patch under the name of its function; `nodes` is the smallest cluster in which it can show."""

    def enter(patch: Patch) -> Patch:
        MUTATIONS[patch.__name__.replace("_", "-")] = Mutation(number, nodes, patch)
        return patch

    return enter


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The package with this defect, until the end of the block."""
    from tests.simulation.mutations import durability  # noqa: F401  # enters its defects

    with pytest.MonkeyPatch.context() as monkeypatch:
        MUTATIONS[name].patch(monkeypatch)
        yield


def all_mutations() -> dict[str, Mutation]:
    from tests.simulation.mutations import durability  # noqa: F401  # enters its defects

    return MUTATIONS


def wrapped(owner: Any, name: str, make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `make(original)` in the place of what `owner` has under this name."""
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))
