"""Planning an append: which batches of a drain are written, at which offsets, and what the rest is told.

A pure function over what the log knows now. Each batch is judged by its header alone, after those before it
in the same plan; nothing opens records, except for a topic whose `compression.type` is not the producer's.
The checks are Kafka's, in Kafka's order (UnifiedLog, LogValidator, ProducerAppendInfo):

    length, version, checksum                                            → CORRUPT_MESSAGE
    more than one batch, a base offset, count ≠ offsets, a producer id
      without a sequence, a control batch that is no marker              → INVALID_RECORD
    larger than max.message.bytes                                        → MESSAGE_TOO_LARGE
    larger than a segment                                                → RECORD_LIST_TOO_LARGE
    timestamps outside [now - before.max, now + after.max]               → INVALID_TIMESTAMP
    idempotence, the epochs of markers                                   → see `producers`
    a batch outside the producer's open transaction, or one that would
      open a transaction without having been verified                    → INVALID_TXN_STATE

Accepted batches are patched in place. Applying the plan (the write, then the producers) is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from types import MappingProxyType

import msgspec

from streamkit.broker.log.producers import (
    NO_TRANSACTION,
    ProducerEntry,
    Table,
    find_duplicate,
    judge,
    judge_marker,
    marker_in,
    remember,
    remember_marker,
)
from streamkit.broker.log.transactions import Verification, Verifications
from streamkit.broker.topic_config import TopicConfig
from streamkit.errors import StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import (
    CODEC_MASK,
    CONTROL_BIT,
    HEADER_SIZE,
    LENGTH_END,
    LOG_APPEND_TIME_BIT,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    BatchHeader,
    Buffer,
    CorruptBatchError,
    check_batch,
    patch,
    replace_records,
    stamp_log_append_time,
)
from streamkit.protocol.records.compression import Codec, compress, decompression_limit
from streamkit.protocol.records.control import TransactionMarker
from streamkit.protocol.records.record import uncompressed_records

SUCCESS = ErrorCode.NONE
"""Looked up once: a member of an enum costs ten times as much as a global."""
LEAST_UNPACKED_BYTES = 4 << 20
NOTHING_VERIFIED: Verifications = MappingProxyType({})
LAST_CODEC = int(Codec.ZSTD)
EXPANSION = 8
"""How many times `max.message.bytes` a batch may hold that is to be compressed again, on the event loop."""


class Origin(Enum):
    """Who writes to a partition: clients, or our own coordinators, whose batches are as they made them."""

    CLIENT = "client"
    COORDINATOR = "coordinator"


class AppendResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one batch. Without an error its records are at [base_offset, last_offset].

    A duplicate tells the original's offsets; like an append it is durable once `last_offset` is.
    `log_append_time_ms` is -1 unless the topic stamps records itself; of a duplicate, when the original came.
    """

    error: ErrorCode = ErrorCode.NONE
    base_offset: int = -1
    last_offset: int = -1
    log_append_time_ms: int = NO_TIMESTAMP
    duplicate: bool = False
    message: str = ""


class AcceptedBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch to write, patched, and what segments and indexes want to know of it."""

    data: Buffer
    size: int
    base_offset: int
    last_offset: int
    max_timestamp: int
    producer_id: int = NO_PRODUCER_ID
    producer: ProducerEntry | None = None
    """What to remember of its producer once it is written."""
    is_transactional: bool = False
    marker: TransactionMarker | None = None


class AppendPlan(msgspec.Struct):
    results: list[AppendResult]
    accepted: list[AcceptedBatch]
    size: int
    """Bytes of all accepted batches."""


class _RefusedError(StreamkitError):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def plan_append(
    batches: Sequence[Buffer],
    *,
    next_offset: int,
    leader_epoch: int,
    now_ms: int,
    config: TopicConfig,
    producers: Table,
    origin: Origin = Origin.CLIENT,
    verifications: Verifications = NOTHING_VERIFIED,
) -> AppendPlan:
    """One result for each of `batches`, in order."""
    results: list[AppendResult] = []
    accepted: list[AcceptedBatch] = []
    accepted_size = 0
    changed: dict[int, ProducerEntry] = {}
    ended: set[int] = set()
    from_client = origin is Origin.CLIENT
    broker_time = config.message_timestamp_type == "LogAppendTime"
    append_time = now_ms if broker_time else NO_TIMESTAMP
    codec = _TOPIC_CODECS[config.compression_type]
    for batch in batches:
        try:
            header = _checked(batch, config.max_message_bytes)
            if from_client:
                _check_client_batch(header, len(batch))
                if not broker_time:
                    _check_timestamps(header, now_ms, config)
            producer_id = header.producer_id
            entry = marker = None
            if producer_id == NO_PRODUCER_ID:
                if from_client and header.attributes & CONTROL_BIT:
                    raise _RefusedError(ErrorCode.INVALID_RECORD, "a control batch that is no marker")
            else:
                entry = changed.get(producer_id) or producers.get(producer_id)
                if header.is_control:
                    marker = _checked_marker(batch, header, entry)
                elif entry is not None:
                    original = find_duplicate(entry, header)
                    if original is not None:
                        results.append(
                            AppendResult(
                                SUCCESS,
                                original.base_offset,
                                original.last_offset,
                                original.timestamp,
                                True,
                            )
                        )
                        continue
                    _check_sequence(entry, header)
                if from_client and not header.is_control and (header.is_transactional or entry is not None):
                    granted = None if producer_id in ended else verifications.get(producer_id)
                    _check_transaction(entry, header, granted)
            if codec is None or header.codec == codec or header.is_control:
                data = _writable(batch)
            else:
                data = _recompressed(batch, header, codec, config.max_message_bytes)
            size = len(data)
            if size > config.segment_bytes:
                raise _RefusedError(
                    ErrorCode.RECORD_LIST_TOO_LARGE,
                    f"a batch of {size} bytes is larger than a segment ({config.segment_bytes})",
                )
        except _RefusedError as refused:
            results.append(AppendResult(refused.code, message=refused.message))
            continue
        patch(data, next_offset, leader_epoch)
        max_timestamp = header.max_timestamp
        if broker_time:
            stamp_log_append_time(data, now_ms)
            max_timestamp = now_ms
        last_offset = next_offset + header.last_offset_delta
        if marker is not None:
            entry = remember_marker(entry, header.producer_epoch, marker, max_timestamp)
            changed[producer_id] = entry
            ended.add(producer_id)
            accepted.append(
                AcceptedBatch(
                    data, size, next_offset, last_offset, max_timestamp, producer_id, entry, True, marker
                )
            )
        elif producer_id != NO_PRODUCER_ID:
            entry = changed[producer_id] = remember(entry, header, last_offset, max_timestamp)
            transactional = header.is_transactional
            accepted.append(
                AcceptedBatch(
                    data, size, next_offset, last_offset, max_timestamp, producer_id, entry, transactional
                )
            )
        else:
            accepted.append(AcceptedBatch(data, size, next_offset, last_offset, max_timestamp))
        results.append(AppendResult(SUCCESS, next_offset, last_offset, append_time))
        accepted_size += size
        next_offset = last_offset + 1
    return AppendPlan(results, accepted, accepted_size)


def refuse_all(count: int, code: ErrorCode, message: str) -> list[AppendResult]:
    return [AppendResult(code, message=message)] * count


def _checked(batch: Buffer, max_message_bytes: int) -> BatchHeader:
    if len(batch) > max_message_bytes:
        raise _too_large(len(batch), max_message_bytes)
    try:
        return check_batch(batch)
    except CorruptBatchError as error:
        raise _RefusedError(ErrorCode.CORRUPT_MESSAGE, error.message) from None


def _check_client_batch(header: BatchHeader, available: int) -> None:
    attributes = header.attributes
    if header.length + LENGTH_END != available:
        problem = "more than one record batch for one partition"
    elif header.base_offset != 0:
        problem = f"a batch begins at offset 0, not {header.base_offset}"
    elif header.count <= 0 or header.last_offset_delta + 1 != header.count:
        problem = f"{header.last_offset_delta + 1} offsets for {header.count} records"
    elif attributes & CODEC_MASK > LAST_CODEC:
        problem = f"there is no codec {header.codec}"
    elif attributes & CONTROL_BIT:
        return  # a marker, which the broker wrote: no client's control batch comes as far as here
    elif header.producer_id != NO_PRODUCER_ID and header.base_sequence < 0:
        problem = f"producer {header.producer_id} gives no sequence"
    else:
        return
    raise _RefusedError(ErrorCode.INVALID_RECORD, problem)


def _check_timestamps(header: BatchHeader, now_ms: int, config: TopicConfig) -> None:
    if header.attributes & LOG_APPEND_TIME_BIT:
        raise _RefusedError(
            ErrorCode.INVALID_TIMESTAMP, "a producer must not set the timestamp type to LogAppendTime"
        )
    newest, oldest = header.max_timestamp, header.base_timestamp
    latest = now_ms + config.message_timestamp_after_max_ms
    earliest = now_ms - config.message_timestamp_before_max_ms
    if newest > latest or (oldest < earliest and oldest != NO_TIMESTAMP):
        raise _RefusedError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamps from {oldest} to {newest} are not within [{earliest}, {latest}]",
        )


def _check_sequence(entry: ProducerEntry, header: BatchHeader) -> None:
    """Batches of our own coordinators have no sequence: for them only the epoch counts."""
    if header.base_sequence == NO_SEQUENCE and header.producer_epoch >= entry.epoch:
        return
    code = judge(entry, header)
    if code is not ErrorCode.NONE:
        raise _RefusedError(
            code,
            f"producer {header.producer_id} sends epoch {header.producer_epoch}, sequence "
            f"{header.base_sequence} after epoch {entry.epoch}, sequence {entry.last_sequence}",
        )


def _checked_marker(batch: Buffer, header: BatchHeader, entry: ProducerEntry | None) -> TransactionMarker:
    try:
        marker = marker_in(batch)
    except CorruptBatchError as error:
        raise _RefusedError(ErrorCode.CORRUPT_MESSAGE, error.message) from None
    if marker is None:
        raise _RefusedError(ErrorCode.INVALID_RECORD, "a control batch of a producer without a marker")
    code = ErrorCode.NONE if entry is None else judge_marker(entry, header.producer_epoch, marker)
    if code is not ErrorCode.NONE:
        raise _RefusedError(
            code, f"a marker of epoch {header.producer_epoch} for producer {header.producer_id}: {entry}"
        )
    return marker


def _check_transaction(
    entry: ProducerEntry | None, header: BatchHeader, verification: Verification | None
) -> None:
    is_open = entry is not None and entry.has_open_transaction(header.producer_epoch)
    if not header.is_transactional:
        if entry is not None and entry.transaction_start != NO_TRANSACTION:
            raise _RefusedError(
                ErrorCode.INVALID_TXN_STATE, f"producer {header.producer_id} has an open transaction here"
            )
    elif not is_open and not (
        verification is not None and verification.is_granted and verification.epoch == header.producer_epoch
    ):
        raise _RefusedError(
            ErrorCode.INVALID_TXN_STATE,
            f"the partition is not known to be in a transaction of producer {header.producer_id}",
        )
    elif not is_open and verification is not None and header.base_sequence > verification.lowest_sequence:
        raise _RefusedError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"producer {header.producer_id} begins with sequence {header.base_sequence}, after it sent "
            f"{verification.lowest_sequence}",
        )


def _recompressed(batch: Buffer, header: BatchHeader, codec: Codec, max_message_bytes: int) -> bytearray:
    try:
        limit = min(decompression_limit(len(batch)), max(LEAST_UNPACKED_BYTES, EXPANSION * max_message_bytes))
        records = uncompressed_records(header, memoryview(batch)[HEADER_SIZE:], limit)
    except StreamkitError as error:
        raise _RefusedError(ErrorCode.CORRUPT_MESSAGE, error.message) from None
    converted = replace_records(batch, compress(codec, records), codec)
    if len(converted) > max_message_bytes:
        raise _too_large(len(converted), max_message_bytes)
    return converted


def _writable(batch: Buffer) -> bytearray | memoryview:
    if isinstance(batch, bytearray) or (isinstance(batch, memoryview) and not batch.readonly):
        return batch
    return bytearray(batch)


def _too_large(size: int, limit: int) -> _RefusedError:
    return _RefusedError(
        ErrorCode.MESSAGE_TOO_LARGE, f"a batch of {size} bytes is over max.message.bytes ({limit})"
    )


_TOPIC_CODECS: dict[str, Codec | None] = {
    "producer": None,
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}
