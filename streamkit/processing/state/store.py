"""What an engine for state must offer: bytes under bytes, written in whole batches with a position.

Tables and windows are caches of decoded values over a `Store`. A task writes to its store once per commit,
after the commit: one batch of all changes together with the changelog position that they reach. So the
store is never ahead of the committed offsets, and what it lacks stands in the changelog between its
position and the committed one.

A state that is read by something else than its store's keys, by time, say, has the store keep an `Index`
beside the entries. It follows from them, so changelogs know nothing of it, and whoever writes entries, a
restore or a copy as well as a commit, writes it in the same batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

Change = tuple[bytes, bytes | None]  # key, value; None deletes


class DamagedStoreError(BaseException):
    """A store cannot be read any more. No error policy of a record applies to that, so it is no Exception."""


Stored = Callable[[Sequence[bytes]], Sequence[bytes | None]]


class Index(Protocol):
    """Names beside the entries of a store, each with some bytes, in an order of their own."""

    @property
    def version(self) -> str:
        """Changes with the way the names are derived: a store with another index is restored anew."""
        ...

    def load(self, store: Store) -> None:
        """The store was opened, or forgot everything."""
        ...

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        """What changes in the index when the store takes these entries (None deletes). `stored`: what
        stands in it of keys, before; None where much is loaded, then names of what stood there may be left
        behind. So who finds a name that was derived from a value looks whether the entry still says so.
        """
        ...


class NamedByValue(ABC):
    """An `Index` whose names come from values. A load leaves names of former values behind; who finds that no
    entry speaks for one puts it into `left_behind`, and the next write takes it along.
    """

    def __init__(self) -> None:
        self.left_behind: list[bytes] = []

    def load(self, store: Store) -> None:
        self.left_behind.clear()

    def changes(self, entries: Mapping[bytes, bytes | None], stored: Stored | None) -> Iterable[Change]:
        for name in self.left_behind:
            yield name, None
        self.left_behind.clear()
        keys = list(entries)
        known = stored(keys) if stored is not None else [None] * len(keys)
        for key, before in zip(keys, known, strict=True):
            yield from self.renamed(key, before, entries[key])

    @abstractmethod
    def renamed(self, key: bytes, before: bytes | None, after: bytes | None) -> Iterable[Change]:
        """What changes in the index when this entry does."""


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

    def keep_index(self, index: Index) -> None:
        """Keep this one from here on. A store whose entries it does not know forgets them (position 0)."""
        ...

    def find(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` names of the index with start ≤ name < end, in their order."""
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
