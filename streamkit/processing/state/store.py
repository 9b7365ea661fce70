"""What an engine for state must offer: bytes under bytes, written in whole batches with a position.

Tables and windows are caches of decoded values over a `Store`. A task writes to its store once per commit,
after the commit: one batch of all changes together with the changelog position that they reach. So the
store is never ahead of the committed offsets, and what it lacks stands in the changelog between its
position and the committed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

Change = tuple[bytes, bytes | None]  # key, value; None deletes


class DamagedStoreError(BaseException):
    """A store cannot be read any more. No error policy of a record applies to that, so it is no Exception."""


class Store(Protocol):
    """One partition of one store. `damaged`: a read failed; nothing that rests on it may be committed.
    `spills`: it may hold more than memory does, so states keep only part of it decoded.
    """

    damaged: bool
    spills: bool

    @property
    def position(self) -> int:
        """The changelog offset up to which (exclusive) this store reflects the changelog."""
        ...

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The value of each, in their order: one reading of the disk instead of many."""
        ...

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` entries with start ≤ key < end (None: to the last), in the order of their keys."""
        ...

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, in no particular order; no writes while iterating."""
        ...

    def scan(self, cursor: object, limit: int) -> tuple[list[tuple[bytes, bytes]], object]:
        """Up to `limit` entries from the cursor on (None: the beginning), and the cursor behind them, None at
        the end. Writes in between are allowed: what they touch may be seen or not.
        """
        ...

    def write(self, changes: Iterable[Change], position: int) -> None:
        """Apply all changes and the position, or nothing."""
        ...

    def loading(self) -> AbstractContextManager[None]:
        """While this lasts the store is written much and not read."""
        ...

    def clear(self) -> None:
        """Forget everything: no entries, position 0."""
        ...

    def close(self) -> None:
        """Give up what outlives the object, such as files; it is not used any more."""
        ...

    def __len__(self) -> int: ...
