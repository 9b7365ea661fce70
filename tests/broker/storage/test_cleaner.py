"""The cleaner on real files: what a log holds afterwards, and after a kill at every step of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from streamkit.broker.log.append import Origin
from streamkit.broker.storage.cleaner import Cleaner, CleanerLimits
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.control import TransactionMarker, marker_record
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.contracts.disk import DiskFile
from streamkit.runtime.os.disk import OsDisk
from tests.broker.storage.conftest import Bench
from tests.broker.storage.support import NOW_MS

COMPACT = {"cleanup_policy": ("compact",), "segment_bytes": 2048, "index_interval_bytes": 256}
KEYS = 7


def cleaner(
    bench: Bench, directory: LogDirectory, *, buffer_bytes: int = 1 << 20, rate: float = 1e308
) -> Cleaner:
    limits = CleanerLimits(backoff_ms=1, buffer_bytes=buffer_bytes, bytes_per_second=rate)
    return Cleaner(bench.disk, directory, bench.clock, lambda: limits)


def update(number: int, **fields: object) -> bytes:
    record = Record(timestamp=NOW_MS + number, key=b"key-%d" % (number % KEYS), value=b"v%d" % number * 10)
    return encode_batch([record], **fields)  # type: ignore[arg-type]


async def fill(log: PartitionLog, directory: LogDirectory, count: int = 100, first: int = 0) -> None:
    for number in range(first, first + count):
        log.append([bytearray(update(number))], leader_epoch=0)
    await directory.flusher.settle()
    log.high_watermark = log.log_end_offset


async def records(log: PartitionLog) -> list[Record]:
    found: list[Record] = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = await log.read_cold(offset, max_bytes=1 << 20, end_offset=log.log_end_offset)
        for header, batch in batches(data):
            if not header.is_control:
                found += [r for r in decode_records(batch) if r.offset >= offset]
            offset = header.next_offset
    return found


async def table(log: PartitionLog) -> dict[bytes | None, bytes | None]:
    return {record.key: record.value for record in await records(log)}


def expected(count: int = 100) -> dict[bytes | None, bytes | None]:
    return {b"key-%d" % (n % KEYS): b"v%d" % n * 10 for n in range(count)}


async def test_the_newest_of_each_key_remains_and_small_segments_become_one(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    active, sealed = log.segments[-1].base_offset, len(log.segments) - 1
    log.config = replace(log.config, segment_bytes=1 << 20)
    assert sealed > 3 and await cleaner(bench, directory).clean_dirtiest()
    assert await table(log) == expected()
    assert len(log.segments) == 2 and log.cleaned_offset == active
    below = [r.offset for r in await records(log) if r.offset < active]
    assert below == list(range(active - KEYS, active))
    assert not await cleaner(bench, directory).clean_dirtiest(), "nothing is dirty any more"
    await bench.spawn.close()
    names = os.listdir(log.path)
    assert not [name for name in names if name.endswith((".cleaned", ".swap", ".deleted"))]
    assert sorted(n for n in names if n.endswith(".log")) == [f"{0:020d}.log", f"{active:020d}.log"]
    found = await log.find_by_timestamp(NOW_MS + 5)
    assert found is not None and found.offset == active - KEYS
    assert (await log.max_timestamp()).offset == 99  # type: ignore[union-attr]


async def test_the_next_cleaning_begins_where_the_last_one_ended(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    await cleaner(bench, directory).clean_dirtiest()
    cleaned = log.cleaned_offset
    directory, log = await bench.restart(directory, **COMPACT)
    assert log.cleaned_offset == cleaned and directory.was_clean
    assert await table(log) == expected()
    await fill(log, directory, 100, first=100)
    assert await cleaner(bench, directory).clean_dirtiest()
    assert await table(log) == expected(200) and log.cleaned_offset > cleaned


async def test_a_crash_after_a_cleaning_takes_no_gap_for_lost_bytes(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    await cleaner(bench, directory).clean_dirtiest()
    bench.crash(directory)
    log = await bench.log(await bench.directory(), **COMPACT)
    assert not log.offline_reason and log.log_end_offset == 100
    assert await table(log) == expected()


async def test_more_keys_than_fit_are_cleaned_in_parts(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT, min_cleanable_dirty_ratio=0.0)
    await fill(log, directory)
    small = cleaner(bench, directory, buffer_bytes=3 * 200)
    rounds = 0
    while await small.clean_dirtiest():
        rounds += 1
        assert await table(log) == expected()
    assert rounds > 3 and log.cleaned_offset == log.segments[-1].base_offset


async def test_what_is_not_committed_or_not_decided_is_not_touched(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    log.high_watermark = log.segments[1].base_offset - 1
    assert not await cleaner(bench, directory).clean_dirtiest()
    log.high_watermark = 100
    log.transactions.ongoing[5] = 0
    assert not await cleaner(bench, directory).clean_dirtiest()


async def test_a_reader_in_an_old_segment_finishes(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    old = log.segments[1]
    await cleaner(bench, directory).clean_dirtiest()
    data = await log._search(old, lambda s: log._read_steps(s, old.base_offset, 1 << 20, 100, True))
    assert data is not None and next(batches(data.data))[0].base_offset == old.base_offset


async def test_a_truncation_meanwhile_aborts_the_cleaning(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    real = bench.disk.flush

    async def truncate_first(files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        bench.disk.flush = real  # type: ignore[method-assign]
        await log.truncate_to(30)
        await real(files, directories)

    bench.disk.flush = truncate_first  # type: ignore[method-assign]
    assert await cleaner(bench, directory).clean_dirtiest()
    assert log.cleaned_offset == 0 and log.log_end_offset == 30 and not log.offline_reason
    assert await table(log) == expected(30)
    assert not [name for name in os.listdir(log.path) if name.endswith(".cleaned")]


async def test_an_aborted_transaction_is_gone_and_its_reader_is_told_of_none(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT, min_cleanable_dirty_ratio=0.0)
    await fill(log, directory, 20)
    fields = {"producer_id": 5, "producer_epoch": 0, "base_sequence": 0, "transactional": True}
    log.transactions.verify(5, 0, 0).is_granted = True
    log.append([bytearray(update(20, **fields))], leader_epoch=0)
    key, value = marker_record(TransactionMarker(committed=False, coordinator_epoch=1))
    aborted = encode_batch(
        [Record(timestamp=NOW_MS, key=key, value=value)], producer_id=5, producer_epoch=0,
        transactional=True, control=True,
    )  # fmt: skip
    (result,) = log.append([bytearray(aborted)], leader_epoch=0, origin=Origin.COORDINATOR)
    assert not result.error
    await fill(log, directory, 80, first=22)
    assert len(list(log.aborted_transactions(0, 100))) == 1
    await cleaner(bench, directory).clean_dirtiest()
    assert 20 not in [record.offset for record in await records(log)]
    assert log.producers[5].last_sequence == 0
    bench.crash(directory)
    log = await bench.log(await bench.directory(), **COMPACT)
    assert log.producers[5].last_sequence == 0 and not log.transactions.ongoing


async def test_records_before_the_start_of_a_compacted_log_go_in_the_background(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory)
    second = log.segments[1].base_offset
    log.delete_records(second)
    assert f"{0:020d}.log" not in os.listdir(log.path)
    await directory.flusher.settle()
    await bench.spawn.close()
    assert not [name for name in os.listdir(log.path) if name.endswith(".deleted")]
    directory, log = await bench.restart(directory, **COMPACT)
    assert log.log_start_offset == second


class KilledError(BaseException):
    pass


class MortalDisk(OsDisk):
    """Dies before its n-th change of a name or a flush, and changes nothing from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1

    def step(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1

    async def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        for move in moves:
            if os.path.exists(move[0]):
                self.step()
                await super().rename_all([move])

    async def flush(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        self.step()
        await super().flush(files, directories)

    async def replace_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        self.step()
        await super().replace_all(files)

    def remove(self, path: str) -> None:
        if self.left:
            super().remove(path)

    async def remove_all(self, paths: Sequence[str]) -> None:
        """The process is gone before it comes to this."""


async def test_a_kill_at_any_step_leaves_a_log_that_says_the_same(tmp_path: Path) -> None:
    steps = 0
    while True:
        bench = Bench(tmp_path / str(steps))
        bench.disk.close()
        disk = bench.disk = MortalDisk()
        directory = await bench.directory()
        log = await bench.log(directory, **COMPACT)
        await fill(log, directory)
        log.config = replace(log.config, segment_bytes=5000)
        disk.left = steps
        killed = False
        try:
            await cleaner(bench, directory).clean_dirtiest()
        except KilledError:
            killed = True
        disk.left = -1
        await bench.spawn.close()
        bench.crash(directory)
        directory = await bench.directory()
        log = await bench.log(directory, **COMPACT)
        assert not log.offline_reason, f"killed before step {steps}: {log.offline_reason}"
        assert log.log_end_offset == 100 and await table(log) == expected(), f"killed before step {steps}"
        await cleaner(bench, directory).clean_dirtiest()
        assert await table(log) == expected()
        await directory.close()
        await bench.spawn.close()
        disk.close()
        assert not bench.failures and not bench.spawn.errors
        if not killed:
            break
        steps += 1
    assert steps > 15


async def test_the_throttle_holds_the_average(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT)
    await fill(log, directory, 400)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        bench.clock.now += round(seconds * 1000)

    monkeypatch.setattr("streamkit.broker.storage.cleaner.asyncio.sleep", sleep)
    moved = 2 * sum(segment.size for segment in log.segments[:-1])
    await cleaner(bench, directory, rate=10_000).clean_dirtiest()
    assert sum(slept) == pytest.approx(moved / 10_000, rel=0.25)


def bulk(log: PartitionLog, numbers: range, deleted: Callable[[int], bool] = lambda number: False) -> None:
    """Updates of 10,000 keys, a thousand in a batch; then another segment begins."""
    for first in range(numbers.start, numbers.stop, 1_000):
        made = [
            Record(
                timestamp=NOW_MS,
                key=b"key-%05d" % (number % 10_000),
                value=None if deleted(number) else b"%d" % number * 5,
            )
            for number in range(first, first + 1_000)
        ]
        log.append([bytearray(encode_batch(made))], leader_epoch=0)
    config, log.config = log.config, replace(log.config, segment_bytes=200)
    log.append([bytearray(update(0))], leader_epoch=0)
    log.config = config


async def cleaned(bench: Bench, directory: LogDirectory, log: PartitionLog) -> set[bytes | None]:
    """The keys whose tombstones a cleaning leaves."""
    await directory.flusher.settle()
    log.high_watermark = log.log_end_offset
    assert await cleaner(bench, directory, buffer_bytes=8 << 20).clean_dirtiest()
    return {record.key for record in await records(log) if record.value is None}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_million_updates_hold_the_loop_for_moments_only(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest of each key remain, tombstones until their horizon, and whoever waits for the loop waits for
    milliseconds of processor time, however busy the machine is.
    """
    directory = await bench.directory()
    log = await bench.log(directory, **COMPACT | {"segment_bytes": 8 << 20, "delete_retention_ms": 60_000})
    bulk(log, range(1_000_000), lambda number: number >= 990_000 and not number % 100)
    gaps_s: list[float] = []

    async def wait_for_turns() -> None:
        last_s = time.thread_time()
        while True:
            await asyncio.sleep(0)
            gaps_s.append(time.thread_time() - last_s)
            last_s = time.thread_time()

    await directory.flusher.settle()
    waiter = asyncio.create_task(wait_for_turns())
    log.high_watermark = log.log_end_offset
    assert await cleaner(bench, directory, buffer_bytes=8 << 20).clean_dirtiest()
    waiter.cancel()
    with capsys.disabled():
        print(f"\nlongest of {len(gaps_s)} turns: {max(gaps_s) * 1000:.1f} ms of processor time")
    found = await table(log)
    assert found.pop(b"key-0") == b"v0" * 10
    newest = {n % 10_000: None if not n % 100 else b"%d" % n * 5 for n in range(990_000, 1_000_000)}
    assert found == {b"key-%05d" % key: value for key, value in newest.items()}
    assert max(gaps_s) < 0.05
    log.config = replace(log.config, min_cleanable_dirty_ratio=0.001)
    dead = {b"key-%05d" % key for key in range(0, 10_000, 100)}
    bench.clock.now += 59_000
    bulk(log, range(5_001, 9_001))
    dead -= {b"key-%05d" % key for key in range(5_001, 9_001)}
    assert await cleaned(bench, directory, log) == dead, "before their horizon"
    bench.clock.now += 2_000
    bulk(log, range(5_001, 9_001))
    assert await cleaned(bench, directory, log) == set(), "past their horizon"
