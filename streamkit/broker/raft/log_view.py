"""What the protocol must know of the log: where it begins and ends, which epochs wrote it, who voted when.

The bytes are the shell's. The view moves together with what `Ready` tells the shell to append, cut or
replace, and `flushed_offset` follows what the shell reports.

    start_offset ≤ flushed_offset ≤ end_offset          (each exclusive)

Voter sets are part of the log: the newest record counts from the moment it is appended, committed or not,
and a truncation brings back the one before it (KIP-853).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

import msgspec

from streamkit.broker.raft.voters import VoterSet

NO_EPOCH: Final = -1


class LogPosition(msgspec.Struct, frozen=True, gc=False, order=True):
    """The end of a log: it is at least as complete as another iff it is not smaller (Raft §5.4.1)."""

    epoch: int
    offset: int


class SnapshotId(msgspec.Struct, frozen=True, gc=False, order=True):
    """All records below `end_offset` are in it; the last of them was written in `epoch`."""

    end_offset: int
    epoch: int


class EpochStart(msgspec.Struct, frozen=True, gc=False):
    epoch: int
    offset: int


class VotersAt(msgspec.Struct, frozen=True, gc=False):
    """The voters that the record at `offset` made (a snapshot's: the last offset that it contains)."""

    offset: int
    voters: VoterSet


class LogView:
    """Invariant: epochs and their start offsets strictly increase, and lie in [start, end)."""

    def __init__(
        self,
        *,
        start_offset: int = 0,
        end_offset: int = 0,
        epochs: Iterable[EpochStart] = (),
        voters: Iterable[VotersAt] = (),
        snapshot: SnapshotId | None = None,
        start_snapshot: SnapshotId | None = None,
    ) -> None:
        self.start_offset = start_offset
        self.end_offset = end_offset
        self.flushed_offset = end_offset
        self.snapshot = snapshot
        """The newest snapshot, offered to replicas that are behind the log's start."""
        self._start_snapshot = start_snapshot or snapshot
        """The snapshot behind which the log starts: it says which epoch lies before the start."""
        self._epochs = list(epochs)
        self._voters = list(voters)

    def __repr__(self) -> str:
        return f"LogView([{self.start_offset}, {self.end_offset}), epochs {self._epochs})"

    @property
    def is_empty(self) -> bool:
        """Nothing was ever written or received here."""
        return self.end_offset == 0

    @property
    def epoch_before_start(self) -> int:
        return NO_EPOCH if self._start_snapshot is None else self._start_snapshot.epoch

    @property
    def last_epoch(self) -> int:
        return self._epochs[-1].epoch if self._epochs else self.epoch_before_start

    @property
    def position(self) -> LogPosition:
        return LogPosition(self.last_epoch, self.end_offset)

    @property
    def epochs(self) -> tuple[EpochStart, ...]:
        return tuple(self._epochs)

    # -- voters

    @property
    def voters(self) -> VotersAt | None:
        """The newest recorded voters; None while the configured ones count."""
        return self._voters[-1] if self._voters else None

    def voters_below(self, offset: int) -> VoterSet | None:
        """The voters as the records below `offset` have them: what a snapshot that ends there holds."""
        found = [entry.voters for entry in self._voters if entry.offset < offset]
        return found[-1] if found else None

    # -- change

    def append(self, epoch: int, next_offset: int, voters: VoterSet | None = None) -> None:
        """The records [end, next_offset) were appended; `voters` is what the last of them makes."""
        assert next_offset > self.end_offset and epoch >= self.last_epoch, "the log grows, and so do epochs"
        if epoch > self.last_epoch or not self._epochs:
            self._epochs.append(EpochStart(epoch, self.end_offset))
        self.end_offset = next_offset
        if voters is not None:
            self._voters.append(VotersAt(next_offset - 1, voters))

    def truncate_to(self, end_offset: int) -> None:
        assert self.start_offset <= end_offset, "what a snapshot covers is committed"
        self.end_offset = min(self.end_offset, end_offset)
        self.flushed_offset = min(self.flushed_offset, self.end_offset)
        self._epochs = [entry for entry in self._epochs if entry.offset < end_offset]
        self._voters = [entry for entry in self._voters if entry.offset < end_offset]

    def begin_at(self, snapshot: SnapshotId, voters: VoterSet | None) -> None:
        """The log was replaced by a snapshot, and goes on empty behind it."""
        assert snapshot.end_offset > self.end_offset or snapshot.epoch > self.last_epoch
        self.start_offset = self.end_offset = self.flushed_offset = snapshot.end_offset
        self.snapshot = self._start_snapshot = snapshot
        self._epochs = []
        self._voters = [] if voters is None else [VotersAt(snapshot.end_offset - 1, voters)]

    def trim_to(self, snapshot: SnapshotId) -> None:
        """Records below the snapshot's end were deleted."""
        if not self.start_offset < snapshot.end_offset <= self.end_offset:
            return
        spanning = bisect_right(self._epochs, snapshot.end_offset, key=lambda e: e.offset) - 1
        kept = [entry for entry in self._epochs if entry.offset >= snapshot.end_offset]
        if spanning >= 0 and snapshot.end_offset < self.end_offset and self._epochs[spanning] not in kept:
            kept.insert(0, EpochStart(self._epochs[spanning].epoch, snapshot.end_offset))
        self._epochs = kept
        self._start_snapshot = snapshot
        self.start_offset = snapshot.end_offset
        older = [entry for entry in self._voters if entry.offset < snapshot.end_offset]
        self._voters = older[-1:] + [e for e in self._voters if e.offset >= snapshot.end_offset]

    # -- questions

    def end_of(self, epoch: int) -> LogPosition:
        """The largest epoch here that is not above `epoch`, and where it ended (KIP-101, KIP-279)."""
        after = bisect_right(self._epochs, epoch, key=lambda e: e.epoch)
        end = self._epochs[after].offset if after < len(self._epochs) else self.end_offset
        if after:
            return LogPosition(self._epochs[after - 1].epoch, end)
        return LogPosition(min(epoch, self.epoch_before_start), self.start_offset)

    def needs_snapshot(self, position: LogPosition) -> bool:
        """Whether a replica whose log ends at `position` can no longer be helped by this log."""
        if self.start_offset == 0:
            return False
        if position.offset < self.start_offset or position.epoch < self.epoch_before_start:
            return True
        return position.offset == self.start_offset and position.epoch != self.epoch_before_start

    def divergence(self, position: LogPosition) -> LogPosition | None:
        """Where a log that ends at `position` parts from this one at the latest; None if it is a prefix."""
        if position.offset == 0:
            return None
        end = self.end_of(position.epoch)
        return None if end.epoch == position.epoch and position.offset <= end.offset else end
