"""Appending, reading, rolling, deleting: one log on a real disk."""

from __future__ import annotations

import asyncio

import pytest

from streamkit.broker.storage.errors import OffsetOutOfRangeError
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.storage.conftest import Bench
from tests.broker.storage.support import NOW_MS, batch, sequenced, values

ONE_GIB = 1 << 30


def read_all(log: PartitionLog, offset: int = 0, **limits: int) -> list[tuple[int, bytes | None]]:
    end = limits.pop("end_offset", log.log_end_offset)
    found = []
    while offset < end:
        data = log.read(offset, max_bytes=limits.get("max_bytes", ONE_GIB), end_offset=end)
        assert data is not None
        part = values(data)
        if not part:
            break
        found += part
        offset = part[-1][0] + 1
    return found


async def test_a_drain_is_appended_flushed_and_read_back(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    moved: list[int] = []
    log.on_flushed = lambda: moved.append(log.flushed_offset)
    results = log.append([batch(b"a", b"b"), batch(b"c")], leader_epoch=3)
    assert [(r.error, r.base_offset, r.last_offset) for r in results] == [(0, 0, 1), (0, 2, 2)]
    assert (log.log_end_offset, log.flushed_offset) == (3, 0)
    await directory.flusher.settle()
    assert moved == [3]
    assert read_all(log) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert log.epochs.latest == 3


async def test_a_read_begins_at_the_containing_batch_and_ends_before_the_end_offset(bench: Bench) -> None:
    log = await bench.log(await bench.directory())
    log.append([batch(b"a", b"b"), batch(b"c"), batch(b"d")], leader_epoch=0)
    assert values(log.read(1, max_bytes=ONE_GIB, end_offset=3) or b"") == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert values(log.read(3, max_bytes=ONE_GIB, end_offset=3) or b"") == []
    assert values(log.read(4, max_bytes=ONE_GIB, end_offset=4) or b"") == []
    with pytest.raises(OffsetOutOfRangeError):
        log.read(5, max_bytes=ONE_GIB, end_offset=5)


async def test_max_bytes_ends_at_a_whole_batch_and_the_first_may_exceed_it(bench: Bench) -> None:
    log = await bench.log(await bench.directory())
    one = batch(b"x" * 100)
    log.append([batch(b"x" * 100) for _ in range(300)], leader_epoch=0)
    for fits in (1, 2, 150, 299):
        data = log.read(0, max_bytes=len(one) * fits + len(one) // 2, end_offset=300)
        assert len(data or b"") == len(one) * fits
        assert values(data or b"")[-1][0] == fits - 1
    assert len(log.read(7, max_bytes=1, end_offset=300) or b"") == len(one)
    assert log.read(7, max_bytes=1, end_offset=300, at_least_one=False) == b""
    assert len(read_all(log, 13, max_bytes=1000)) == 287
    assert len(read_all(log, 13, end_offset=20)) == 7


async def test_segments_roll_by_size_and_reads_cross_them(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, segment_bytes=2000, index_interval_bytes=200)
    for start in range(0, 100, 5):
        log.append([batch(b"%03d" % i, b"x" * 60) for i in range(start, start + 5)], leader_epoch=0)
    assert len(log.segments) > 5
    assert [offset for offset, _ in read_all(log)] == list(range(200))
    assert read_all(log, 77)[0][0] == 76
    for offset in range(200):
        data = await log.read_cold(offset, max_bytes=1, end_offset=200)
        assert offset in [o for o, _ in values(data)]
    names = sorted(path.name for path in (bench.path / "t-0").iterdir())
    assert f"{log.segments[1].base_offset:020d}.log" in names
    assert f"{log.segments[0].base_offset:020d}.index" in names


async def test_a_clean_restart_reads_no_log_and_loses_nothing(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, segment_bytes=3000, index_interval_bytes=100)
    log.append([sequenced(i) for i in range(60)], leader_epoch=2)
    before = read_all(log)
    directory, log = await bench.restart(directory, segment_bytes=3000, index_interval_bytes=100)
    assert directory.was_clean
    assert (log.log_end_offset, log.flushed_offset, log.epochs.latest) == (60, 60, 2)
    assert read_all(log) == before
    duplicate, following = log.append([sequenced(57), sequenced(60)], leader_epoch=2)
    assert (duplicate.duplicate, duplicate.base_offset, following.base_offset) == (True, 57, 60)


async def test_duplicates_gaps_and_stale_epochs(bench: Bench) -> None:
    log = await bench.log(await bench.directory())
    results = log.append(
        [
            sequenced(0, count=2), sequenced(2), sequenced(0, count=2), sequenced(9),
            sequenced(0, epoch=1), sequenced(3), sequenced(1, epoch=2),
        ],
        leader_epoch=0,
    )  # fmt: skip
    assert [(r.error, r.base_offset, r.duplicate) for r in results] == [
        (ErrorCode.NONE, 0, False),
        (ErrorCode.NONE, 2, False),
        (ErrorCode.NONE, 0, True),
        (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1, False),
        (ErrorCode.NONE, 3, False),
        (ErrorCode.INVALID_PRODUCER_EPOCH, -1, False),
        (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1, False),
    ]


async def test_offsets_by_timestamp(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, segment_bytes=1500, index_interval_bytes=100)
    for i in range(50):
        log.append([batch(b"a", b"b", timestamp=NOW_MS + 10 * i)], leader_epoch=4)
    for i in (0, 7, 31, 49):
        found = await log.find_by_timestamp(NOW_MS + 10 * i - 5)
        assert found is not None
        assert (found.offset, found.timestamp, found.leader_epoch) == (2 * i, NOW_MS + 10 * i, 4)
    assert await log.find_by_timestamp(NOW_MS + 1000) is None
    newest = await log.max_timestamp()
    assert newest is not None
    assert (newest.offset, newest.timestamp) == (98, NOW_MS + 490)
    directory, log = await bench.restart(directory, segment_bytes=1500, index_interval_bytes=100)
    assert await log.max_timestamp() == newest
    found = await log.find_by_timestamp(NOW_MS + 305)
    assert found is not None
    assert found.offset == 62


async def test_retention_by_time_deletes_old_segments_and_keeps_what_is_read(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, segment_bytes=1000, retention_ms=1000)
    log.append([batch(b"x" * 200, timestamp=NOW_MS + i) for i in range(20)], leader_epoch=0)
    first = log.read(0, max_bytes=ONE_GIB, end_offset=20)
    bench.clock.now = NOW_MS + 1010
    assert await log.apply_retention() == 0, "nothing above the high watermark goes"
    log.high_watermark = 20
    assert await log.apply_retention() > 0
    assert log.log_start_offset == log.segments[0].base_offset > 0
    assert values(first or b"")[0] == (0, b"x" * 200)
    bench.clock.now = NOW_MS + 5000
    await log.apply_retention()
    await directory.flusher.settle()
    await log.apply_retention()
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (20, 20, 0)
    directory, log = await bench.restart(directory)
    assert (log.log_start_offset, log.log_end_offset) == (20, 20)


async def test_retention_by_size_and_a_compacted_topic_is_never_trimmed(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, segment_bytes=1000, retention_bytes=3000, retention_ms=-1)
    log.append([batch(b"x" * 200) for _ in range(40)], leader_epoch=0)
    log.high_watermark = 40
    await log.apply_retention()
    assert 3000 <= log.size_bytes < 4000
    kept = await bench.log(directory, "c", segment_bytes=1000, retention_bytes=0, cleanup_policy=("compact",))
    kept.append([batch(b"x" * 200) for _ in range(40)], leader_epoch=0)
    kept.high_watermark = 40
    assert await kept.apply_retention() == 0


async def test_deleted_records_are_out_of_range_and_whole_segments_go(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, segment_bytes=1000)
    log.append([batch(b"x" * 200) for _ in range(20)], leader_epoch=0)
    log.high_watermark = 15
    with pytest.raises(OffsetOutOfRangeError):
        log.delete_records(16)
    count = len(log.segments)
    assert log.delete_records(10) == 10
    assert len(log.segments) < count
    assert log.segments[0].base_offset <= 10
    with pytest.raises(OffsetOutOfRangeError):
        log.read(9, max_bytes=1, end_offset=20)
    assert read_all(log, 10)[-1][0] == 19
    directory, log = await bench.restart(directory)
    assert log.log_start_offset == 10


async def test_a_flush_that_was_cancelled_before_it_began_does_not_hold_up_the_end(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    log.append([batch(b"a")], leader_epoch=0)
    await bench.spawn.close()
    async with asyncio.timeout(5):
        await directory.close()
    bench.opened.remove(directory)
    assert log.flushed_offset == 1
