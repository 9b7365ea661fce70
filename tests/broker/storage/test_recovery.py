"""Each class of damage that a crash, a disk or a person can leave, and what the next start makes of it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamkit.broker.log import recovery
from streamkit.broker.log.checkpoint import decode_offsets, encode_offsets
from streamkit.broker.log.segment import Segment
from streamkit.broker.storage.errors import (
    DirectoryLockedError,
    ForeignDirectoryError,
    LogOfflineError,
    UnreadableDirectoryError,
)
from streamkit.broker.storage.log_directory import LogDirectory, format_directory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.runtime.os.disk import OsDisk
from tests.broker.storage.conftest import TOPIC_ID, Bench
from tests.broker.storage.support import NOW_MS, SeededRng, batch, sequenced, values
from tests.broker.storage.test_partition_log import read_all

SMALL = {"segment_bytes": 2000, "index_interval_bytes": 100}


async def written(bench: Bench, count: int = 60, *, checkpointed: bool) -> LogDirectory:
    """A directory with one log of `count` flushed records of a producer, its broker crashed."""
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    for i in range(count):
        log.append([sequenced(i)], leader_epoch=i // 20)
        if i % 7 == 0:
            await directory.flusher.settle()
    await directory.flusher.settle()
    log.high_watermark = log.flushed_offset
    if checkpointed:
        await directory.checkpoint()
    bench.crash(directory)
    return directory


async def reopened(bench: Bench) -> PartitionLog:
    return await bench.log(await bench.directory(), **SMALL)


def segment_files(bench: Bench, suffix: str = ".log") -> list[Path]:
    return sorted((bench.path / "t-0").glob(f"*{suffix}"))


def flip_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("checkpointed", [False, True])
async def test_a_killed_process_loses_nothing(bench: Bench, checkpointed: bool) -> None:
    await written(bench, checkpointed=checkpointed)
    log = await reopened(bench)
    assert [offset for offset, _ in read_all(log)] == list(range(60))
    assert (log.epochs.latest, log.epochs.end_offset_for(0, 60)) == (2, (0, 20))
    duplicate, following = log.append([sequenced(56), sequenced(60)], leader_epoch=3)
    assert (duplicate.duplicate, duplicate.base_offset, following.base_offset) == (True, 56, 60)
    assert (await log.find_by_timestamp(NOW_MS)).offset == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("scan_bytes", [200, 1000, 1 << 20])
async def test_recovery_knows_what_was_known_before_the_crash(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, scan_bytes: int
) -> None:
    monkeypatch.setattr(recovery, "SCAN_BYTES", scan_bytes)
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    for i in range(15):
        mixed = [
            batch(b"plain"), sequenced(i), sequenced(i, producer_id=6),
            batch(b"one", b"two", timestamp=NOW_MS + i),
        ]  # fmt: skip
        results = log.append(mixed, leader_epoch=i // 5)
        assert {result.error for result in results} == {ErrorCode.NONE}
    log.append([batch(b"large" * 300)], leader_epoch=3)
    await directory.flusher.settle()
    bench.crash(directory)
    found = await reopened(bench)
    assert (found.log_end_offset, found.epochs.entries) == (log.log_end_offset, log.epochs.entries)
    assert found.producers == log.producers
    assert [described(segment) for segment in found.segments] == [described(s) for s in log.segments]


def described(segment: Segment) -> tuple[object, ...]:
    assert segment.indexes is not None
    offsets, times = segment.indexes
    return (
        segment.base_offset, segment.size, segment.first_timestamp, segment.max_timestamp,
        segment.max_timestamp_offset, offsets.offsets, offsets.positions, times.timestamps, times.offsets,
    )  # fmt: skip


TAILS = {
    "truncated": lambda data, size: data[: -size // 2],
    "zeroed": lambda data, size: data[:-size] + bytes(size),
    "zeroes appended": lambda data, size: data + bytes(4096),
    "garbage appended": lambda data, size: data + b"\xa5garbage" * 40,
    "bit flipped": lambda data, size: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    "header cut off": lambda data, size: data + data[:30],
}


@pytest.mark.parametrize("tail", TAILS)
async def test_a_torn_tail_above_the_durable_point_is_cut_off(bench: Bench, tail: str) -> None:
    await written(bench, checkpointed=False)
    last = segment_files(bench)[-1]
    whole = last.read_bytes()
    last.write_bytes(TAILS[tail](whole, len(sequenced(0))))
    log = await reopened(bench)
    assert not log.offline_reason
    end = 60 if "appended" in tail or "cut off" in tail else 59
    assert (log.log_end_offset, log.flushed_offset) == (end, end)
    assert [offset for offset, _ in read_all(log)] == list(range(end))
    assert last.stat().st_size == log.segments[-1].size
    assert log.append([sequenced(end)], leader_epoch=2)[0].base_offset == end


@pytest.mark.parametrize("tail", ["truncated", "zeroed", "bit flipped"])
async def test_the_same_damage_below_the_durable_point_takes_the_log_offline(bench: Bench, tail: str) -> None:
    await written(bench, checkpointed=True)
    last = segment_files(bench)[-1]
    damaged = TAILS[tail](last.read_bytes(), len(sequenced(0)))
    last.write_bytes(damaged)
    for _ in range(2):  # a restart changes nothing
        directory = await bench.directory()
        log = await bench.log(directory, **SMALL)
        assert "59" in log.offline_reason
        assert "durable" in log.offline_reason
        assert last.read_bytes() == damaged
        (refused,) = log.append([sequenced(60)], leader_epoch=2)
        assert refused.error is ErrorCode.KAFKA_STORAGE_ERROR
        with pytest.raises(LogOfflineError):
            log.read(0, max_bytes=1, end_offset=1)
        with pytest.raises(LogOfflineError):
            await log.read_cold(0, max_bytes=1, end_offset=1)
        await directory.close()
        bench.opened.remove(directory)


async def test_a_marker_that_makes_no_sense_is_cut_off_where_it_begins(bench: Bench) -> None:
    await written(bench, checkpointed=False)
    last = segment_files(bench)[-1]
    size = last.stat().st_size
    nonsense = [Record(timestamp=NOW_MS, key=b"", value=b"")]
    marker = encode_batch(
        nonsense, base_offset=60, leader_epoch=2, producer_id=5, producer_epoch=0, transactional=True,
        control=True,
    )  # fmt: skip
    last.write_bytes(last.read_bytes() + marker)
    log = await reopened(bench)
    assert not log.offline_reason
    assert (log.log_end_offset, last.stat().st_size) == (60, size)


async def test_segments_behind_a_torn_one_go_with_it(bench: Bench) -> None:
    await written(bench, checkpointed=False)
    files = segment_files(bench)
    flip_bit(files[1], 100)
    log = await reopened(bench)
    assert not log.offline_reason
    assert segment_files(bench) == files[:2]
    assert [offset for offset, _ in read_all(log)] == list(range(log.log_end_offset))


async def test_a_segment_that_is_gone_is_noticed(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    segment_files(bench)[-1].unlink()
    log = await reopened(bench)
    assert "durable" in log.offline_reason


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage", "zeroed", "shifted", "early"])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
async def test_a_damaged_index_is_made_anew(bench: Bench, suffix: str, damage: str) -> None:
    directory = await bench.directory()
    config = {"index_interval_bytes": 4096, "segment_bytes": 200_000}
    log = await bench.log(directory, **config)
    for i in range(3000):
        log.append([batch(b"%05d" % i, b"x" * 100, timestamp=NOW_MS + i)], leader_epoch=0)
    await directory.close()
    bench.opened.remove(directory)
    for index in segment_files(bench, suffix):
        data = index.read_bytes()
        match damage:
            case "missing":
                index.unlink()
            case "cut":
                index.write_bytes(data[:-3])
            case "garbage":
                index.write_bytes(os.urandom(len(data)))
            case "zeroed":
                index.write_bytes(bytes(len(data)))
            case "shifted":  # plausible and wrong: every position is a byte off
                index.write_bytes(
                    b"".join(data[i : i + 7] + bytes([data[i + 7] ^ 1]) for i in range(0, len(data), 8))
                    if suffix == ".index"
                    else data[:-12]
                )
            case "early":  # every batch is said to end one offset too soon
                width = 8 if suffix == ".index" else 12
                entries = [data[i : i + width] for i in range(0, len(data), width)]
                at = 3 if suffix == ".index" else 11
                index.write_bytes(b"".join(e[:at] + bytes([e[at] ^ 1]) + e[at + 1 :] for e in entries))
    log = await bench.log(await bench.directory(), **config)
    for offset in (0, 777, 3333, 5999):
        data = await log.read_cold(offset, max_bytes=1000, end_offset=6000)
        assert values(data)[0][0] in (offset, offset - 1)
    for i in (0, 1234, 2999):
        found = await log.find_by_timestamp(NOW_MS + i)
        assert found is not None
        assert found.offset == 2 * i


@pytest.mark.parametrize("name", ["recovery-point", "log-start", "replication"])
async def test_a_damaged_checkpoint_costs_time_and_nothing_else(bench: Bench, name: str) -> None:
    await written(bench, checkpointed=True)
    flip_bit(bench.path / f"{name}-offset-checkpoint", 4)
    log = await reopened(bench)
    assert [offset for offset, _ in read_all(log)] == list(range(60))


async def test_a_damaged_clean_shutdown_marker_means_an_unclean_stop(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    log.append([sequenced(i) for i in range(60)], leader_epoch=0)
    await directory.close()
    bench.opened.remove(directory)
    flip_bit(bench.path / ".kafka_cleanshutdown", 5)
    directory = await bench.directory()
    assert not directory.was_clean
    log = await bench.log(directory, **SMALL)
    assert (log.log_end_offset, log.offline_reason) == (60, "")


async def test_the_clean_shutdown_marker_is_good_for_one_start(bench: Bench) -> None:
    directory = await bench.directory()
    await directory.close()
    bench.opened.remove(directory)
    directory = await bench.directory()
    assert directory.was_clean
    assert not (bench.path / ".kafka_cleanshutdown").exists()
    bench.crash(directory)
    assert not (await bench.directory()).was_clean


async def test_a_log_that_changed_since_the_clean_stop_is_recovered(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    log.append([sequenced(i) for i in range(9)], leader_epoch=0)
    await directory.close()
    bench.opened.remove(directory)
    (file,) = segment_files(bench)
    file.write_bytes(file.read_bytes() + b"surprise")
    log = await reopened(bench)
    assert (log.log_end_offset, log.offline_reason) == (9, "")


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
async def test_damaged_snapshots_and_epochs_are_rebuilt_from_the_log(bench: Bench, damage: str) -> None:
    await written(bench, checkpointed=True)
    files = [*segment_files(bench, ".snapshot"), bench.path / "t-0" / "leader-epoch-checkpoint"]
    assert len(files) >= 3
    for file in files:
        match damage:
            case "flipped":
                flip_bit(file, file.stat().st_size // 2)
            case "cut":
                file.write_bytes(file.read_bytes()[:-1])
            case "missing":
                file.unlink()
    log = await reopened(bench)
    assert [e.start_offset for e in log.epochs.entries] == [0, 20, 40]
    results = log.append([sequenced(i) for i in (55, 56, 59, 54, 60)], leader_epoch=2)
    assert [r.base_offset for r in results] == [55, 56, 59, -1, 60]


async def test_leftovers_are_swept_and_a_swap_is_finished(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    first = segment_files(bench)[0]
    whole = first.read_bytes()
    for suffix in (".tmp", ".cleaned", ".clean", ".deleted"):
        (bench.path / "t-0" / f"{first.name}{suffix}").write_bytes(b"half")
    first.with_name(first.name + ".swap").write_bytes(whole)
    first.write_bytes(b"the segment that the swap was about to replace")
    log = await reopened(bench)
    assert [offset for offset, _ in read_all(log)] == list(range(60))
    assert not [p.name for p in (bench.path / "t-0").iterdir() if p.suffix in (".tmp", ".swap", ".deleted")]


async def test_a_damaged_swap_is_dropped(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    first = segment_files(bench)[0]
    first.with_name(first.name + ".swap").write_bytes(first.read_bytes()[:-9])
    log = await reopened(bench)
    assert [offset for offset, _ in read_all(log)] == list(range(60))


async def test_a_locked_directory(bench: Bench) -> None:
    await bench.directory()
    with pytest.raises(DirectoryLockedError, match="another process"):
        await bench.directory()


async def test_a_directory_of_something_else_is_left_alone(bench: Bench) -> None:
    bench.path.mkdir()
    (bench.path / "thesis.tex").write_text("mine")
    with pytest.raises(ForeignDirectoryError, match=r"thesis\.tex"):
        await bench.directory()
    assert sorted(p.name for p in bench.path.iterdir()) == [".lock", "thesis.tex"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("node.id=1", "node.id=2", "belongs to node 2"),
        ("version=1", "version=9", "version 9"),
        ("directory.id=", "directory.id=?", "does not say whose"),
        ("cluster.id=", "someone=", "does not say whose"),
    ],
)
async def test_a_directory_of_another_node(bench: Bench, old: str, new: str, words: str) -> None:
    directory = await bench.directory()
    await directory.close()
    bench.opened.remove(directory)
    meta = bench.path / "meta.properties"
    meta.write_text(meta.read_text().replace(old, new))
    with pytest.raises(ForeignDirectoryError, match=words):
        await bench.directory()


async def test_a_directory_of_another_cluster(bench: Bench) -> None:
    directory = await bench.directory(cluster_id="ours")
    await directory.close()
    bench.opened.remove(directory)
    with pytest.raises(ForeignDirectoryError, match="cluster ours"):
        await bench.directory(cluster_id="theirs")


async def test_a_directory_may_wait_to_learn_which_cluster_it_joins(bench: Bench) -> None:
    directory = await bench.directory(founds=False)
    directory_id = directory.directory_id
    assert directory.cluster_id == ""
    bench.crash(directory)
    directory = await bench.directory(founds=False)
    assert (directory.cluster_id, directory.directory_id) == ("", directory_id)
    await directory.join("ours")
    await directory.join("ours")
    with pytest.raises(ForeignDirectoryError, match="cluster ours"):
        await directory.join("theirs")
    bench.crash(directory)
    directory = await bench.directory(founds=False)
    assert (directory.cluster_id, directory.directory_id) == ("ours", directory_id)


async def test_a_directory_that_joined_no_cluster_can_still_found_one(bench: Bench) -> None:
    directory = await bench.directory(founds=False)
    directory_id = directory.directory_id
    bench.crash(directory)
    founded = await bench.directory()
    assert founded.cluster_id
    assert founded.directory_id == directory_id


async def test_formatting_is_for_empty_directories(bench: Bench) -> None:
    path = str(bench.path)
    identity = await format_directory(bench.disk, path, node_id=1, cluster_id="ours", rng=SeededRng())
    with pytest.raises(ForeignDirectoryError, match="formatted already"):
        await format_directory(bench.disk, path, node_id=1, cluster_id="ours", rng=SeededRng())
    directory = await bench.directory(founds=False)
    assert directory.identity == identity
    other = bench.path.parent / "other"
    other.mkdir()
    (other / "holiday.jpg").touch()
    with pytest.raises(ForeignDirectoryError, match=r"holds holiday\.jpg"):
        await format_directory(bench.disk, str(other), node_id=1, cluster_id=None, rng=SeededRng())


async def test_an_unreadable_directory(bench: Bench) -> None:
    bench.path.parent.mkdir(exist_ok=True)
    bench.path.write_text("a file")
    with pytest.raises(UnreadableDirectoryError, match="cannot be used"):
        await bench.directory()


async def test_an_unreadable_meta_file(bench: Bench) -> None:
    (bench.path / "meta.properties").mkdir(parents=True)
    with pytest.raises(UnreadableDirectoryError, match="cannot be used"):
        await bench.directory()


async def test_a_log_of_another_topic_id_is_set_aside(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    directory = await bench.directory()
    log = await directory.open_partition("t", b"another-topic-id", 0, TopicConfig())
    assert (log.log_end_offset, log.topic_id) == (0, b"another-topic-id")
    assert len(list(bench.path.glob("t-0.*-stray"))) == 1


async def test_a_deleted_log_is_gone_and_half_deleted_ones_go_at_the_start(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    log.append([batch(b"x")], leader_epoch=0)
    await directory.delete_partitions([log])
    assert log.append([batch(b"y")], leader_epoch=0)[0].error is ErrorCode.KAFKA_STORAGE_ERROR
    assert not (bench.path / "t-0").exists()
    bench.crash(directory)
    (bench.path / "t-0.00ff-delete").mkdir()
    directory = await bench.directory()
    assert not list(bench.path.glob("*-delete"))
    assert (await bench.log(directory)).log_end_offset == 0


async def test_a_recovery_point_without_any_file_is_a_loss(bench: Bench) -> None:
    directory = await bench.directory()
    bench.crash(directory)
    (bench.path / "t-0").mkdir()
    (bench.path / "recovery-point-offset-checkpoint").write_bytes(encode_offsets({("t", 0): 5}))
    assert "gone" in (await bench.log(await bench.directory())).offline_reason


async def test_a_log_that_is_deleted_and_made_again_owes_nothing_to_its_past(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    directory = await bench.directory()
    await directory.delete_partitions([await bench.log(directory, **SMALL)])
    log = await directory.open_partition("t", b"another-topic-id", 0, TopicConfig())
    log.append([sequenced(0)], leader_epoch=0)
    await directory.flusher.settle()
    bench.crash(directory)
    directory = await bench.directory()
    log = await directory.open_partition("t", b"another-topic-id", 0, TopicConfig())
    assert (log.log_start_offset, log.log_end_offset, log.offline_reason) == (0, 1, "")


async def test_a_log_can_be_deleted_while_it_is_flushed(bench: Bench) -> None:
    directory = await bench.directory()
    for number in range(20):
        log = await directory.open_partition("d", TOPIC_ID, number, TopicConfig())
        log.append([batch(b"x")], leader_epoch=0)
        for _ in range(number % 4):
            await asyncio.sleep(0)
        await directory.delete_partitions([log])
    assert not directory.failure
    assert not bench.failures


async def test_a_stray_log_is_listed_and_deleted(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    directory = await bench.directory()
    assert directory.partitions_on_disk() == [("t", 0)]
    await directory.delete_strays([("t", 0)])
    assert directory.partitions_on_disk() == []
    assert not (bench.path / "t-0").exists()


class SyncCounts(OsDisk):
    """Counts what waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    async def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        self.waits += 1
        await super().rename_all(moves)

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        self.waits += 1
        await super().replace_all(files)


