"""A partition as one group shares it: which records are handed out, to whom, and what became of them.

Records are handed out (*acquired*) for a limited time, and end in one of two final states:

                  acquire                     ACCEPT
    Available ──────────────▶ Acquired ──────────────▶ Acknowledged
        ▲                        │  │
        └────────────────────────┘  └────────────────▶ Archived
          RELEASE, the lock ran out,     REJECT, no such record, or it was
          the session closed             delivered as often as it may be

What is in flight is tiled by *stretches*: runs of offsets with one state, whole batches as a rule. A stretch
is split only where an acknowledgement, or a limit, ends inside of it, and grows together again afterwards; no
work is done record by record. The window of stretches begins at the start offset, below which all delivery
is over, and grows at its end as far as the limit of record locks allows. Offsets in it that hold no record
(or none to deliver: control batches, aborted transactions) are archived as they are found out.

A change of state that a consumer asks for counts only once it is persisted. Until then the stretch keeps its
state and has a `target`; `persisted` and `failed` say how that ended. If its lock runs out meanwhile and the
change fails, the records are available again. What time does by itself (`expire`) is done at once, and what
is to be persisted of it may get lost: it would only be delivered once more.

After half of its deliveries a record is suspect of breaking its consumers. Suspects are handed out in ever
smaller stretches, at the last attempt one by one, so that their neighbours do not end with them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby
from typing import NamedTuple

import msgspec

from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.coordination.share.states import RecordState, StateBatch, combined
from streamkit.protocol.error_codes import ErrorCode

NOBODY = ""
NO_LOCK_MS = 2**62
FINAL = tuple(one for one in RecordState if one.is_final)
LEAST_SUSPECT_DELIVERIES = 2
MOST_COMPLETE = 2**31 - 1
MOST_DELIVERIES = 1000
"""More than any group may be configured with."""
PERSISTED = {int(one): one for one in RecordState if one is not RecordState.ACQUIRED}


class AcknowledgeType(IntEnum):
    """What a consumer says of a record; GAP: that there is none at this offset."""

    GAP = 0
    ACCEPT = 1
    RELEASE = 2
    REJECT = 3
    RENEW = 4


TARGETS = {
    AcknowledgeType.GAP: RecordState.ARCHIVED,
    AcknowledgeType.ACCEPT: RecordState.ACKNOWLEDGED,
    AcknowledgeType.RELEASE: RecordState.AVAILABLE,
    AcknowledgeType.REJECT: RecordState.ARCHIVED,
}


class Limits(NamedTuple):
    """What the group is configured with."""

    delivery_count: int
    record_locks: int
    lock_ms: int


class Wish(NamedTuple):
    """Who wants how many records. Without `exact`, as many whole batches as hold them."""

    member_id: str
    max_records: int
    batch_size: int
    exact: bool = False


class Fetched(NamedTuple):
    """A batch that was read from the log; `deliverable` unless no consumer is to see it."""

    first: int
    last: int
    deliverable: bool = True


class Acquired(NamedTuple):
    first: int
    last: int
    delivery_count: int


class Acknowledgement(NamedTuple):
    """Offsets from `first` to `last`, both included; one type for all of them, or one for each."""

    first: int
    last: int
    types: Sequence[int]


class StateWrite(NamedTuple):
    """What is to be persisted."""

    start_offset: int
    complete_count: int
    batches: tuple[StateBatch, ...]


class Stretch(msgspec.Struct, gc=False):
    """Invariants: `member_id` and the lock belong to an acquired stretch; only such a one has a target."""

    first: int
    last: int
    state: RecordState
    delivery_count: int
    member_id: str = NOBODY
    locked_until_ms: int = NO_LOCK_MS
    target: RecordState | None = None
    target_count: int = 0
    lock_lost: bool = False

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    @property
    def is_free(self) -> bool:
        return self.state is RecordState.AVAILABLE

    def become(self, state: RecordState, delivery_count: int) -> None:
        """Acquired no longer."""
        self.state, self.delivery_count = state, delivery_count
        self.member_id, self.locked_until_ms, self.lock_lost, self.target = NOBODY, NO_LOCK_MS, False, None

    def goes_with(self, other: Stretch) -> bool:
        """Whether nothing is lost if the two are one."""
        if self.target is not None or other.target is not None or self.state is not other.state:
            return False
        if self.state.is_final:
            return True
        return (
            self.delivery_count == other.delivery_count
            and self.member_id == other.member_id
            and self.locked_until_ms == other.locked_until_ms
        )


class Transition(NamedTuple):
    """Stretches on the way to their targets, and what is to be persisted of that."""

    stretches: tuple[Stretch, ...]
    batches: tuple[StateBatch, ...]


class SharePartition:
    """Invariant: the stretches tile the offsets from `start_offset` to `end_offset` (exclusive), and the
    first of them is not final, or its end is not persisted yet.
    """

    def __init__(
        self, limits: Limits, *, start_offset: int, state_epoch: int = 0, batches: Iterable[StateBatch] = ()
    ) -> None:
        """As it was persisted. What is between the batches had been handed out and not answered, and so had
        whatever is in no state that is ever persisted.
        """
        self.limits = limits
        self.start_offset = start_offset
        self.state_epoch = state_epoch
        self._stretches: list[Stretch] = []
        for batch in combined((), batches, start_offset):
            if batch.first > self.end_offset:
                self._append(self.end_offset, batch.first - 1, RecordState.AVAILABLE, 0)
            state = PERSISTED.get(batch.state, RecordState.AVAILABLE)
            count = min(max(batch.delivery_count, 0), MOST_DELIVERIES)
            self._append(batch.first, batch.last, state, count)
        self._may_be_free = bool(self._stretches)
        self._wake_at_ms = NO_LOCK_MS
        self._advance()

    @property
    def end_offset(self) -> int:
        """Where records begin that were never handed out."""
        return self._stretches[-1].last + 1 if self._stretches else self.start_offset

    @property
    def wake_at_ms(self) -> int | None:
        """When a lock may run out; may be early, is never late."""
        return None if self._wake_at_ms == NO_LOCK_MS else self._wake_at_ms

    @property
    def stretches(self) -> Sequence[Stretch]:
        return self._stretches

    def next_fetch_offset(self) -> int:
        """From where to read what can be acquired next."""
        if self._may_be_free:
            for one in self._stretches:
                if one.is_free:
                    return one.first
            self._may_be_free = False
        return self.end_offset

    @property
    def can_acquire(self) -> bool:
        return self._room > 0 or self.next_fetch_offset() < self.end_offset

    @property
    def _room(self) -> int:
        return self.limits.record_locks - (self.end_offset - self.start_offset)

    # ── handing out ────────────────────────────────────────────────────────────────────────────────────

    def acquire(
        self, wish: Wish, fetched: Sequence[Fetched], fetch_offset: int, now_ms: int
    ) -> list[Acquired]:
        """Hand out what is free of the batches that were read from `fetch_offset` on."""
        if not fetched or wish.max_records <= 0 or not self.start_offset <= fetch_offset <= self.end_offset:
            return []
        acquired: list[Acquired] = []
        known_end = min(self.end_offset, fetched[-1].last + 1)
        self._archive_absent(fetched, fetch_offset, known_end)
        left = self._acquire_known(wish, fetched, range(fetch_offset, known_end), now_ms, acquired)
        if left > 0:
            self._acquire_new(wish, left, fetched, now_ms, acquired)
        self._tidy(fetch_offset, self.end_offset)
        return acquired

    def _acquire_known(
        self,
        wish: Wish,
        fetched: Sequence[Fetched],
        offsets: range,
        now_ms: int,
        acquired: list[Acquired],
    ) -> int:
        """Hand out again what is free; how many records are still wanted."""
        left, position = wish.max_records, offsets.start
        while left > 0 and position < offsets.stop:
            one = self._stretches[self._index(position)]
            if not one.is_free:
                position = one.last + 1
                continue
            last = min(one.last, offsets.stop - 1)
            if last - position >= left:
                limit = position + left - 1
                last = limit if wish.exact else min(last, _last_of_batch(fetched, limit))
            suspects = self._suspects_at_once(one)
            if suspects:
                if acquired:
                    return 0
                last = min(last, position + suspects - 1)
            taken = self._cut(position, last)
            self._lock(taken, wish.member_id, taken.delivery_count + 1, now_ms)
            acquired.append(Acquired(taken.first, taken.last, taken.delivery_count))
            if suspects:
                return 0
            left -= taken.size
            position = last + 1
        return left

    def _suspects_at_once(self, stretch: Stretch) -> int:
        """How many records of this stretch may be handed out together; 0 if it is not suspect."""
        most = self.limits.delivery_count
        threshold = max((most + 1) // 2, LEAST_SUSPECT_DELIVERIES)
        if stretch.delivery_count < threshold:
            return 0
        if stretch.delivery_count >= most - 1:
            return 1
        return max(1, stretch.size >> (stretch.delivery_count - threshold + 1))

    def _acquire_new(
        self, wish: Wish, left: int, fetched: Sequence[Fetched], now_ms: int, acquired: list[Acquired]
    ) -> None:
        """Let the window grow over what was read beyond it."""
        left = min(left, self._room)
        for batch in fetched:
            if batch.last < self.end_offset:
                continue
            if left <= 0:
                return
            if batch.first > self.end_offset:
                self._append(self.end_offset, batch.first - 1, RecordState.ARCHIVED, 0)
            first, last = self.end_offset, batch.last
            if not batch.deliverable:
                self._append(first, last, RecordState.ARCHIVED, 0)
                continue
            if wish.exact:
                last = min(last, first + left - 1)
            self._lock(self._append(first, last, RecordState.AVAILABLE, 0), wish.member_id, 1, now_ms)
            _report(acquired, Acquired(first, last, 1), wish.batch_size)
            left -= last - first + 1

    def _lock(self, stretch: Stretch, member_id: str, delivery_count: int, now_ms: int) -> None:
        stretch.state, stretch.member_id = RecordState.ACQUIRED, member_id
        stretch.delivery_count = delivery_count
        self._lock_until(stretch, now_ms + self.limits.lock_ms)

    def _lock_until(self, stretch: Stretch, at_ms: int) -> None:
        stretch.locked_until_ms = at_ms
        self._wake_at_ms = min(self._wake_at_ms, at_ms)

    def _archive_absent(self, fetched: Sequence[Fetched], begin: int, end: int) -> None:
        """What was free, and turns out not to be in the log, or not for consumers."""
        position = begin
        for batch in fetched:
            if batch.first >= end:
                break
            self._archive_free(position, batch.first)
            if not batch.deliverable:
                self._archive_free(max(position, batch.first), min(batch.last + 1, end))
            position = max(position, batch.last + 1)
        self._archive_free(position, end)

    def _archive_free(self, begin: int, end: int) -> None:
        position = begin
        while position < end:
            one = self._stretches[self._index(position)]
            last = min(one.last, end - 1)
            if one.is_free:
                taken = self._cut(position, last)
                taken.become(RecordState.ARCHIVED, taken.delivery_count)
            position = last + 1

    # ── answers of consumers ───────────────────────────────────────────────────────────────────────────

    def acknowledge(
        self, member_id: str, acknowledgements: Iterable[Acknowledgement], now_ms: int
    ) -> Transition:
        """All of them, or none: raises Refusal. They do not overlap."""
        wanted = [one for one in acknowledgements if one.last >= self.start_offset]
        for one in wanted:
            self._check(member_id, one)
        targeted: list[Stretch] = []
        for one in wanted:
            for first, last, kind in _same_kind(one):
                targeted += self._answered(max(first, self.start_offset), last, kind, now_ms)
        return _transition(targeted)

    def _check(self, member_id: str, wanted: Acknowledgement) -> None:
        """Whether all of its records are acquired by that member, and unanswered."""
        if wanted.last >= self.end_offset:
            which = "first" if wanted.first >= self.end_offset else "last"
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                f"Batch record not found. The {which} offset in request is past acquired records.",
            )
        for one in self._between(max(wanted.first, self.start_offset), wanted.last):
            if one.state is not RecordState.ACQUIRED:
                raise Refusal(
                    ErrorCode.INVALID_RECORD_STATE,
                    "The batch cannot be acknowledged. The batch is not in the acquired state.",
                )
            if one.target is not None:
                raise Refusal(
                    ErrorCode.INVALID_RECORD_STATE,
                    "The record state is invalid. The acknowledgement of delivery could not be completed.",
                )
            if one.member_id != member_id:
                raise Refusal(ErrorCode.INVALID_RECORD_STATE, "Member is not the owner of batch record")

    def _answered(self, first: int, last: int, kind: AcknowledgeType, now_ms: int) -> Iterator[Stretch]:
        position = first
        while position <= last:
            one = self._cut(position, min(last, self._stretches[self._index(position)].last))
            position = one.last + 1
            if kind is AcknowledgeType.RENEW:
                self._lock_until(one, now_ms + self.limits.lock_ms)
                continue
            one.target, one.target_count = TARGETS[kind], one.delivery_count
            if one.target is RecordState.AVAILABLE and self._is_spent(one):
                one.target = RecordState.ARCHIVED
            yield one

    def _is_spent(self, stretch: Stretch) -> bool:
        return stretch.delivery_count >= self.limits.delivery_count

    def release(self, member_id: str) -> Transition:
        """The member's session is over: what it holds does not count as delivered."""
        held = [
            one
            for one in self._stretches
            if one.state is RecordState.ACQUIRED and one.member_id == member_id and one.target is None
        ]
        for one in held:
            one.target, one.target_count = RecordState.AVAILABLE, one.delivery_count - 1
        return _transition(held)

    def to_write(self, batches: Iterable[StateBatch] = ()) -> StateWrite:
        """What to persist: the window as it is, and how many of its records will be finished by that."""
        complete = sum(
            one.last - one.first + 1
            for one in self._stretches
            if (one.state if one.target is None else one.target) in FINAL
        )
        return StateWrite(self.start_offset, min(complete, MOST_COMPLETE), tuple(batches))

    def persisted(self, transition: Transition) -> None:
        for one in transition.stretches:
            assert one.target is not None, "a stretch has its target until that is persisted, or fails"
            one.become(one.target, one.target_count)
            self._may_be_free |= one.is_free
        self._tidy_after(transition)

    def failed(self, transition: Transition) -> None:
        """Nothing of it has happened, except that time went by."""
        for one in transition.stretches:
            one.target = None
            if one.lock_lost:
                self._free(one)
        self._tidy_after(transition)

    # ── time, and the log ──────────────────────────────────────────────────────────────────────────────

    def expire(self, now_ms: int) -> list[StateBatch]:
        """Take back what is locked no longer; what to persist of that."""
        if now_ms < self._wake_at_ms:
            return []
        batches: list[StateBatch] = []
        self._wake_at_ms = NO_LOCK_MS
        for one in self._stretches:
            if one.locked_until_ms > now_ms:
                self._wake_at_ms = min(self._wake_at_ms, one.locked_until_ms)
            elif one.target is not None:
                one.lock_lost, one.locked_until_ms = True, NO_LOCK_MS
            else:
                self._free(one)
                batches.append(StateBatch(one.first, one.last, one.state, one.delivery_count))
        self._tidy(self.start_offset, self.end_offset)
        return batches

    def _free(self, stretch: Stretch) -> None:
        spent = self._is_spent(stretch)
        stretch.become(RecordState.ARCHIVED if spent else RecordState.AVAILABLE, stretch.delivery_count)
        self._may_be_free |= not spent

    def log_begins_at(self, offset: int) -> None:
        """Records below are deleted, whoever has them."""
        if offset <= self.start_offset:
            return
        del self._stretches[: bisect_left(self._stretches, offset, key=_last)]
        if self._stretches:
            self._stretches[0].first = max(offset, self._stretches[0].first)
        self.start_offset = offset
        self._advance()

    # ── stretches ──────────────────────────────────────────────────────────────────────────────────────

    def _append(self, first: int, last: int, state: RecordState, delivery_count: int) -> Stretch:
        stretch = Stretch(first, last, state, delivery_count)
        self._stretches.append(stretch)
        return stretch

    def _index(self, offset: int) -> int:
        return bisect_right(self._stretches, offset, key=_first) - 1

    def _between(self, first: int, last: int) -> Iterator[Stretch]:
        index = self._index(first)
        while index < len(self._stretches) and self._stretches[index].first <= last:
            yield self._stretches[index]
            index += 1

    def _cut(self, first: int, last: int) -> Stretch:
        """The part of one stretch, as a stretch of its own; it has no target."""
        index = self._index(first)
        whole = self._stretches[index]
        assert whole.target is None and whole.first <= first <= last <= whole.last
        parts = [(whole.first, first - 1), (first, last), (last + 1, whole.last)]
        cut = [msgspec.structs.replace(whole, first=begin, last=end) for begin, end in parts if begin <= end]
        self._stretches[index : index + 1] = cut
        return cut[1 if whole.first < first else 0]

    def _tidy(self, first: int, last: int) -> None:
        """Let grow together what is alike, between these offsets and beside them."""
        begin, end = max(self._index(first) - 1, 0), self._index(last) + 2
        kept: list[Stretch] = []
        for one in self._stretches[begin:end]:
            if kept and kept[-1].goes_with(one):
                kept[-1].last = one.last
            else:
                kept.append(one)
        self._stretches[begin:end] = kept
        self._advance()

    def _tidy_after(self, transition: Transition) -> None:
        if transition.stretches:
            first = min(one.first for one in transition.stretches)
            self._tidy(first, max(one.last for one in transition.stretches))

    def _advance(self) -> None:
        """Forget what is over at the beginning."""
        done = 0
        for one in self._stretches:
            if not one.state.is_final:
                break
            self.start_offset = one.last + 1
            done += 1
        del self._stretches[:done]


