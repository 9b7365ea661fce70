"""Open and aborted transactions of a log survive rolls, clean stops, crashes and truncation."""

from __future__ import annotations

import pytest

from streamkit.broker.log.append import Origin
from streamkit.broker.log.transactions import AbortedTransaction
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.records.batch import patch
from tests.broker.log.test_transactions import marker, transactional
from tests.broker.storage.conftest import Bench
from tests.broker.storage.support import batch

SMALL = {"segment_bytes": 1024, "index_interval_bytes": 100}


def write(log: PartitionLog, *batches: bytearray) -> None:
    for one in batches:
        (result,) = log.append([one], leader_epoch=0, origin=Origin.COORDINATOR)
        assert not result.error, result


async def filled(bench: Bench) -> tuple[LogDirectory, PartitionLog]:
    """Producer 5 aborts every second transaction, over several segments; producer 6 leaves one open."""
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    for number in range(20):
        write(log, transactional(number), batch(b"x" * 50), marker(committed=number % 2 == 0))
    write(log, transactional(0, producer_id=6), transactional(20), marker(committed=False))
    await directory.flusher.settle()
    log.high_watermark = log.flushed_offset
    assert len(log.segments) > 3
    return directory, log


EXPECTED = [(3 * number, 3 * number + 2) for number in range(1, 20, 2)] + [(61, 62)]


def aborted(log: PartitionLog, start: int = 0, end: int = 1 << 40) -> list[tuple[int, int]]:
    return [(row.first_offset, row.last_offset) for row in log.aborted_transactions(start, end)]


def check(log: PartitionLog) -> None:
    assert aborted(log) == EXPECTED
    assert aborted(log, 10, 16) == [(9, 11), (15, 17)]
    assert log.transactions.ongoing == {6: 60}
    assert log.transactions.last_stable_offset(63) == 60


async def test_aborted_transactions_are_found_over_segments(bench: Bench) -> None:
    _, log = await filled(bench)
    check(log)
    last = list(log.aborted_transactions(60, 63))
    assert last == [AbortedTransaction(5, 61, 62, 60)]


@pytest.mark.parametrize("clean", [True, False])
async def test_they_survive_a_restart(bench: Bench, clean: bool) -> None:
    directory, _ = await filled(bench)
    if clean:
        await directory.close()
        bench.opened.remove(directory)
    else:
        bench.crash(directory)
    for _ in range(2):
        directory = await bench.directory()
        log = await bench.log(directory, **SMALL)
        check(log)
        bench.crash(directory)


async def test_a_crash_after_a_clean_stop_in_the_middle_of_a_segment_keeps_both_halves(bench: Bench) -> None:
    directory, _ = await filled(bench)
    await directory.close()
    bench.opened.remove(directory)
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    write(log, transactional(21), marker(committed=False))
    await directory.flusher.settle()
    bench.crash(directory)
    log = await bench.log(await bench.directory(), **SMALL)
    assert aborted(log) == [*EXPECTED, (63, 64)]


async def test_truncation_opens_again_what_it_takes_the_marker_of(bench: Bench) -> None:
    directory, log = await filled(bench)
    await log.truncate_to(29)  # the marker that aborted [27, 29)
    assert aborted(log) == [one for one in EXPECTED if one[1] < 29]
    assert log.transactions.ongoing == {5: 27}
    write(log, marker(committed=False))
    await directory.flusher.settle()
    bench.crash(directory)
    log = await bench.log(await bench.directory(), **SMALL)
    assert aborted(log) == [one for one in EXPECTED if one[1] <= 29]


async def test_index_files_go_with_their_segments(bench: Bench) -> None:
    _, log = await filled(bench)
    assert list((bench.path / "t-0").glob("*.txnindex"))
    log.delete_records(60)
    bases = {f"{segment.base_offset:020d}" for segment in log.segments}
    assert {path.stem for path in (bench.path / "t-0").glob("*.txnindex")} <= bases
    assert aborted(log, 60) == [(61, 62)]


async def test_replicated_batches_tell_the_same(bench: Bench) -> None:
    directory = await bench.directory()
    log = await bench.log(directory, **SMALL)
    batches = [transactional(0), transactional(1), marker(committed=False), transactional(2)]
    for offset, one in enumerate(batches):
        patch(one, offset, 0)
    log.append_replicated(batches)
    assert aborted(log) == [(0, 2)]
    assert log.transactions.ongoing == {5: 3}