async def test_many_logs_are_deleted_by_one_rename_and_one_checkpoint(bench: Bench) -> None:
    bench.disk = disk = SyncCounts()
    directory = await bench.directory()
    logs = [await directory.open_partition("t", TOPIC_ID, i, TopicConfig()) for i in range(300)]
    disk.waits = 0
    await directory.delete_partitions(logs)
    assert disk.waits == 2
    assert not directory.partitions_on_disk()
    bench.crash(directory)
    directory = await bench.directory()
    assert not directory.partitions_on_disk(), "a deleted log does not come back"


async def test_files_that_cannot_be_removed_now_go_at_the_next_start(bench: Bench) -> None:
    class Stubborn(OsDisk):
        async def remove_tree(self, path: str) -> None:
            raise OSError(errno.EBUSY, "busy", path)

    bench.disk = Stubborn()
    directory = await bench.directory()
    await directory.delete_partitions([await bench.log(directory)])
    bench.crash(directory)
    bench.disk = OsDisk()
    await bench.directory()
    assert not list(bench.path.glob("*-delete"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EROFS])
async def test_a_log_that_cannot_be_opened_is_offline_and_harms_no_other(bench: Bench, number: int) -> None:
    class Full(OsDisk):
        def make_directory(self, path: str) -> None:
            if path.endswith("/bad-0"):
                raise OSError(number, os.strerror(number), path)
            super().make_directory(path)

    bench.disk = Full()
    directory = await bench.directory()
    bad = await bench.log(directory, "bad")
    assert "bad-0 cannot be opened" in bad.offline_reason
    assert bad.append([batch(b"x")], leader_epoch=0)[0].error is ErrorCode.KAFKA_STORAGE_ERROR
    good = await bench.log(directory, "good")
    assert good.append([batch(b"x")], leader_epoch=0)[0].error is ErrorCode.NONE
    await directory.flusher.settle()
    await directory.delete_partitions([bad])
    assert not bench.failures


