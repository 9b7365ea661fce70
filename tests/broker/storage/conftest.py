"""Directories and logs to test with: a clock set by hand, seeded randomness, tasks that must not fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.broker.topic_config import TopicConfig
from streamkit.runtime.os.disk import OsDisk
from tests.broker.storage.support import ManualClock, SeededRng, Spawned

TOPIC_ID = b"topic-id-16bytes"


class Bench:
    """Opens the directory at `path`, again and again, with what the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.disk = OsDisk()
        self.spawn = Spawned()
        self.failures: list[str] = []
        self.opened: list[LogDirectory] = []

    async def directory(self, **options: object) -> LogDirectory:
        directory = await LogDirectory.open(
            self.disk, str(self.path), node_id=1, clock=self.clock, rng=SeededRng(), spawn=self.spawn,
            on_failure=self.failures.append, **options,
        )  # type: ignore[arg-type]  # fmt: skip
        self.opened.append(directory)
        return directory

    async def log(self, directory: LogDirectory, topic: str = "t", **config: object) -> PartitionLog:
        return await directory.open_partition(topic, TOPIC_ID, 0, TopicConfig(**config))  # type: ignore[arg-type]

    def crash(self, directory: LogDirectory) -> None:
        """Let go of the lock as the death of the process does; nothing else is tidied up."""
        directory._lock.release()
        self.opened.remove(directory)

    async def restart(self, directory: LogDirectory, **config: object) -> tuple[LogDirectory, PartitionLog]:
        """Close cleanly and open again."""
        await directory.close()
        self.opened.remove(directory)
        again = await self.directory()
        return again, await self.log(again, **config)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "data")
    yield bench
    for directory in bench.opened:
        await directory.close()
    await bench.spawn.close()
    bench.disk.close()
    assert not bench.spawn.errors
