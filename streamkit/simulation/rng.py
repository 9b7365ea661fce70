"""All randomness of a run, from its seed: one generator per name, so that nobody's draws shift another's."""

from __future__ import annotations

import random


class Seed:
    """Generators by name; the same seed and name give the same draws on every machine."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed

    def generator(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")


class SeededRng:
    """The port of one machine: it outlives its incarnations, so that none draws what another drew."""

    def __init__(self, seed: Seed, machine: str) -> None:
        self._seed = seed
        self._machine = machine
        self._streams: dict[str, random.Random] = {}

    def bytes(self, stream: str, count: int) -> bytes:
        return self._stream(stream).randbytes(count)

    def uniform(self, stream: str, low: float, high: float) -> float:
        return self._stream(stream).uniform(low, high)

    def _stream(self, name: str) -> random.Random:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._seed.generator(f"{self._machine}/{name}")
        return stream
