"""What happened in a run, as one hash, and as lines for whoever wants to read it.

Two runs of one tape have the same hash, or something in the node depends on more than its ports.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from struct import Struct

from streamkit.simulation.loop import VirtualLoop

_EVENT = Struct(">dq")


class Trace:
    def __init__(self, loop: VirtualLoop, write: Callable[[str], None] | None = None) -> None:
        """`write` gets a line for each event that is worth one; without it only the hash is kept."""
        self._loop = loop
        self._hash = blake2b(digest_size=8)
        self.write = write

    def mark(self, data: bytes) -> None:
        """Something happened now: part of the hash."""
        self._hash.update(_EVENT.pack(self._loop.now_s, self._loop.callbacks))
        self._hash.update(data)

    def say(self, who: str, what: str) -> None:
        """Something happened now that is worth a line."""
        self.mark(f"{who} {what}".encode())
        if self.write is not None:
            self.write(f"{self._loop.now_s:11.6f}  {who:<10} {what}")

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()
