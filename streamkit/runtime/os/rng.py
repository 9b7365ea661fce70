"""The operating system's randomness; the names of the substreams only matter where draws are replayed."""

from __future__ import annotations

import os
import random


class SystemRng:
    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def bytes(self, stream: str, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self, stream: str, low: float, high: float) -> float:
        return self._random.uniform(low, high)
