"""The formats on disk: indexes, epochs, checkpoints, snapshots, the manifest; and that damage is noticed."""

from __future__ import annotations

from itertools import pairwise
from struct import iter_unpack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.log.append import AcceptedBatch
from streamkit.broker.log.checkpoint import (
    DamagedCheckpointError,
    decode_epochs,
    decode_offsets,
    encode_epochs,
    encode_offsets,
)
from streamkit.broker.log.epochs import EpochEntry, LeaderEpochs
from streamkit.broker.log.index import OffsetIndex, TimeIndex
from streamkit.broker.log.manifest import CleanLog, decode_manifest, encode_manifest
from streamkit.broker.log.producers import (
    DamagedSnapshotError,
    ProducerEntry,
    RememberedBatch,
    decode_snapshot,
    encode_snapshot,
)
from streamkit.broker.log.retention import SegmentAge, expired_segments
from streamkit.broker.log.segment import Segment
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.records.crc import crc32c

longs = st.integers(-1, 2**63 - 1)
tables = st.dictionaries(
    st.integers(0, 2**63 - 1),
    st.builds(
        lambda epoch, batches, coordinator_epoch, start: ProducerEntry(
            epoch, tuple(batches), batches[-1].timestamp, coordinator_epoch, start
        ),
        st.integers(0, 2**15 - 1),
        st.lists(
            st.builds(RememberedBatch, st.integers(0, 2**31 - 1), longs, st.integers(0, 2**31 - 1), longs),
            min_size=1,
            max_size=5,
        ),
        st.integers(-1, 2**31 - 1),
        longs,
    ),
    max_size=6,
)


def test_index_files_are_kafkas() -> None:
    segment = Segment(1000, 0)
    for i in range(10):
        segment.note(100, 1001 + 2 * i, 50 + i, 150)
    segment.seal()
    assert segment.indexes is not None
    offsets, times = segment.indexes
    assert list(iter_unpack(">II", offsets.unsaved()[1])) == [(5, 200), (9, 400), (13, 600), (17, 800)]
    assert list(iter_unpack(">qI", times.unsaved()[1])) == [(52, 5), (54, 9), (56, 13), (58, 17), (59, 19)]
    assert offsets.unsaved() == (32, b"")


@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)), unique=True))
def test_indexes_come_back_or_are_refused(entries: list[tuple[int, int]]) -> None:
    index = OffsetIndex()
    for offset, position in entries:
        index.append(offset, position)
    sound = all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
    parsed = OffsetIndex.parse(index.unsaved()[1], 2**31 + 1)
    assert (parsed is not None) == sound
    if parsed is not None:
        assert parsed.offsets == index.offsets


@given(st.binary(max_size=60))
def test_no_bytes_break_the_readers_of_derived_files(data: bytes) -> None:
    OffsetIndex.parse(data, 1000)
    TimeIndex.parse(data)
    with pytest.raises(DamagedSnapshotError):
        decode_snapshot(data)
    with pytest.raises(DamagedCheckpointError):
        decode_offsets(data)


@given(tables)
def test_snapshots_keep_all_five_batches(table: dict[int, ProducerEntry]) -> None:
    assert decode_snapshot(encode_snapshot(table)) == table


def test_a_snapshot_begins_like_kafkas_version_1() -> None:
    data = encode_snapshot(
        {9: ProducerEntry(2, (RememberedBatch(1, 10, 1, 5), RememberedBatch(4, 13, 2, 6)), 6)}
    )
    version, checksum, count = unpack_from(">hIi", data)
    assert (version, checksum, count) == (1, crc32c(data[6:]), 1)
    assert unpack_from(">qhiqiqiq", data, 10) == (9, 2, 4, 13, 2, 6, -1, -1)
    kafkas = bytearray(data[: 10 + 46])
    kafkas[2:6] = crc32c(kafkas[6:]).to_bytes(4)
    assert decode_snapshot(bytes(kafkas)) == {9: ProducerEntry(2, (RememberedBatch(4, 13, 2, 6),), 6)}


@given(tables, st.data())
def test_any_flipped_bit_of_a_snapshot_is_noticed(
    table: dict[int, ProducerEntry], data: st.DataObject
) -> None:
    whole = bytearray(encode_snapshot(table))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedSnapshotError):
        decode_snapshot(bytes(whole))