def _first(stretch: Stretch) -> int:
    return stretch.first


def _last(stretch: Stretch) -> int:
    return stretch.last


def _last_of_batch(fetched: Sequence[Fetched], offset: int) -> int:
    """The end of the batch that holds this offset; the offset itself where none does."""
    index = bisect_left(fetched, offset, key=lambda batch: batch.last)
    return fetched[index].last if index < len(fetched) and fetched[index].first <= offset else offset


def _report(acquired: list[Acquired], new: Acquired, batch_size: int) -> None:
    """Tell of `new`, together with what was told before if that is not large enough for itself."""
    if acquired:
        before = acquired[-1]
        joins = before.last + 1 == new.first and before.delivery_count == new.delivery_count
        if joins and before.last - before.first + 1 < batch_size:
            acquired[-1] = before._replace(last=new.last)
            return
    acquired.append(new)


def _same_kind(wanted: Acknowledgement) -> Iterator[tuple[int, int, AcknowledgeType]]:
    """(first, last, type) of as few parts as it has."""
    if len(wanted.types) == 1:
        yield wanted.first, wanted.last, AcknowledgeType(wanted.types[0])
        return
    first = wanted.first
    for kind, same in groupby(wanted.types):
        last = first + sum(1 for _ in same) - 1
        yield first, last, AcknowledgeType(kind)
        first = last + 1


def _transition(stretches: Sequence[Stretch]) -> Transition:
    batches = []
    for one in stretches:
        assert one.target is not None, "only what has a target is on its way"
        batches.append(StateBatch(one.first, one.last, one.target, one.target_count))
    return Transition(tuple(stretches), tuple(batches))
