"""What a loss of power leaves: what was flushed, and a part of what was not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from streamkit.simulation.disk import Image, SimulatedDisk
from streamkit.simulation.loop import virtual_loop
from streamkit.simulation.owner import Owner, PoweredOffError
from streamkit.simulation.trace import Trace

Scenario = Callable[[Image, SimulatedDisk], Awaitable[None]]


def with_disk(scenario: Scenario, seed: int = 1) -> None:
    with virtual_loop() as loop:
        image = Image(loop, Random(seed), Trace(loop))
        disk = SimulatedDisk(image, Owner("node"))
        loop.run_until_complete(asyncio.ensure_future(scenario(image, disk), loop=loop))


def reborn(image: Image) -> SimulatedDisk:
    image.release_locks()
    return SimulatedDisk(image, Owner("node again"))


async def settled_file(disk: SimulatedDisk, path: str, data: bytes) -> None:
    disk.make_directory("/data")
    file = disk.open(path, create=True)
    file.write([data], 0)
    await disk.flush([file], ["/data", "/"])


def test_what_was_flushed_is_there() -> None:
    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        await settled_file(disk, "/data/log", b"flushed")
        disk.open("/data/log").write([b"pending"], 7)
        image.lose_power()
        assert reborn(image).read_file("/data/log").startswith(b"flushed")

    for seed in range(20):
        with_disk(scenario, seed)


def test_a_name_is_durable_only_after_its_directory() -> None:
    survived = set()

    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        await settled_file(disk, "/data/log", b"")
        file = disk.open("/data/new", create=True)
        file.write([b"x"], 0)
        await disk.flush([file], [])
        image.lose_power()
        survived.add("new" in reborn(image).entries("/data"))

    for seed in range(20):
        with_disk(scenario, seed)
    assert survived == {True, False}


def test_pending_sectors_survive_in_any_combination() -> None:
    patterns = set()

    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        await settled_file(disk, "/data/log", b"")
        image.conditions.torn = 0.0
        disk.open("/data/log").write([b"x" * 512 * 4], 0)
        image.lose_power()
        data = reborn(image).read_file("/data/log")
        patterns.add(tuple(data[at : at + 512] == b"x" * 512 for at in range(0, 512 * 4, 512)))

    for seed in range(100):
        with_disk(scenario, seed)
    assert (False, False, False, False) in patterns and (True, True, True, True) in patterns
    assert any(not pattern[0] and pattern[-1] for pattern in patterns), "never out of order"


def test_what_is_written_over_with_the_same_bytes_is_never_lost() -> None:
    """A torn sector has what was there before; zeros only where nothing was."""

    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        content = bytes(range(1, 251)) * 10
        await settled_file(disk, "/data/log", content)
        image.conditions.torn = 1.0
        disk.open("/data/log").write([content[300:] + b"new"], 300)
        image.lose_power()
        assert reborn(image).read_file("/data/log").startswith(content)

    for seed in range(50):
        with_disk(scenario, seed)


def test_a_replacement_is_whole_or_not_there() -> None:
    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        await settled_file(disk, "/data/point", b"old")
        running = asyncio.ensure_future(disk.replace("/data/point", b"new"))
        await asyncio.sleep(image.random.uniform(0, 0.006))
        done = running.done()
        image.lose_power()
        found = reborn(image).read_file("/data/point")
        assert found == b"new" or (not done and found == b"old")
        running.cancel()

    for seed in range(50):
        with_disk(scenario, seed)


def test_a_flush_after_a_failed_one_succeeds_over_what_is_lost() -> None:
    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        await settled_file(disk, "/data/log", b"old")
        file = disk.open("/data/log")
        file.write([b"new"], 0)
        image.conditions.failing_flushes = 1
        with pytest.raises(OSError):
            await disk.flush([file], [])
        await disk.flush([file], [])
        assert disk.read_file("/data/log") == b"new"
        image.lose_power()
        assert reborn(image).read_file("/data/log") == b"old"

    with_disk(scenario)


def test_what_is_written_during_a_flush_is_not_part_of_it() -> None:
    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        await settled_file(disk, "/data/log", b"")
        file = disk.open("/data/log")
        file.write([b"a"], 0)
        first = asyncio.ensure_future(disk.flush([file], []))
        await asyncio.sleep(0.00005)
        second = asyncio.ensure_future(disk.flush([file], []))
        await asyncio.sleep(0.00005)
        file.write([b"b"], 1)
        await asyncio.gather(first, second)
        assert bytes(file.inode.durable) == b"a"

    with_disk(scenario)


def test_the_dead_reach_nothing_and_a_lock_ends_with_its_process() -> None:
    async def scenario(image: Image, disk: SimulatedDisk) -> None:
        disk.make_directory("/data")
        disk.lock("/data/.lock")
        with pytest.raises(BlockingIOError):
            disk.lock("/data/.lock")
        disk.owner.die()
        with pytest.raises(PoweredOffError):
            disk.open("/data/.lock")
        reborn(image).lock("/data/.lock")

    with_disk(scenario)
