"""What an append plan takes, what it refuses and with which code, and what it writes into a batch."""

from __future__ import annotations

import msgspec
import pytest

from streamkit.broker.log.append import AppendPlan, AppendResult, Origin, plan_append
from streamkit.broker.log.producers import ProducerEntry
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import HEADER_SIZE, BatchHeader, build_batch, check_batch, parse_header
from streamkit.protocol.records.compression import Codec
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from tests.broker.storage.support import NOW_MS, batch, sequenced


def plan(
    *batches: bytes | bytearray | memoryview, origin: Origin = Origin.CLIENT, **config: object
) -> AppendPlan:
    return plan_append(
        batches, next_offset=100, leader_epoch=7, now_ms=NOW_MS, config=TopicConfig(**config),  # type: ignore[arg-type]
        producers={}, origin=origin,
    )  # fmt: skip


def only(outcome: AppendPlan) -> AppendResult:
    (result,) = outcome.results
    assert bool(outcome.accepted) == (result.error is ErrorCode.NONE)
    return result


def with_header(**fields: int) -> bytearray:
    """A batch of two records whose header claims something else, under a right checksum."""
    whole = batch(b"a", b"b")
    header: BatchHeader = msgspec.structs.replace(parse_header(whole), **fields)
    return build_batch(header, memoryview(whole)[HEADER_SIZE:])


def test_offsets_and_the_leader_epoch_are_assigned_in_place() -> None:
    first, second = memoryview(batch(b"a", b"b")), batch(b"c")
    outcome = plan(first, second)
    assert [(r.base_offset, r.last_offset, r.log_append_time_ms) for r in outcome.results] == [
        (100, 101, -1),
        (102, 102, -1),
    ]
    assert outcome.accepted[0].data is first
    header = check_batch(second)
    assert (header.base_offset, header.leader_epoch) == (102, 7)


def test_bytes_that_cannot_be_patched_are_copied() -> None:
    whole = bytes(batch(b"a"))
    outcome = plan(whole, memoryview(whole))
    assert [parse_header(a.data).base_offset for a in outcome.accepted] == [100, 101]
    assert parse_header(whole).base_offset == 0


@pytest.mark.parametrize(
    "damaged",
    [
        batch(b"a")[:-1],
        batch(b"a")[:40],
        bytearray(),
        batch(b"a")[:16] + b"\1" + batch(b"a")[17:],
        batch(b"a")[:-1] + b"\xff",
    ],
)
def test_trap_14_length_version_and_checksum(damaged: bytearray) -> None:
    assert only(plan(damaged)).error is ErrorCode.CORRUPT_MESSAGE


@pytest.mark.parametrize(
    "wrong",
    [
        with_header(count=3),
        with_header(count=0, last_offset_delta=-1),
        with_header(last_offset_delta=4),
        with_header(attributes=0x20),
        with_header(attributes=0x05),
        with_header(producer_id=9, producer_epoch=0, base_sequence=-1),
        with_header(base_offset=12),
        batch(b"a") + batch(b"b"),
    ],
)
def test_trap_15_what_a_client_may_not_send(wrong: bytearray) -> None:
    assert only(plan(wrong)).error is ErrorCode.INVALID_RECORD


def test_a_coordinator_writes_control_batches() -> None:
    assert only(plan(with_header(attributes=0x20), origin=Origin.COORDINATOR)).base_offset == 100


def test_trap_16_sizes() -> None:
    large = bytes(batch(b"x" * 2000))
    assert only(plan(large, max_message_bytes=len(large))).error is ErrorCode.NONE
    assert only(plan(large, max_message_bytes=len(large) - 1)).error is ErrorCode.MESSAGE_TOO_LARGE
    assert only(plan(large, segment_bytes=1024)).error is ErrorCode.RECORD_LIST_TOO_LARGE


