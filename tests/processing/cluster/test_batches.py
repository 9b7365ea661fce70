"""A batch that waits for more holds up nobody: no commit of a transaction and no partitions that leave."""

from __future__ import annotations

import streamkit as sk
from tests.processing.cluster.members import running, until, until_outside
from tests.support.worker_process import Outside

PARTITIONS = 2


def patient_app(name: str, **options: str) -> sk.App:
    app = sk.App(name, commit_interval="100ms", **options)  # type: ignore[arg-type]

    @app.agent(app.topic(f"{name}-in", key=str, value=int, partitions=PARTITIONS), sink=f"{name}-out")
    @sk.batch(1_000, max_wait="1h")
    async def store(values: list[int]) -> list[int]:
        return values

    return app


def committed(outside: Outside, name: str) -> int:
    return sum(max(0, offset) for offset in outside.committed(name, f"{name}-in"))


async def test_a_transaction_ends_the_waiting(outside: Outside, name: str) -> None:
    outside.create(f"{name}-in", PARTITIONS)
    outside.send(f"{name}-in", range(20), str)
    async with running(patient_app(name, guarantee="exactly_once"), outside.bootstrap):
        await until_outside(lambda: committed(outside, name) >= 20)
    assert sorted(value for _, value, _ in outside.read(f"{name}-out")) == list(range(20))


async def test_partitions_that_leave_end_the_waiting(outside: Outside, name: str) -> None:
    outside.create(f"{name}-in", PARTITIONS)
    outside.send(f"{name}-in", range(20), str)
    ends = outside.ends(f"{name}-in")
    async with running(patient_app(name), outside.bootstrap) as first:
        tasks = first.member.tasks
        await until(lambda: sum(r.task.in_flight for r in tasks) == 20)
        async with running(patient_app(name), outside.bootstrap) as second:
            await until(lambda: len(second.tasks) == 1)
            gone = int(next(iter(second.tasks)).partition("_")[2])
            await until_outside(lambda: committed(outside, name) == ends[gone])
            assert len(outside.read(f"{name}-out")) == ends[gone]
    assert sorted(value for _, value, _ in outside.read(f"{name}-out")) == list(range(20))
    assert committed(outside, name) == 20
