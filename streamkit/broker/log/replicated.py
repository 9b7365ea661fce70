"""Planning an append of batches that another log has written before: a follower's, a Raft observer's.

The leader has judged them, so offsets, leader epochs and timestamps are kept as they are. What is checked is
what a follower's own correctness rests on: each batch is whole (length, checksum), its offset continues this
log, and leader epochs never decrease. One bad batch refuses all of them, and nothing is written.

A log that was compacted has gaps; elsewhere a gap is an error. An empty log may begin with a batch that
spans its start: the leader's log started in the middle of that batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from streamkit.broker.log.append import AcceptedBatch
from streamkit.broker.log.producers import ProducerEntry, follow
from streamkit.protocol.records.batch import (
    NO_PRODUCER_ID,
    BatchHeader,
    Buffer,
    CorruptBatchError,
    check_batch,
)


class EpochRun(msgspec.Struct, gc=False):
    """Consecutive batches of one leader epoch, and their bytes."""

    leader_epoch: int
    batches: list[AcceptedBatch]
    size: int = 0
    has_gap: bool = False
    """Whether a batch of it does not follow right upon the one before it."""


def plan_replicated(
    batches: Sequence[Buffer],
    *,
    next_offset: int,
    latest_epoch: int,
    producers: Mapping[int, ProducerEntry],
    gaps_allowed: bool,
    may_span_start: bool,
) -> list[EpochRun]:
    """`batches` in runs of one epoch each; raises `CorruptBatchError`."""
    runs: list[EpochRun] = []
    changed: dict[int, ProducerEntry] = {}
    for batch in batches:
        header = check_batch(batch)
        spans = may_span_start and not runs and header.base_offset < next_offset <= header.last_offset
        if header.size != len(batch):
            raise CorruptBatchError(f"{len(batch)} bytes hold a batch of {header.size}")
        if not spans:
            _check_offset(header, next_offset, gaps_allowed)
        if 0 <= header.leader_epoch < latest_epoch:
            raise CorruptBatchError(
                f"leader epoch {header.leader_epoch} at offset {header.base_offset} follows {latest_epoch}"
            )
        if not runs or header.leader_epoch != runs[-1].leader_epoch:
            runs.append(EpochRun(header.leader_epoch, []))
        runs[-1].has_gap |= header.base_offset > next_offset
        accepted = _accepted(batch, header, producers, changed)
        runs[-1].batches.append(accepted)
        runs[-1].size += accepted.size
        latest_epoch = max(latest_epoch, header.leader_epoch)
        next_offset = header.next_offset
    return runs


def _check_offset(header: BatchHeader, next_offset: int, gaps_allowed: bool) -> None:
    if header.last_offset_delta < 0:
        raise CorruptBatchError(f"the batch at offset {header.base_offset} ends before it begins")
    if header.base_offset != next_offset and not (gaps_allowed and header.base_offset > next_offset):
        raise CorruptBatchError(f"offset {header.base_offset} follows where {next_offset} was expected")


def _accepted(
    batch: Buffer,
    header: BatchHeader,
    producers: Mapping[int, ProducerEntry],
    changed: dict[int, ProducerEntry],
) -> AcceptedBatch:
    last_offset, max_timestamp, producer_id = header.last_offset, header.max_timestamp, header.producer_id
    entry = marker = None
    if producer_id != NO_PRODUCER_ID:
        known = changed.get(producer_id) or producers.get(producer_id)
        entry, marker = follow(known, header, batch, last_offset, max_timestamp)
        if entry is not None:
            changed[producer_id] = entry
    return AcceptedBatch(
        batch, header.size, header.base_offset, last_offset, max_timestamp, producer_id, entry,
        header.is_transactional, marker,
    )  # fmt: skip
