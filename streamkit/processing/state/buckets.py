"""Accumulators by bucket and key over a store with a changelog: what open windows and panes have in common.

A bucket is whatever its owner aggregates apart: a window, or a pane of several windows. The first item of an
accumulator says whether it is in `dirty`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import msgspec

from streamkit.processing.accumulators import Accumulator, Layout
from streamkit.processing.serde import Serde
from streamkit.processing.state.store import Change, Store
from streamkit.processing.tasks.watermark import NEVER

BucketName = TypeVar("BucketName")
encode = msgspec.json.Encoder().encode


class Buckets(ABC, Generic[BucketName]):
    """Bucket → key → accumulator."""

    def __init__(self, layout: Layout, key: Serde[Any], store: Store) -> None:
        self.open: dict[BucketName, dict[Any, Accumulator]] = {}
        self.dirty: list[tuple[BucketName, Any, Accumulator]] = []
        self.watermark_ms = NEVER
        self.closed = 0
        self.store = store
        self._layout = layout
        self._key = key
        self._removed: list[bytes] = []

    @abstractmethod
    def _store_key(self, name: BucketName, key: Any) -> bytes:
        """Where the accumulator of a bucket and a key is stored."""

    def _remove(self, name: BucketName) -> dict[Any, Accumulator]:
        """The accumulators of a bucket, which is none any more."""
        accumulators = self.open.pop(name)
        for key, accumulator in accumulators.items():
            accumulator[0] = True  # no longer in the state: `changes` passes over it
            self._removed.append(self._store_key(name, key))
        return accumulators

    def due_ms(self) -> int | None:
        return None

    def changes(self) -> list[Change]:
        changed: list[Change] = []
        for key in self._removed:
            if self.store.get(key) is not None:
                changed.append((key, None))
        for name, key, accumulator in self.dirty:
            accumulator[0] = False
            if self.open.get(name, {}).get(key) is accumulator:
                changed.append((self._store_key(name, key), encode(self._layout.freeze(accumulator))))
        self.dirty.clear()
        self._removed.clear()
        return changed

    def written(self) -> None:
        """Nothing: what is open stays in memory."""

    def __len__(self) -> int:
        return sum(map(len, self.open.values()))
