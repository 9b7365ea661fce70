"""However appends, flushes, checkpoints and power losses mix: nothing that was flushed is lost."""

from __future__ import annotations

import asyncio
import errno
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.storage.conftest import TOPIC_ID
from tests.broker.storage.fake_disk import FakeDisk
from tests.broker.storage.support import ManualClock, SeededRng, Spawned, batch, sequenced
from tests.broker.storage.test_partition_log import read_all

CONFIG = TopicConfig(segment_bytes=1200, index_interval_bytes=100)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("turn"), st.integers(1, 6)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("checkpoint")),
        st.tuples(st.just("lose power"), st.integers(0, 2**32)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("delete records")),
    ),
    max_size=40,
)


class Scenario:
    """Three logs on one disk, what was appended to each, and how much of it was acknowledged."""

    def __init__(self) -> None:
        self.disk = FakeDisk()
        self.appended: list[list[bytes]] = [[], [], []]
        self.acknowledged = [0, 0, 0]
        self.spawn = Spawned()
        self.directory: LogDirectory
        self.logs: list[PartitionLog]

    async def open(self) -> None:
        self.directory = await LogDirectory.open(
            self.disk, "data", node_id=1, clock=ManualClock(), rng=SeededRng(), spawn=self.spawn
        )
        self.logs = [await self.directory.open_partition("t", TOPIC_ID, i, CONFIG) for i in range(3)]
        for number, log in enumerate(self.logs):
            self._check(number, log)

    def _check(self, number: int, log: PartitionLog) -> None:
        appended, acknowledged = self.appended[number], self.acknowledged[number]
        assert not log.offline_reason
        assert acknowledged <= log.log_end_offset <= len(appended)
        found = read_all(log, log.log_start_offset)
        assert [offset for offset, _ in found] == list(range(log.log_start_offset, log.log_end_offset))
        assert [value for _, value in found] == appended[log.log_start_offset : log.log_end_offset]
        del appended[log.log_end_offset :]
        self.acknowledged[number] = log.log_end_offset
        log.high_watermark = log.log_end_offset
        if appended and log.log_start_offset < log.log_end_offset:
            (again,) = log.append([sequenced(log.log_end_offset - 1)], leader_epoch=log.epochs.latest)
            assert (again.duplicate, again.base_offset) == (True, log.log_end_offset - 1)

    def append(self, number: int, count: int) -> None:
        log = self.logs[number]
        first = log.log_end_offset
        results = log.append(
            [sequenced(i) for i in range(first, first + count)], leader_epoch=max(0, log.epochs.latest)
        )
        assert [r.base_offset for r in results] == list(range(first, first + count))
        self.appended[number] += [b"v%d" % i for i in range(first, first + count)]

    def note_acknowledged(self) -> None:
        for number, log in enumerate(self.logs):
            self.acknowledged[number] = max(self.acknowledged[number], log.flushed_offset)
            log.high_watermark = log.flushed_offset

    async def lose_power(self, seed: int) -> None:
        self.note_acknowledged()
        await self.spawn.close()
        self.disk.lose_power(random.Random(seed))
        await self.open()

    async def restart(self) -> None:
        await self.directory.close()
        self.note_acknowledged()
        await self.open()
        assert self.directory.was_clean

    async def step(self, what: str, *args: int) -> None:
        match what:
            case "append":
                self.append(*args)
            case "turn":
                for _ in range(args[0]):
                    await asyncio.sleep(0)
            case "settle":
                await self.directory.flusher.settle()
            case "checkpoint":
                self.note_acknowledged()
                await self.directory.checkpoint()
            case "delete records":
                self.logs[0].delete_records(self.logs[0].high_watermark // 2)
            case "lose power":
                await self.lose_power(*args)
            case "restart":
                await self.restart()
        self.note_acknowledged()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_nothing_flushed_is_ever_lost(script: list[tuple[object, ...]]) -> None:
    async def play() -> None:
        scenario = Scenario()
        await scenario.open()
        for step in script:
            await scenario.step(*step)  # type: ignore[arg-type]
        await scenario.lose_power(1)
        await scenario.spawn.close()
        assert not scenario.spawn.errors

    asyncio.run(play())


async def opened(disk: FakeDisk, **options: object) -> tuple[LogDirectory, PartitionLog, list[str]]:
    failures: list[str] = []
    directory = await LogDirectory.open(
        disk, "data", node_id=1, clock=ManualClock(), rng=SeededRng(), spawn=Spawned(),
        on_failure=failures.append, **options,
    )  # type: ignore[arg-type]  # fmt: skip
    return directory, await directory.open_partition("t", TOPIC_ID, 0, CONFIG), failures


async def test_a_failed_flush_is_never_tried_again() -> None:
    disk = FakeDisk()
    directory, log, failures = await opened(disk)
    other = await directory.open_partition("u", TOPIC_ID, 0, CONFIG)
    log.append([batch(b"a")], leader_epoch=0)
    await directory.flusher.settle()
    disk.failing = OSError(errno.EIO, "Input/output error")
    log.append([batch(b"b")], leader_epoch=0)
    await directory.flusher.settle()
    flushes = disk.flushes
    assert log.flushed_offset == 1, "nothing is acknowledged after the failure"
    assert len(failures) == 1
    assert "Input/output error" in failures[0]
    for one in (log, other):
        (refused,) = one.append([batch(b"c")], leader_epoch=0)
        assert refused.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert "Input/output error" in one.offline_reason
    await directory.checkpoint()
    await directory.close()
    assert disk.flushes == flushes
    assert "data/.kafka_cleanshutdown" not in disk.names
    late = await directory.open_partition("v", TOPIC_ID, 0, CONFIG)
    assert late.offline_reason


async def test_many_writers_share_one_round_and_few_files_need_no_syncfs() -> None:
    disk = FakeDisk()
    directory, log, _ = await opened(disk)
    logs = [log, *[await directory.open_partition("u", TOPIC_ID, i, CONFIG) for i in range(9)]]
    before = disk.flushes
    for one in logs:
        one.append([batch(b"a")], leader_epoch=0)
    await directory.flusher.settle()
    assert disk.flushes == before + 1
    assert all(one.flushed_offset == 1 for one in logs)


async def test_what_is_appended_during_a_round_belongs_to_the_next() -> None:
    disk = FakeDisk()
    directory, log, _ = await opened(disk)
    flushed: list[int] = []
    log.on_flushed = lambda: flushed.append(log.flushed_offset)
    before = disk.flushes
    log.append([batch(b"a")], leader_epoch=0)
    while disk.flushes == before:
        await asyncio.sleep(0)
    log.append([batch(b"b")], leader_epoch=0)
    await directory.flusher.settle()
    assert flushed == [1, 2]


async def test_relaxed_mode_counts_an_append_as_flushed_and_recovers_a_torn_tail() -> None:
    disk = FakeDisk()
    directory, log, _ = await opened(disk, flush_mode="relaxed")
    log.append([batch(b"a")], leader_epoch=0)
    await directory.flusher.settle()
    log.append([batch(b"b"), batch(b"c")], leader_epoch=0)
    assert (log.flushed_offset, log.recovery_point) == (3, 1)
    log.high_watermark = 3
    directory.flusher.moves += 1
    await directory.checkpoint()
    disk.open("data/t-0/00000000000000000000.log").truncate(80)
    disk.lose_power(random.Random(0))
    _, log, _ = await opened(disk, flush_mode="relaxed")
    assert (log.offline_reason, log.log_end_offset) == ("", 1)


async def test_relaxed_mode_honours_flush_messages_and_flush_ms() -> None:
    disk = FakeDisk()
    directory, log, _ = await opened(disk, flush_mode="relaxed")
    log.append([batch(b"a")], leader_epoch=0)
    await directory.flusher.settle()
    log.config = TopicConfig(flush_messages=3, flush_ms=0)
    log.append([batch(b"b")], leader_epoch=0)
    assert (log.flushed_offset, log.recovery_point) == (2, 1)
    await directory.checkpoint()
    await directory.flusher.settle()
    assert log.recovery_point == 2
    log.append([batch(b"c", b"d", b"e")], leader_epoch=0)
    assert log.flushed_offset == 2, "the third message waits for the device"
    await directory.flusher.settle()
    assert (log.flushed_offset, log.recovery_point) == (5, 5)


@pytest.mark.parametrize(("number", "fails"), [(errno.ENOSPC, False), (errno.EIO, True)])
async def test_a_failed_write_is_cut_off_again(
    number: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FakeDisk()
    directory, log, failures = await opened(disk)
    log.append([sequenced(0)], leader_epoch=0)
    await directory.flusher.settle()
    write = type(disk.open("data/.x", create=True)).write

    def half(self, buffers, position):  # type: ignore[no-untyped-def]
        write(self, [b"".join(buffers)[:50]], position)
        raise OSError(number, "no")

    with monkeypatch.context() as patched:
        patched.setattr("tests.broker.storage.fake_disk.FakeFile.write", half)
        duplicate, refused = log.append([sequenced(0), sequenced(1)], leader_epoch=0)
    assert (duplicate.duplicate, refused.error) == (True, ErrorCode.KAFKA_STORAGE_ERROR)
    assert (bool(failures), log.log_end_offset) == (fails, 1)
    assert len(disk.names["data/t-0/00000000000000000000.log"].data) == log.segments[-1].size  # type: ignore[union-attr]
    if not fails:
        assert log.append([sequenced(1)], leader_epoch=0)[0].base_offset == 1