async def test_what_is_known_of_a_log_that_could_not_be_opened_is_kept(bench: Bench) -> None:
    """Else its next recovery would cut off as torn what was acknowledged."""
    await written(bench, checkpointed=True)
    offsets_before = decode_offsets((bench.path / "recovery-point-offset-checkpoint").read_bytes())

    class Exhausted(OsDisk):
        def entries(self, path: str) -> dict[str, int | None]:
            if path.endswith("/t-0"):
                raise OSError(errno.EMFILE, "too many open files", path)
            return super().entries(path)

    bench.disk = Exhausted()
    directory = await bench.directory()
    assert (await bench.log(directory, **SMALL)).offline_reason
    other = await bench.log(directory, "other")
    other.append([batch(b"x")], leader_epoch=0)
    await bench.restart(directory)
    offsets = decode_offsets((bench.path / "recovery-point-offset-checkpoint").read_bytes())
    assert offsets["t", 0] == offsets_before["t", 0] > 0


async def test_few_open_files_are_enough_for_many_logs(bench: Bench) -> None:
    directory = await bench.directory(open_files=3)
    logs = [await directory.open_partition("f", TOPIC_ID, i, TopicConfig()) for i in range(12)]
    for value in (b"a", b"b"):
        for log in logs:
            log.append([batch(value)], leader_epoch=0)
        await directory.flusher.settle()
    for log in logs:
        assert read_all(log) == [(0, b"a"), (1, b"b")]
    here = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    assert sum(str(bench.path) in name for name in here) <= 4


async def test_a_round_called_off_by_the_shutdown_is_made_up_for(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    log.append([sequenced(0)], leader_epoch=4)
    await asyncio.sleep(0)
    await bench.spawn.close()
    assert log.flushed_offset == 0
    await directory.close()
    bench.opened.remove(directory)
    assert (bench.path / "t-0" / "partition.metadata").exists()
    assert (bench.path / "t-0" / "leader-epoch-checkpoint").exists()
    directory = await bench.directory()
    assert directory.was_clean
    assert (await bench.log(directory)).flushed_offset == 1
