"""Randomness from named substreams, so that one consumer's draws never shift another's."""

from __future__ import annotations

from typing import Protocol


class Rng(Protocol):
    def bytes(self, stream: str, count: int) -> bytes:
        """`count` random bytes from the substream `stream`."""
        ...

    def uniform(self, stream: str, low: float, high: float) -> float:
        """A float in [low, high) from the substream `stream`."""
        ...
