"""The delivery states of a share-partition's records, as stretches of offsets that have one state together.

What is persisted of a share-partition is a start offset and such stretches above it. Updates overlap what is
known; of two that speak of one offset, the later delivery wins, and of one delivery the state that is nearer
to its end. So an update that arrives late, after another that was made later, takes nothing back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

NO_OFFSET: Final = -1
NO_EPOCH: Final = -1
UNKNOWN_COUNT: Final = -1


class RecordState(IntEnum):
    """Kafka's numbers. ACQUIRED is never persisted: it ends with the broker that leads the partition."""

    AVAILABLE = 0
    ACQUIRED = 1
    ACKNOWLEDGED = 2
    ARCHIVED = 4

    @property
    def is_final(self) -> bool:
        """The record is never delivered again."""
        return self >= RecordState.ACKNOWLEDGED


class StateBatch(NamedTuple):
    """Offsets from `first` to `last`, both included, in one state."""

    first: int
    last: int
    state: int
    delivery_count: int


class SharePartitionKey(NamedTuple):
    """A partition as one group shares it."""

    group_id: str
    topic_id: bytes
    partition: int


def combined(
    known: Sequence[StateBatch], news: Iterable[StateBatch], start_offset: int
) -> tuple[StateBatch, ...]:
    """What is known after an update: ascending, disjoint, nothing below `start_offset`.

    News of no offset at all (`last` before `first`) is none.
    """
    result = list(known)
    for new in (one for one in news if one.first <= one.last):
        low = bisect_left(result, new.first, key=_last)
        high = bisect_right(result, new.last, key=_first)
        result[low:high] = _overlaid(result[low:high], new)
    return tuple(_merged(_from(result, start_offset)))


def _first(batch: StateBatch) -> int:
    return batch.first


def _last(batch: StateBatch) -> int:
    return batch.last


def _rank(batch: StateBatch) -> tuple[int, int]:
    return batch.delivery_count, batch.state


def _overlaid(known: Sequence[StateBatch], new: StateBatch) -> Iterator[StateBatch]:
    """`new` over stretches that each share an offset with it."""
    position = new.first
    for one in known:
        if one.first < new.first:
            yield one._replace(last=new.first - 1)
        if position < one.first:
            yield new._replace(first=position, last=one.first - 1)
        end = min(one.last, new.last)
        yield max(one, new, key=_rank)._replace(first=max(one.first, new.first), last=end)
        position = end + 1
        if one.last > new.last:
            yield one._replace(first=new.last + 1)
    if position <= new.last:
        yield new._replace(first=position)


def _from(batches: Iterable[StateBatch], start_offset: int) -> Iterator[StateBatch]:
    for one in batches:
        if one.last >= start_offset:
            yield one if one.first >= start_offset else one._replace(first=start_offset)


def _merged(batches: Iterable[StateBatch]) -> Iterator[StateBatch]:
    before: StateBatch | None = None
    for one in batches:
        if before is not None and before.last + 1 == one.first and before[2:] == one[2:]:
            before = before._replace(last=one.last)
            continue
        if before is not None:
            yield before
        before = one
    if before is not None:
        yield before
