"""A follower's log: batches as the leader wrote them, truncation, and starting again elsewhere."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from streamkit.broker.storage.errors import LogOfflineError
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import Buffer, CorruptBatchError, patch
from streamkit.runtime.os.disk import OsDisk, OsFile
from tests.broker.storage.conftest import TOPIC_ID, Bench
from tests.broker.storage.fake_disk import FakeDisk
from tests.broker.storage.support import NOW_MS, ManualClock, SeededRng, Spawned, batch, sequenced, values
from tests.broker.storage.test_partition_log import read_all

SMALL = {"segment_bytes": 1000, "index_interval_bytes": 100}


def replica(one: bytearray, offset: int, epoch: int = 0) -> bytearray:
    """A batch as a leader of this epoch has written it."""
    patch(one, offset, epoch)
    return one


def leaders(count: int, first: int = 0, *, epoch_every: int = 20) -> list[Buffer]:
    return [replica(sequenced(i), i, i // epoch_every) for i in range(first, first + count)]


def content(log: PartitionLog) -> list[int]:
    return [offset for offset, _ in read_all(log, log.log_start_offset)]


# -- append_replicated


async def test_offsets_epochs_and_bytes_are_kept(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    sent = leaders(60)
    log.append_replicated(sent)
    assert (log.log_end_offset, log.flushed_offset) == (60, 0)
    await directory.flusher.settle()
    assert log.flushed_offset == 60
    assert [entry.start_offset for entry in log.epochs.entries] == [0, 20, 40]
    read = b"".join(bytes(p) for p in [log.read(o, max_bytes=1, end_offset=60) or b"" for o in range(60)])
    assert read == b"".join(map(bytes, sent))


async def test_a_new_leader_knows_the_producers_of_what_it_replicated(bench: Bench) -> None:
    log = await bench.log(await bench.directory())
    log.append_replicated(leaders(8))
    duplicate, gap, following = log.append([sequenced(5), sequenced(9), sequenced(8)], leader_epoch=1)
    assert (duplicate.duplicate, duplicate.base_offset) == (True, 5)
    assert gap.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert following.base_offset == 8


REFUSED = {
    "a hole": lambda: [replica(batch(b"a"), 5), replica(batch(b"b"), 7)],
    "an overlap": lambda: [replica(batch(b"a"), 4)],
    "an epoch that goes back": lambda: [replica(batch(b"a"), 5, 3), replica(batch(b"b"), 6, 2)],
    "an epoch below the log's": lambda: [replica(batch(b"a"), 5, 0)],
    "a flipped bit": lambda: [replica(batch(b"a"), 5, 1), replica(batch(b"b"), 6, 1)[:-1] + b"?"],
    "a batch cut short": lambda: [replica(batch(b"a"), 5, 1)[:-1]],
    "two batches in one": lambda: [replica(batch(b"a"), 5, 1) + replica(batch(b"b"), 6, 1)],
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_does_not_continue_the_log_is_refused_whole(bench: Bench, what: str) -> None:
    log = await bench.log(await bench.directory())
    log.append_replicated([replica(batch(b"x"), i, 1) for i in range(5)])
    with pytest.raises(CorruptBatchError):
        log.append_replicated(REFUSED[what]())
    assert content(log) == list(range(5))


async def test_gaps_are_kept_where_the_leader_compacts(bench: Bench) -> None:
    log = await bench.log(await bench.directory(), cleanup_policy=("compact",))
    log.append_replicated([replica(batch(b"a"), 3), replica(batch(b"b"), 9)])
    assert content(log) == [3, 9]


async def test_a_failed_write_leaves_what_was_written_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await bench.log(await bench.directory())
    log.append_replicated([replica(batch(b"a"), 0)])

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(type(log._open(log.segments[-1])), "write", full)
    with pytest.raises(LogOfflineError):
        log.append_replicated([replica(batch(b"b"), 1)])
    assert content(log) == [0]
    assert not bench.failures


# -- truncate_to


@pytest.mark.parametrize("end", [59, 55, 41, 40, 39, 20, 7, 1, 0])
async def test_truncation_leaves_a_log_that_never_had_the_rest(bench: Bench, end: int) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    log.append_replicated(leaders(60))
    await directory.flusher.settle()
    log.high_watermark = 60
    await log.truncate_to(end)
    assert (log.log_end_offset, log.flushed_offset, log.high_watermark) == (end, end, end)
    assert content(log) == list(range(end))
    assert log.epochs.latest == (end - 1) // 20
    assert log.read(end, max_bytes=1, end_offset=60) == b""
    log.append_replicated(leaders(30, end, epoch_every=10))
    assert content(log) == list(range(end + 30))
    (duplicate,) = log.append([sequenced(end + 28)], leader_epoch=99)
    assert duplicate.duplicate
    directory, log = await bench.restart(directory, **SMALL)
    assert content(log) == list(range(end + 30))
    found = await log.find_by_timestamp(NOW_MS)
    assert found is not None and found.offset == 0


async def test_producers_of_the_removed_batches_are_forgotten(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    log.append_replicated(leaders(40))
    log.append_replicated([replica(sequenced(0, producer_id=6), 40, 2)])
    await log.truncate_to(38)
    assert 6 not in log.producers
    duplicate, again = log.append([sequenced(37), sequenced(38)], leader_epoch=3)
    assert (duplicate.duplicate, again.duplicate, again.base_offset) == (True, False, 38)
    await directory.flusher.settle()
    bench.crash(directory)
    log = await bench.log(await bench.directory(), **SMALL)
    assert log.append([sequenced(36)], leader_epoch=3)[0].duplicate


async def test_a_batch_is_never_cut_in_two(bench: Bench) -> None:
    log = await bench.log(await bench.directory())
    log.append_replicated([replica(batch(b"a", b"b"), 0), replica(batch(b"c", b"d", b"e"), 2)])
    await log.truncate_to(3)
    assert (log.log_end_offset, content(log)) == (2, [0, 1])
    await log.truncate_to(9)
    assert log.log_end_offset == 2


async def test_in_a_log_with_gaps_the_end_is_where_recovery_would_find_it(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, cleanup_policy=("compact",))
    log.append_replicated([replica(batch(b"a"), 3), replica(batch(b"b"), 9), replica(batch(b"c"), 20)])
    await log.truncate_to(15)
    assert log.log_end_offset == 10
    await directory.flusher.settle()
    await directory.checkpoint()
    bench.crash(directory)
    directory = await bench.directory()
    log = await bench.log(directory, cleanup_policy=("compact",))
    assert (log.offline_reason, content(log)) == ("", [3, 9])


async def test_a_hole_in_what_was_not_yet_durable_is_where_bytes_went_missing(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, cleanup_policy=("compact",))
    log.append_replicated([replica(batch(b"a"), 0), replica(batch(b"b"), 1)])
    await directory.flusher.settle()
    await directory.checkpoint()
    directory.flusher._failed = True  # no round runs any more
    log.append_replicated([replica(batch(b"c"), 7)])
    bench.crash(directory)
    log = await bench.log(await bench.directory(), cleanup_policy=("compact",))
    assert (log.offline_reason, log.log_end_offset) == ("", 2)


async def test_once_flushed_a_hole_is_one_that_compaction_left(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, cleanup_policy=("compact",))
    log.append_replicated([replica(batch(b"a"), 0), replica(batch(b"c"), 7)])
    await directory.flusher.settle()
    bench.crash(directory)
    log = await bench.log(await bench.directory(), cleanup_policy=("compact",))
    assert (log.offline_reason, content(log)) == ("", [0, 7])


async def test_readers_in_the_middle_of_a_truncation_come_back_short(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    log.append_replicated(leaders(60))
    monkeypatch.setattr(OsFile, "read_nowait", lambda file, position, size: None)
    reads = [asyncio.ensure_future(log.read_cold(o, max_bytes=500, end_offset=60)) for o in range(60)]
    searches = [log.find_by_timestamp(NOW_MS + 1), log.max_timestamp()]
    searching = [asyncio.ensure_future(search) for search in searches]
    for _ in range(3):
        await asyncio.sleep(0)
    await log.truncate_to(13)
    for data in await asyncio.gather(*reads):
        offsets = [offset for offset, _ in values(data)]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets))) if offsets else True
    await asyncio.gather(*searching)
    monkeypatch.undo()
    assert not log.offline_reason
    assert content(log) == list(range(13))


async def test_the_end_of_a_log_deleted_up_to_there_is_an_empty_log(bench: Bench) -> None:
    log = await bench.log(await bench.directory(), **SMALL)
    log.append_replicated(leaders(60))
    log.high_watermark = 60
    log.delete_records(45)
    await log.truncate_to(50)
    assert (log.log_start_offset, log.log_end_offset) == (45, 50)
    await log.truncate_to(30)
    assert (log.log_start_offset, log.log_end_offset, log.epochs.entries) == (30, 30, ())


# -- restart_at


@pytest.mark.parametrize("start", [0, 10, 60, 1000])
async def test_a_log_may_start_anywhere_after_a_reset(bench: Bench, start: int) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    log.append_replicated(leaders(60))
    await directory.flusher.settle()
    await log.restart_at(start)
    assert (log.log_start_offset, log.log_end_offset, log.flushed_offset) == (start, start, start)
    assert (log.producers, log.epochs.latest, content(log)) == ({}, -1, [])
    await directory.flusher.settle()
    bench.crash(directory)
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    assert (log.log_start_offset, log.log_end_offset, log.offline_reason) == (start, start, "")
    log.append_replicated(leaders(30, start))
    for clean in (True, False):
        if clean:
            directory, log = await bench.restart(directory, **SMALL)
            assert directory.was_clean
        else:
            await directory.flusher.settle()
            bench.crash(directory)
            log = await bench.log(await bench.directory(), **SMALL)
        assert content(log) == list(range(start, start + 30))


async def test_an_empty_log_that_was_reset_is_opened_from_the_manifest(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    await log.restart_at(70)
    directory, log = await bench.restart(directory)
    assert (log.log_start_offset, log.log_end_offset, log.offline_reason) == (70, 70, "")


async def test_a_reset_log_may_begin_with_the_batch_that_spans_its_start(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory)
    await log.restart_at(7)
    log.append_replicated([replica(batch(*[b"r"] * 5), 5), replica(batch(b"x"), 10)])
    assert (log.log_start_offset, log.log_end_offset) == (7, 11)
    assert [o for o, _ in values(log.read(7, max_bytes=1, end_offset=11) or b"")] == [5, 6, 7, 8, 9]
    await directory.flusher.settle()
    bench.crash(directory)
    log = await bench.log(await bench.directory())
    assert (log.log_start_offset, log.log_end_offset, log.offline_reason) == (7, 11, "")
    with pytest.raises(CorruptBatchError):
        log.append_replicated([replica(batch(*[b"r"] * 5), 9)])


# -- crashes in the middle


class Crash(BaseException):
    """The process ends here."""


class DyingDisk:
    """Passes everything on to a disk until `left` more changes of files or names have been made."""

    def __init__(self, disk: OsDisk | FakeDisk) -> None:
        self._disk = disk
        self.left = 1 << 30

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash

    def open(self, path: str, *, create: bool = False) -> Any:
        return DyingFile(self._disk.open(path, create=create), self)

    def remove(self, path: str) -> None:
        self._count()
        self._disk.remove(path)

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        self._count()
        await self._disk.replace_all(files)

    async def flush(self, files: Sequence[Any], directories: Sequence[str]) -> None:
        self._count()
        await self._disk.flush([file.file for file in files], directories)


class DyingFile:
    def __init__(self, file: Any, disk: DyingDisk) -> None:
        self.file = file
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def truncate(self, size: int) -> None:
        self._disk._count()
        self.file.truncate(size)


async def crashed_at_each_step(
    bench: Bench, what: str, change: Callable[[PartitionLog], Awaitable[None]]
) -> AsyncIterator[tuple[bool, int, PartitionLog]]:
    """A log of 60 records that died after ever more steps of a change, opened again: (whether it was done,
    after how many steps, the log), until it was done."""
    real = bench.disk
    for step in range(200):
        bench.path = bench.path.parent / f"{what}-{step}"
        bench.disk = dying = DyingDisk(real)  # type: ignore[assignment]
        directory = await bench.directory()
        log = await bench.log(directory, **SMALL)
        log.append_replicated(leaders(60))
        await directory.flusher.settle()
        log.high_watermark = 60
        await directory.checkpoint()
        dying.left = step
        done = await survives(change(log))
        await die(bench, directory)
        bench.disk = real
        log = await bench.log(await bench.directory(), **SMALL)
        assert log.offline_reason == ""
        assert content(log) == list(range(log.log_start_offset, log.log_end_offset))
        yield done, step, log
        if done:
            return
    raise AssertionError(f"{what} never finished")


async def test_a_crash_anywhere_in_a_truncation_leaves_a_sound_log(bench: Bench) -> None:
    async for done, step, log in crashed_at_each_step(bench, "truncated", lambda log: log.truncate_to(23)):
        assert log.log_start_offset == 0
        assert log.log_end_offset == 23 if done else log.log_end_offset >= 23
        last = log.log_end_offset - 1
        assert log.append([sequenced(last), sequenced(last + 1)], leader_epoch=9)[0].duplicate
        assert not done or step > 10, "a truncation over many segments is many steps"


async def test_a_crash_anywhere_in_a_reset_leaves_a_sound_log(bench: Bench) -> None:
    async for done, _, log in crashed_at_each_step(bench, "reset", lambda log: log.restart_at(1000)):
        assert not done or (log.log_start_offset, log.log_end_offset) == (1000, 1000)


async def die(bench: Bench, directory: LogDirectory) -> None:
    """Flush rounds that run die with the process."""
    await directory.flusher.settle()
    await asyncio.sleep(0)
    assert {type(error) for error in bench.spawn.errors} <= {Crash}
    bench.spawn.errors.clear()
    bench.crash(directory)


async def survives(change: Any) -> bool:
    try:
        await change
    except Crash:
        return False
    return True


@pytest.mark.parametrize("policy", ["delete", "compact"])
async def test_power_lost_anywhere_in_a_truncation_loses_nothing_below_it(policy: str) -> None:
    """Also where gaps are legal: no stale batch behind a hole comes back as if it belonged there."""
    config = TopicConfig(segment_bytes=1000, index_interval_bytes=100, cleanup_policy=(policy,))
    for seed in range(60):
        rng = random.Random(seed)
        disk, spawn = FakeDisk(), Spawned()
        dying = DyingDisk(disk)

        async def opened(on: Any, spawn: Spawned = spawn) -> tuple[LogDirectory, PartitionLog]:
            directory = await LogDirectory.open(
                on, "data", node_id=1, clock=ManualClock(), rng=SeededRng(), spawn=spawn
            )
            return directory, await directory.open_partition("t", TOPIC_ID, 0, config)

        directory, log = await opened(dying)
        log.append_replicated(leaders(60))
        await directory.flusher.settle()
        log.high_watermark = 60
        await directory.checkpoint()
        end = rng.randrange(60)
        dying.left = rng.randrange(40)
        done = await survives(log.truncate_to(end))
        if done and rng.random() < 0.5:
            dying.left = 1 << 30
            log.append_replicated(leaders(10, end, epoch_every=10))
        disk.lose_power(rng)
        await spawn.close()
        directory, log = await opened(disk)
        assert log.offline_reason == ""
        assert log.log_end_offset >= end
        assert content(log) == list(range(log.log_end_offset))
        if done and log.log_end_offset > end:
            assert log.epochs.epoch_at(end) == end // 10
        await spawn.close()