def test_checkpoints_are_kafkas_text_and_a_checksum() -> None:
    offsets = {("orders", 0): 1500, ("a.b-c_d", 7): 2**40}
    data = encode_offsets(offsets)
    assert data.decode().splitlines()[:4] == ["0", "2", "orders 0 1500", f"a.b-c_d 7 {2**40}"]
    assert decode_offsets(data) == offsets
    epochs = [EpochEntry(0, 0), EpochEntry(4, 17)]
    assert decode_epochs(encode_epochs(epochs)) == epochs


@given(st.integers(0, 200), st.integers(0, 7))
def test_any_flipped_bit_of_a_checkpoint_is_noticed(at: int, bit: int) -> None:
    data = bytearray(encode_offsets({("orders", i): 100 + i for i in range(9)}))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(DamagedCheckpointError):
        decode_offsets(bytes(data))


def test_the_manifest_comes_back() -> None:
    log = CleanLog(
        topic="a-b", partition=3, topic_id=bytes(range(16)), log_start_offset=1, log_end_offset=9,
        active_base=4, active_size=777, first_timestamp=-1, max_timestamp=5,
        max_timestamp_offset=8, producers=2,
        epochs=(EpochEntry(0, 0), EpochEntry(3, 5)),
    )  # fmt: skip
    assert decode_manifest(encode_manifest([log])) == {("a-b", 3): log}


def test_leader_epochs_answer_where_each_ended() -> None:
    epochs = LeaderEpochs([EpochEntry(1, 0), EpochEntry(3, 10), EpochEntry(4, 25)])
    assert epochs.end_offset_for(4, 40) == (4, 40)
    assert epochs.end_offset_for(3, 40) == (3, 25)
    assert epochs.end_offset_for(2, 40) == (1, 10)
    assert epochs.end_offset_for(0, 40) == (0, 0)
    assert epochs.end_offset_for(5, 40) == (-1, -1)
    assert [epochs.epoch_at(offset) for offset in (0, 9, 10, 99)] == [1, 1, 3, 4]


def test_leader_epochs_only_grow_until_truncated() -> None:
    epochs = LeaderEpochs()
    assert epochs.assign(2, 0)
    assert not epochs.assign(2, 5)
    assert epochs.assign(3, 7)
    assert epochs.truncate_start(3)
    assert epochs.entries == (EpochEntry(2, 3), EpochEntry(3, 7))
    assert epochs.truncate_end(7)
    assert (epochs.latest, epochs.truncate_start(3)) == (2, False)


ages = [SegmentAge(100, 1000 * i, 10 * i + 10) for i in range(5)]


@pytest.mark.parametrize(
    ("config", "now_ms", "log_start", "high_watermark", "count"),
    [
        ({"retention_ms": 1500}, 4000, 0, 50, 3),
        ({"retention_ms": 1500}, 4000, 0, 25, 2),
        ({"retention_ms": 1500}, 99000, 0, 50, 5),
        ({"retention_ms": -1}, 99000, 0, 50, 0),
        ({"retention_ms": -1, "retention_bytes": 250}, 0, 0, 50, 2),
        ({"retention_ms": -1, "retention_bytes": 0}, 0, 0, 50, 4),
        ({"retention_ms": -1}, 0, 25, 50, 2),
        ({"retention_ms": 1, "cleanup_policy": ("compact",)}, 99000, 0, 50, 0),
    ],
)
def test_retention(
    config: dict[str, object], now_ms: int, log_start: int, high_watermark: int, count: int
) -> None:
    assert count == expired_segments(
        ages, now_ms=now_ms, log_start_offset=log_start, high_watermark=high_watermark,
        config=TopicConfig(**config),  # type: ignore[arg-type]
    )  # fmt: skip


def test_segments_roll_by_size_offsets_age_and_full_index() -> None:
    config = TopicConfig(segment_bytes=1000, segment_ms=100, segment_index_bytes=24, index_interval_bytes=0)
    segment = Segment(0, 0)
    assert not segment.must_roll(AcceptedBatch(b"", 2000, 0, 0, 50), config, 0)
    segment.note(400, 0, 50, 4096)
    assert not segment.must_roll(AcceptedBatch(b"", 600, 1, 1, 150), config, 0)
    assert segment.must_roll(AcceptedBatch(b"", 601, 1, 1, 50), config, 0)
    assert segment.must_roll(AcceptedBatch(b"", 1, 1, 1, 151), config, 0)
    assert segment.must_roll(AcceptedBatch(b"", 1, 1, 1, -1), config, 101)
    assert segment.must_roll(AcceptedBatch(b"", 1, 1, 2**31, 50), config, 0)
    segment.note(1, 1, 51, 0)
    assert segment.must_roll(AcceptedBatch(b"", 1, 2, 2, 50), config, 0)
