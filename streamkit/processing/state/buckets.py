"""Accumulators by bucket and key over a store with a changelog: what open windows and panes have in common.

A bucket is whatever its owner aggregates apart: a window, or a pane of several windows. Its entries stand
side by side in the store, in the order of time and then of keys. The first item of an accumulator says
whether it is in `dirty`.

In memory every accumulator is in `open`. Where the store spills, `open` is a cache over it: all that changed
since the last commit, and of the rest what was used lately. A slice announces its records (`foresee`), and
what they need is fetched in one reading; what is needed otherwise is fetched when it is asked for.

Invariant: an accumulator that is not in `open` stands in the store, and its bucket is in `_partial`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Generic, TypeVar

import msgspec
import orjson

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.record import RawRecord
from streamkit.processing.serde import Serde
from streamkit.processing.state.cache import CACHED, KEEPS_ONE_IN, typical_bytes, with_keys
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.watermark import NEVER

BucketName = TypeVar("BucketName")
PORTION = 1_000  # entries that are taken out of a bucket before the task may pause
encode = msgspec.json.Encoder().encode


class Buckets(ABC, Generic[BucketName]):
    """Bucket → key → accumulator."""

    def __init__(self, layout: Layout, key: Serde[Any], store: Store, *, spills: bool) -> None:
        self.open: dict[BucketName, dict[Any, Accumulator]] = {}
        self.dirty: list[tuple[BucketName, Any, Accumulator]] = []
        self.watermark_ms = NEVER
        self.closed = 0
        self.store = store
        self.spills = spills
        self.cached_most = CACHED
        self.entry_bytes = 0
        self._layout = layout
        self._key = key
        self._removed: list[bytes] = []  # some of them may never have been stored
        self._removed_stored: list[bytes] = []
        self._partial: set[BucketName] = set()
        self._draining: set[BucketName] = set()
        self._recent: list[tuple[BucketName, Any, Accumulator]] = []  # what the last `changes` were of
        self._absent: set[tuple[BucketName, Any]] = set()  # known not to be stored
        # what the record in hand changes, and how that was before; None: not there
        self.before: list[tuple[BucketName, Any, Accumulator, list[Any] | None]] = []
        self.begin = self.before.clear  # what is changed from here on is another record's

    @abstractmethod
    def _prefix(self, name: BucketName) -> bytes:
        """How the stored keys of a bucket begin. All are of one length."""

    @abstractmethod
    def _names(self, ts: int) -> Iterable[BucketName]:
        """The buckets that a record of this time is likely to go to."""

    @property
    def cached(self) -> int:
        """Entries that a commit may let go, or must write."""
        return sum(map(len, self.open.values())) + len(self._removed) + len(self._removed_stored)

    def due_ms(self) -> int | None:
        return None

    # -- a record that may fail -----------------------------------------------------------------------

    def withdraw(self) -> None:
        """The record failed: as if it had not come."""
        for name, key, accumulator, before in reversed(self.before):
            if before is None:
                self._undo_begin(name, key)
            else:
                self._layout.restore(accumulator, before)
        self.begin()

    def _undo_begin(self, name: BucketName, key: Any) -> None:
        self.open[name].pop(key, None)  # in `dirty` it stands for nothing any more

    # -- what is only stored --------------------------------------------------------------------------

    def foresee(self, records: Sequence[RawRecord]) -> None:
        """Fetch what these records are likely to need."""
        if not self._partial:
            return
        encode_key = self._key.encode
        wanted = dict[bytes, tuple[BucketName, Any]]()
        for key, record in with_keys(records, self._key.decode):
            for name in self._names(record.timestamp()[1]):
                if name in self._partial and key not in self.open[name]:
                    wanted[self._prefix(name) + encode_key(key)] = name, key  # others may spell it otherwise
        if not wanted:
            return
        for (name, key), value in zip(wanted.values(), self.store.get_many(list(wanted)), strict=True):
            if value is None:
                self._absent.add((name, key))
            else:
                self.open[name][key] = self._thaw(value)

    def stored(self, name: BucketName, key: Any) -> Accumulator | None:
        """An accumulator that is not in its bucket's dictionary; taken into it."""
        if name not in self._partial or (name, key) in self._absent:
            return None
        value = self.store.get(self._prefix(name) + self._key.encode(key))
        if value is None:
            return None
        accumulator = self.open[name][key] = self._thaw(value)
        return accumulator

    def _discover(self) -> None:
        """Which buckets the store has, and nothing of what is in them."""
        start = b""
        while entries := self.store.range(start, None, 1):
            name, prefix = self._named(entries[0][0])
            if name is not None:
                self.open[name] = {}
                self._partial.add(name)
            start = _after(prefix)
            if not start:
                return

    @abstractmethod
    def _named(self, data: bytes) -> tuple[BucketName | None, bytes]:
        """The bucket of a stored key, and the part of the key that names it. None: not of a bucket."""

    # -- buckets that are over ------------------------------------------------------------------------

    def _in_order(self, name: BucketName) -> Iterator[tuple[bytes, Any, Accumulator]]:
        """(stored key without prefix, key, accumulator) of a bucket, in the order of stored keys. Until that
        is over the bucket takes no records, and keeps in memory what it has there (`_draining`).
        """
        bucket, encode_key = self.open[name], self._key.encode
        held = sorted([(encode_key(key), key) for key in bucket], key=itemgetter(0))
        stored = self._stored_of(name) if name in self._partial else iter(())
        entry = next(stored, None)
        for data, key in held:
            while entry is not None and entry[0] < data:
                yield entry[0], self._key.decode(entry[0]), self._thaw(entry[1])
                entry = next(stored, None)
            if entry is not None and entry[0] == data:
                entry = next(stored, None)
            yield data, key, bucket[key]
        while entry is not None:
            yield entry[0], self._key.decode(entry[0]), self._thaw(entry[1])
            entry = next(stored, None)

    def _stored_of(self, name: BucketName) -> Iterator[tuple[bytes, bytes]]:
        prefix = self._prefix(name)
        start, end = prefix, _after(prefix)
        while True:
            entries = self.store.range(start, end or None, PORTION)
            for data, value in entries:
                yield data[len(prefix) :], value
            if len(entries) < PORTION:
                return
            start = entries[-1][0] + b"\0"

    def _drain(self, name: BucketName) -> Iterator[Sequence[tuple[bytes, Any, Accumulator]]]:
        """The entries of a bucket in the order of stored keys, in portions that are removed as they are
        given. Between two of them the task may pause.
        """
        bucket, prefix = self.open[name], self._prefix(name)
        if name not in self._partial and len(bucket) <= PORTION:
            yield self._emptied(name)
            return
        self._draining.add(name)
        entries = self._in_order(name)
        while portion := list(islice(entries, PORTION)):
            for data, key, accumulator in portion:
                self._take_out(bucket, prefix + data, key, accumulator)
            yield portion
        self._drop(name)

    def _emptied(self, name: BucketName) -> list[tuple[bytes, Any, Accumulator]]:
        """All entries of a bucket that is in memory and goes."""
        encode_key, prefix = self._key.encode, self._prefix(name)
        entries = [(encode_key(key), key, accumulator) for key, accumulator in self.open.pop(name).items()]
        entries.sort(key=itemgetter(0))
        for data, _, accumulator in entries:
            accumulator[0] = True  # no longer in the state: `changes` passes over it
            self._removed.append(prefix + data)
        return entries

    def _take_out(
        self, bucket: dict[Any, Accumulator], stored_key: bytes, key: Any, accumulator: Accumulator
    ) -> None:
        if bucket.pop(key, None) is None:
            self._removed_stored.append(stored_key)
        else:
            accumulator[0] = True
            self._removed.append(stored_key)

    def _drop(self, name: BucketName) -> None:
        """A bucket that is empty."""
        del self.open[name]
        self._partial.discard(name)
        self._draining.discard(name)

    def _remove(self, name: BucketName) -> dict[Any, Accumulator]:
        """The accumulators of a bucket, which is none any more. Of one that is wholly in memory."""
        accumulators, prefix, encode_key = self.open.pop(name), self._prefix(name), self._key.encode
        for key, accumulator in accumulators.items():
            accumulator[0] = True
            self._removed.append(prefix + encode_key(key))
        return accumulators

    # -- commits --------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        changed: list[Change] = [(key, None) for key in self._removed_stored]
        for key, value in zip(self._removed, self.store.get_many(self._removed), strict=True):
            if value is not None:
                changed.append((key, None))
        removed = len(changed)
        for name, key, accumulator in self.dirty:
            accumulator[0] = False
            if self.open.get(name, {}).get(key) is accumulator:
                stored_key = self._prefix(name) + self._key.encode(key)
                changed.append((stored_key, encode(self._layout.freeze(accumulator))))
        if self.spills:
            self._recent = self.dirty[:]
            self.entry_bytes = typical_bytes(changed[removed:]) or self.entry_bytes
        self.dirty.clear()
        self._removed.clear()
        self._removed_stored.clear()
        return changed

    def written(self) -> None:
        if self.spills and self.cached > self.cached_most:
            self._let_go()
        self._recent = []

    def _let_go(self) -> None:
        """Forget what is in the store as it is, except half a cache of what changed last."""
        kept: dict[BucketName, dict[Any, Accumulator]] = {name: {} for name in self.open}
        recent = self._recent[-max(1, self.cached_most // KEEPS_ONE_IN) :]
        for name, key, accumulator in (*recent, *self.dirty):
            if self.open.get(name, {}).get(key) is accumulator:
                kept[name][key] = accumulator
        for name, bucket in self.open.items():
            if name in self._draining:
                kept[name] = bucket
            elif len(kept[name]) < len(bucket):
                self._partial.add(name)
        self.open = kept
        self._absent.clear()

    def _thaw(self, value: bytes) -> Accumulator:
        return self._layout.thaw(orjson.loads(value))

    def __len__(self) -> int:
        """How many there are; about, where some are only stored."""
        held = sum(map(len, self.open.values()))
        return max(held, len(self.store)) if self._partial else held


def _after(prefix: bytes) -> bytes:
    """The least key behind all that begin so; empty: there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else b""