def test_trap_17_log_append_time() -> None:
    whole = batch(b"a", timestamp=5)
    outcome = plan(whole, message_timestamp_type="LogAppendTime", message_timestamp_before_max_ms=1)
    assert only(outcome).log_append_time_ms == NOW_MS
    header = check_batch(whole)
    assert (header.is_log_append_time, header.max_timestamp) == (True, NOW_MS)
    assert outcome.accepted[0].max_timestamp == NOW_MS


@pytest.mark.parametrize(
    ("timestamp", "error"),
    [
        (NOW_MS + 1000, ErrorCode.NONE),
        (NOW_MS + 1001, ErrorCode.INVALID_TIMESTAMP),
        (NOW_MS - 2000, ErrorCode.NONE),
        (NOW_MS - 2001, ErrorCode.INVALID_TIMESTAMP),
        (-1, ErrorCode.NONE),
    ],
)
def test_timestamps_within_bounds(timestamp: int, error: ErrorCode) -> None:
    limits = {"message_timestamp_after_max_ms": 1000, "message_timestamp_before_max_ms": 2000}
    assert only(plan(batch(b"a", timestamp=timestamp), **limits)).error is error


def test_a_producer_does_not_claim_log_append_time() -> None:
    assert only(plan(with_header(attributes=0x08))).error is ErrorCode.INVALID_TIMESTAMP


@pytest.mark.parametrize("kind", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("sent", list(Codec))
def test_batches_are_stored_in_the_topics_codec(kind: str, sent: Codec) -> None:
    records = [Record(timestamp=NOW_MS + i, key=b"k", value=b"value %d" % i) for i in range(50)]
    outcome = plan(encode_batch(records, codec=sent), compression_type=kind)
    (accepted,) = outcome.accepted
    header = check_batch(accepted.data)
    assert header.codec == (Codec.NONE if kind == "uncompressed" else Codec[kind.upper()])
    assert header.size == accepted.size
    assert [r.value for r in decode_records(accepted.data)] == [r.value for r in records]


def test_records_that_do_not_decompress_are_corrupt_where_they_must_be_opened() -> None:
    wrong = with_header(attributes=Codec.ZSTD)
    assert only(plan(wrong, compression_type="gzip")).error is ErrorCode.CORRUPT_MESSAGE
    assert only(plan(with_header(attributes=Codec.ZSTD))).error is ErrorCode.NONE


def test_traps_20_and_21_five_batches_are_remembered_and_sequences_wrap() -> None:
    top = 2**31 - 3
    outcome = plan(*[sequenced((top + i) % 2**31) for i in range(7)])
    assert [r.base_offset for r in outcome.results] == list(range(100, 107))
    entry = outcome.accepted[-1].producer
    assert entry is not None
    assert [b.last_sequence for b in entry.batches] == [2**31 - 1, 0, 1, 2, 3]
    again = plan_append(
        [sequenced(2**31 - 1), sequenced(2**31 - 2), sequenced(4)],
        next_offset=107, leader_epoch=7, now_ms=NOW_MS, config=TopicConfig(), producers={5: entry},
    )  # fmt: skip
    assert [(r.error, r.base_offset, r.duplicate) for r in again.results] == [
        (ErrorCode.NONE, 102, True),
        (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1, False),
        (ErrorCode.NONE, 107, False),
    ]


@pytest.mark.parametrize(
    ("sequence", "epoch", "error"),
    [
        (6, 3, ErrorCode.NONE),
        (0, 4, ErrorCode.NONE),
        (1, 4, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (6, 2, ErrorCode.INVALID_PRODUCER_EPOCH),
        (8, 3, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
    ],
)
def test_trap_21_epochs(sequence: int, epoch: int, error: ErrorCode) -> None:
    remembered = plan(sequenced(5, epoch=3)).accepted[0].producer
    assert isinstance(remembered, ProducerEntry)
    outcome = plan_append(
        [sequenced(sequence, epoch=epoch)],
        next_offset=101, leader_epoch=7, now_ms=NOW_MS, config=TopicConfig(), producers={5: remembered},
    )  # fmt: skip
    assert only(outcome).error is error
