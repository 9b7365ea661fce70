"""Accumulators: the lists in which windows keep their aggregations.

An accumulator is `[dirty, slot, …]`; the slots belong to the aggregations in order. The generated loop
updates it in place, and `dirty` says that the state knows of the change already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from streamkit.processing.aggregations import Aggregation, Slots

Accumulator = list[Any]
Aggregations = tuple[tuple[str, Aggregation], ...]


class Names:
    """Objects under the names by which compiled expressions see them."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}

    def bind(self, thing: Any, hint: str) -> str:
        name = f"{hint}_{len(self.bound)}"
        self.bound[name] = thing
        return name


class Layout:
    """Where the slots of some aggregations are, and what can be done with whole accumulators."""

    def __init__(self, aggregations: Aggregations) -> None:
        self.aggregations = aggregations
        self.merge = self._compile_merge()
        self._ranges: list[tuple[Aggregation, int, int]] = []
        start = 0
        for _, aggregation in aggregations:
            end = start + len(aggregation.initial(Names()))
            self._ranges.append((aggregation, start, end))
            start = end
        self._plain = all(aggregation.plain for _, aggregation in aggregations)
        self.growing = [1 + start for a, start, _ in self._ranges if a.put == "append"]

    def slots(self, a: str) -> list[Slots]:
        """Expressions for the slots of accumulator `a`, for each aggregation."""
        return [tuple(f"{a}[{1 + i}]" for i in range(start, end)) for _, start, end in self._ranges]

    def freeze(self, accumulator: Accumulator) -> list[Any]:
        """The slots as plain JSON values."""
        slots = accumulator[1:]
        if self._plain:
            return slots
        frozen: list[Any] = []
        for aggregation, start, end in self._ranges:
            frozen += aggregation.freeze(slots[start:end])
        return frozen

    def thaw(self, frozen: list[Any]) -> Accumulator:
        thawed: Accumulator = [False]
        for aggregation, start, end in self._ranges:
            thawed += aggregation.thaw(frozen[start:end])
        return thawed

    def copy(self, accumulator: Accumulator) -> Accumulator:
        """One that shares nothing with it."""
        return self.thaw(orjson.loads(orjson.dumps(self.freeze(accumulator))))

    def noted(self, accumulator: Accumulator) -> list[Any]:
        """What `restore` needs to take the next value out again."""
        return [accumulator[:], *(len(accumulator[slot]) for slot in self.growing)]

    def restore(self, accumulator: Accumulator, noted: list[Any]) -> None:
        """As it was, but for what sets and sketches know of it: it may come again."""
        slots, *lengths = noted
        accumulator[1:] = slots[1:]
        for slot, length in zip(self.growing, lengths, strict=True):
            del accumulator[slot][length:]

    @property
    def width(self) -> int:
        """How many slots there are."""
        return sum(end - start for _, start, end in self._ranges)

    @property
    def mergeable(self) -> bool:
        return all(aggregation.mergeable for _, aggregation in self.aggregations)

    @property
    def fingerprint(self) -> str:
        """What accumulators mean. The names of results are not in them."""
        return " ".join(aggregation.fingerprint for _, aggregation in self.aggregations)

    @property
    def former_fingerprint(self) -> str:
        return " ".join(f"{name}={aggregation.former_fingerprint}" for name, aggregation in self.aggregations)

    def _compile_merge(self) -> Callable[[Accumulator, Accumulator], Accumulator]:
        """`merge(a, b)`: a new accumulator for the records of both."""
        names, start, parts = Names(), 1, ["False"]
        for _, aggregation in self.aggregations:
            width = len(aggregation.initial(Names()))
            a, b = (tuple(f"{side}[{start + i}]" for i in range(width)) for side in "ab")
            parts += aggregation.merged(names, a, b)
            start += width
        namespace = dict(names.bound)
        exec(f"def merge(a, b): return [{', '.join(parts)}]", namespace)  # noqa: S102 - from the topology
        merge: Callable[[Accumulator, Accumulator], Accumulator] = namespace["merge"]
        return merge
