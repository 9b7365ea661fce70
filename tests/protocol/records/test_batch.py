"""Record batches: layout, checks, patching, and records inside."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from streamkit.protocol.records.batch import (
    CorruptBatchError,
    batches,
    check_batch,
    parse_header,
    patch,
    stamp_log_append_time,
)
from streamkit.protocol.records.control import (
    ControlType,
    TransactionMarker,
    decode_marker,
    encode_key,
    encode_marker_value,
)
from streamkit.protocol.records.record import Record, decode_records, encode_batch

records_strategy = st.lists(
    st.builds(
        Record,
        timestamp=st.integers(-1, 2**42),
        key=st.none() | st.binary(max_size=40),
        value=st.none() | st.binary(max_size=300),
        headers=st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=3).map(
            tuple
        ),
    ),
    min_size=1,
    max_size=20,
)


def content(records: list[Record]) -> list[tuple[object, ...]]:
    return [(r.timestamp, r.key, r.value, r.headers) for r in records]


@given(records_strategy, st.integers(0, 2**60))
def test_what_is_encoded_comes_back(records: list[Record], base_offset: int) -> None:
    batch = encode_batch(records, base_offset=base_offset, producer_id=7, producer_epoch=1, base_sequence=3)
    header = check_batch(batch)
    assert (header.base_offset, header.count, header.size) == (base_offset, len(records), len(batch))
    assert header.max_timestamp == max(r.timestamp for r in records)
    decoded = decode_records(batch)
    assert content(decoded) == content(records)
    assert [r.offset for r in decoded] == list(range(base_offset, base_offset + len(records)))


@given(records_strategy)
def test_kafka_python_reads_our_batches(records: list[Record]) -> None:
    theirs = list(DefaultRecordBatch(encode_batch(records, base_offset=5)))
    assert [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs] == [
        (5 + i, r.timestamp, r.key, r.value, r.headers) for i, r in enumerate(records)
    ]


def test_we_read_batches_of_kafka_python() -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=False, producer_id=9, producer_epoch=2, base_sequence=4,
        batch_size=9999,
    )  # fmt: skip
    for i in range(3):
        builder.append(i, timestamp=1000 + i, key=b"k", value=b"v%d" % i, headers=[("h", b"x")])
    batch = bytes(builder.build())
    header = check_batch(batch)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence) == (
        9,
        2,
        4,
        6,
    )
    assert decode_records(batch)[2] == Record(2, 1002, b"k", b"v2", (("h", b"x"),))


def test_patching_offset_and_epoch_keeps_the_checksum() -> None:
    batch = bytearray(encode_batch([Record(value=b"x"), Record(value=b"y")]))
    patch(batch, 1234, 8)
    header = check_batch(batch)
    assert (header.base_offset, header.leader_epoch, header.last_offset) == (1234, 8, 1235)


def test_log_append_time_rewrites_the_timestamp_and_the_checksum() -> None:
    batch = bytearray(encode_batch([Record(timestamp=5, value=b"x")]))
    stamp_log_append_time(batch, 777)
    header = check_batch(batch)
    assert header.is_log_append_time
    assert header.max_timestamp == 777
    assert decode_records(batch)[0].timestamp == 777


@given(st.integers(21, 100), st.integers(0, 7))
def test_any_flipped_bit_behind_the_checksum_is_found(at: int, bit: int) -> None:
    batch = bytearray(encode_batch([Record(value=b"x" * 60)]))
    batch[at] ^= 1 << bit
    with pytest.raises(CorruptBatchError, match="checksum"):
        check_batch(batch)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[:60], "too few"),
        (lambda b: b[:-1], "claims"),
        (lambda b: b[:8] + b"\xff\xff\xff\xff" + b[12:], "claims"),
        (lambda b: b[:16] + b"\x01" + b[17:], "version 1"),
    ],
)
def test_a_bad_frame_of_a_batch_is_refused(damage, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CorruptBatchError, match=words):
        check_batch(damage(encode_batch([Record(value=b"x")])))


@given(records_strategy, st.data())
def test_garbage_inside_a_batch_raises_nothing_else(records: list[Record], data: st.DataObject) -> None:
    batch = bytearray(encode_batch(records))
    for _ in range(3):
        batch[data.draw(st.integers(57, len(batch) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptBatchError):
        decode_records(batch)


def test_a_partial_last_batch_is_left_out() -> None:
    one, two = encode_batch([Record(value=b"1")]), encode_batch([Record(value=b"2")], base_offset=1)
    assert [h.base_offset for h, _ in batches(one + two)] == [0, 1]
    assert [bytes(b) for _, b in batches(one + two[:-1])] == [one]


def test_a_sequence_wraps_at_its_maximum() -> None:
    batch = encode_batch([Record()] * 3, producer_id=1, producer_epoch=0, base_sequence=2**31 - 2)
    assert parse_header(batch).last_sequence == 0


def test_transaction_markers_come_back() -> None:
    marker = TransactionMarker(committed=True, coordinator_epoch=6)
    assert encode_key(ControlType.COMMIT) == b"\0\0\0\1"
    assert decode_marker(encode_key(ControlType.COMMIT), encode_marker_value(marker)) == marker
    assert decode_marker(encode_key(ControlType.LEADER_CHANGE), b"") is None
    with pytest.raises(CorruptBatchError):
        decode_marker(b"\0\0", b"")
