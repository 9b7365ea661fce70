"""Closed segments that recovery does not read: damage is found by a read or a look, and never served."""

from __future__ import annotations

import asyncio

import pytest

from streamkit.broker.storage.errors import LogOfflineError
from streamkit.broker.storage.partition_log import PartitionLog
from tests.broker.storage.conftest import Bench
from tests.broker.storage.test_partition_log import read_all
from tests.broker.storage.test_recovery import flip_bit, reopened, segment_files, written


async def no_pause() -> None:
    await asyncio.sleep(0)


async def with_a_flipped_bit(bench: Bench, *, cleanly: bool) -> PartitionLog:
    """In the middle of the first of several segments, while nobody has the log open."""
    await written(bench, checkpointed=True)
    if cleanly:
        await reopened(bench)
        await bench.opened.pop().close()
    first, *_ = segment_files(bench)
    flip_bit(first, first.stat().st_size // 2)
    return await reopened(bench)


@pytest.mark.parametrize("cleanly", [False, True])
async def test_a_look_finds_it(bench: Bench, cleanly: bool) -> None:
    log = await with_a_flipped_bit(bench, cleanly=cleanly)
    assert not log.offline_reason
    await log.check_segments(no_pause)
    assert log.is_damaged
    assert "damaged at offset" in log.offline_reason


@pytest.mark.parametrize("cleanly", [False, True])
async def test_a_read_finds_it_and_gives_nothing_out(bench: Bench, cleanly: bool) -> None:
    log = await with_a_flipped_bit(bench, cleanly=cleanly)
    assert log.read(0, max_bytes=1 << 20, end_offset=log.log_end_offset) is None
    with pytest.raises(LogOfflineError):
        await log.read_cold(0, max_bytes=1 << 20, end_offset=log.log_end_offset)
    assert log.is_damaged


async def test_what_is_whole_is_looked_at_once(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    log = await reopened(bench)
    assert not all(segment.is_checked for segment in log.segments)
    await log.check_segments(no_pause)
    assert all(segment.is_checked for segment in log.segments)
    assert len(read_all(log)) == 60


async def test_segments_that_go_meanwhile_are_no_damage(bench: Bench) -> None:
    await written(bench, checkpointed=True)
    log = await reopened(bench)
    log.high_watermark = log.log_end_offset

    async def delete() -> None:
        log.delete_records(log.log_end_offset)

    await log.check_segments(delete)
    assert not log.offline_reason


async def test_a_quarantined_log_is_kept_and_its_name_begins_anew(bench: Bench) -> None:
    log = await with_a_flipped_bit(bench, cleanly=False)
    await log.check_segments(no_pause)
    directory = bench.opened[-1]
    damaged = await directory.quarantine(log)
    assert damaged.endswith("-damaged")
    assert sorted(bench.path.glob("t-0.*-damaged/*.log"))
    anew = await bench.log(directory)
    assert (anew.log_start_offset, anew.log_end_offset, anew.offline_reason) == (0, 0, "")
    await bench.opened.pop().close()
    again = await bench.log(await bench.directory())
    assert (again.log_end_offset, again.offline_reason) == (0, "")
    assert sorted(bench.path.glob("t-0.*-damaged/*.log")), "a start removes nothing of it"
