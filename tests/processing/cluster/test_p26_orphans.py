"""P26: what a killed worker left in its changelog is not state, neither for its heir nor for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import RefusedError
from streamkit.processing.kafka import changelog_reader
from streamkit.processing.kafka.changelog_reader import KafkaChangelogReader
from streamkit.processing.partitioner import partition_for
from streamkit.processing.record import RawRecord
from streamkit.processing.worker.source import Partition
from tests.processing.cluster.members import running, until, until_outside
from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).with_name("jobs") / "counting.py"


def counting(name: str) -> tuple[sk.App, sk.Table[str, int]]:
    app = sk.App(name, commit_interval="100ms")
    counts = app.table("counts", key=str, default=int)

    @app.agent(app.topic(f"{name}-in", key=str, partitions=1))
    def count(value: Any, record: sk.Record[str]) -> None:
        counts[record.key] += 1

    return app, counts


async def test_orphans_are_repaired_by_the_first_commit(outside: Outside, name: str) -> None:
    changelog = f"{name}-counts-changelog"
    outside.create(f"{name}-in", 1)
    outside.create(changelog, 1)
    outside.send(changelog, [7, 8], key=lambda n: f"key-{n}")  # of a worker that died before its first commit
    outside.send(f"{name}-in", [1, 2], key=lambda _: "key-7")
    app, counts = counting(name)
    async with running(app, outside.bootstrap):
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [2])
    assert {key: value for key, value, _ in outside.read(changelog)} == {b"key-7": 2, b"key-8": None}

    outside.send(changelog, [99], key=lambda _: "key-7")  # and of one that died after that
    outside.send(f"{name}-in", [1], key=lambda _: "key-9")
    app, counts = counting(name)
    async with running(app, outside.bootstrap):
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [3])
        assert dict(counts) == {"key-7": 2, "key-9": 1}
    app, counts = counting(name)
    async with running(app, outside.bootstrap) as member:
        await until(lambda: bool(member.tasks))
        assert dict(counts) == {"key-7": 2, "key-9": 1}


def test_a_worker_restores_what_it_committed_and_not_what_a_former_owner_wrote(
    outside: Outside, name: str, tmp_path: Path
) -> None:
    known, unknown, third = islice((f"key-{n}" for n in count() if partition_for(b"key-%d" % n, 4) == 0), 3)
    changelog = f"{name}-counts-changelog"
    with WorkerProcess(JOB, outside.bootstrap, cwd=tmp_path, JOB=name) as worker:
        worker.said("task started", times=4)
        outside.send(f"{name}-words", ["a", "b"], key=lambda _: known)
        outside.caught_up(name, f"{name}-words")
        outside.send(changelog, [known, unknown], key=str)
        outside.send(f"{name}-words", ["a"], key=lambda _: third)
        worker.said("rows of a former owner outdone", '"keys":2')
        assert worker.stop() == 0
    rows = {key: value for key, value, _ in outside.read(changelog)}
    assert rows == {known.encode(): 2, unknown.encode(): None, third.encode(): 1}
    with worker:
        outside.send(f"{name}-words", ["c"], key=lambda _: known)
        eventually(lambda: (known.encode(), 3) in [row[:2] for row in outside.read(f"{name}-report")])


async def test_a_changelog_that_lacks_what_was_committed_is_refused(outside: Outside, name: str) -> None:
    outside.create(name, 1)
    with pytest.raises(RefusedError, match=f"{name}-0 ends at 0, but 5 is committed"):
        await KafkaChangelogReader(outside.bootstrap, {}).spans({(name, 0): 5})


async def test_a_changelog_that_is_gone_is_named(
    outside: Outside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog_reader, "MISSING_S", 0.5)
    with pytest.raises(RefusedError, match=f"{name}-0 does not exist"):
        await KafkaChangelogReader(outside.bootstrap, {}).spans({(name, 0): 5})


async def test_a_restore_can_be_given_up_at_any_time(outside: Outside, name: str) -> None:
    outside.create(name, 1)
    outside.send(name, range(20_000), key=str)
    reader = KafkaChangelogReader(outside.bootstrap, {})
    begun = asyncio.Event()

    def apply(place: Partition, records: Sequence[RawRecord]) -> None:
        begun.set()

    for wait_s in (0.0, 0.05):
        looking = asyncio.create_task(reader.spans({(name, 0): 0}))
        await asyncio.sleep(wait_s)
        looking.cancel()
        await asyncio.wait([looking])
    reading = asyncio.create_task(reader.read({(name, 0): (0, 20_000)}, apply))
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
