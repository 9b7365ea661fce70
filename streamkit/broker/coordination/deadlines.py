"""Many deadlines that mostly move later: a heap that is corrected only when it is looked at.

A heartbeat pushes its member's deadline out, thousands of times before one is ever due. So `set` writes a
dictionary entry, and touches the heap only when the deadline comes nearer. Invariant: each key has one live
entry in the heap (`_queued`), which is never later than the key's deadline (`_due`).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """At most one deadline for each key, in monotonic milliseconds."""

    def __init__(self) -> None:
        self._due: dict[Key, int] = {}
        self._queued: dict[Key, int] = {}
        self._heap: list[tuple[int, int, Key]] = []
        self._sequence = count()

    def set(self, key: Key, at_ms: int) -> None:
        """Give `key` this deadline instead of any other."""
        self._due[key] = at_ms
        if at_ms < self._queued.get(key, at_ms + 1):
            self._queue(key, at_ms)

    def cancel(self, key: Key) -> None:
        self._due.pop(key, None)

    def get(self, key: Key) -> int | None:
        return self._due.get(key)

    def wake_at_ms(self) -> int | None:
        """No deadline is earlier than this."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> Key | None:
        """The key with the earliest deadline at or before now, which it loses; None when there is none."""
        while self._heap and self._heap[0][0] <= now_ms:
            queued_ms, _, key = heappop(self._heap)
            if self._queued.get(key) != queued_ms:
                continue
            del self._queued[key]
            due_ms = self._due.get(key)
            if due_ms is None:
                continue
            if due_ms > queued_ms:
                self._queue(key, due_ms)
                continue
            del self._due[key]
            return key
        return None

    def _queue(self, key: Key, at_ms: int) -> None:
        self._queued[key] = at_ms
        heappush(self._heap, (at_ms, next(self._sequence), key))
