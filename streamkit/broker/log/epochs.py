"""Leader epochs: at which offset each leader's reign began in this log (KIP-101, KIP-279).

Epochs and start offsets both strictly increase, so that for any epoch the log can say where it ended: at
the start of the next one, or at the log's end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import msgspec


class EpochEntry(msgspec.Struct, frozen=True, gc=False):
    epoch: int
    start_offset: int


class LeaderEpochs:
    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[EpochEntry] = ()) -> None:
        self._entries = tuple(entries)

    def __repr__(self) -> str:
        return f"LeaderEpochs({list(self._entries)})"

    @property
    def entries(self) -> tuple[EpochEntry, ...]:
        return self._entries

    @property
    def latest(self) -> int:
        """The epoch of the newest entry, -1 if there is none."""
        return self._entries[-1].epoch if self._entries else -1

    def assign(self, epoch: int, start_offset: int) -> bool:
        """Note that `epoch` began at `start_offset`; False if it was known already.

        Entries that the new one contradicts (a higher epoch, or a start at or after this one) are dropped.
        """
        if epoch < 0 or epoch == self.latest:
            return False
        kept = [e for e in self._entries if e.epoch < epoch and e.start_offset < start_offset]
        self._entries = (*kept, EpochEntry(epoch, start_offset))
        return True

    def truncate_end(self, end_offset: int) -> bool:
        """Forget what began at or after `end_offset`; whether that changed anything."""
        kept = tuple(e for e in self._entries if e.start_offset < end_offset)
        changed = kept != self._entries
        self._entries = kept
        return changed

    def truncate_start(self, start_offset: int) -> bool:
        """Forget epochs that ended before `start_offset`; the one that spans it begins there."""
        first = bisect_right(self._entries, start_offset, key=lambda e: e.start_offset) - 1
        if first < 0 or (first == 0 and self._entries[0].start_offset == start_offset):
            return False
        spanning = EpochEntry(self._entries[first].epoch, start_offset)
        self._entries = (spanning, *self._entries[first + 1 :])
        return True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(epoch, end offset) of the largest epoch not above the requested one; (-1, -1) if there is none.

        What OffsetForLeaderEpoch answers and what a diverging epoch in Fetch means.
        """
        if epoch < 0 or not self._entries:
            return -1, -1
        if epoch == self._entries[-1].epoch:
            return epoch, log_end_offset
        after = bisect_right(self._entries, epoch, key=lambda e: e.epoch)
        if after == len(self._entries):
            return -1, -1
        if after == 0:
            return epoch, self._entries[0].start_offset
        return self._entries[after - 1].epoch, self._entries[after].start_offset

    def epoch_at(self, offset: int) -> int:
        """The epoch in which the record at `offset` was written, -1 if unknown."""
        found = bisect_right(self._entries, offset, key=lambda e: e.start_offset) - 1
        return self._entries[found].epoch if found >= 0 else -1
