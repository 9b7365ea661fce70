"""SEMANTICS P2: gaps in offsets, as compaction and transaction markers leave them, hold no commit back.

The client tells where a partition ended (`PARTITION_EOF` carries the position, which is past a trailing
marker), and the task takes that for its own position. `cluster/test_p02_transaction_markers.py` shows the
same on a broker with transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

import streamkit as sk
from streamkit.processing.kafka.source import by_partition
from streamkit.processing.tasks.task import Task
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Arrival
from streamkit.processing.worker.task_runner import TaskRunner

PLACE = ("in", 0)


class Sent:
    """A sink that remembers."""

    full = False

    def __init__(self) -> None:
        self.values: list[bytes | None] = []

    def send(self, topic: str, records: Sequence[Any]) -> None:
        self.values += [record[0] for record in records]

    def serve(self) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


def end_of_partition(offset: int) -> Message:
    """What librdkafka reports behind the last record: no record, but an offset."""
    topic, partition = PLACE
    error = KafkaError(KafkaError._PARTITION_EOF)
    return Message(topic=topic, partition=partition, offset=offset, error=error)


def fetched(*offsets: int) -> list[Message]:
    topic, partition = PLACE
    return [
        Message(topic=topic, partition=partition, offset=o, key=b"k", value=b"%d" % o, timestamp=(1, 0))
        for o in offsets
    ]


def opened(app: sk.App, sink: Sink) -> TaskRunner:
    plan = app.topology().plan({"in": 1})
    task = Task(plan, plan.subtopologies[0], 0)
    runner = TaskRunner(task, sink, lambda: None)
    task.resume(PLACE, None, 0)
    runner.open()
    return runner


def work(runner: TaskRunner, messages: list[Message]) -> None:
    for arrival in by_partition(messages):
        runner.offer(arrival)
    while runner.can_run(0):
        runner.run_slice(0)


@pytest.fixture
def app() -> sk.App:
    app = sk.App("gaps")
    app.stream(app.topic("in", value=int)).to("out")
    return app


async def test_gaps_between_records_and_at_the_end_are_passed(app: sk.App) -> None:
    sink = Sent()
    runner = opened(app, sink)
    work(runner, [*fetched(3, 4, 9), end_of_partition(12)])
    assert sink.values == [b"3", b"4", b"9"]
    assert runner.task.committable(PLACE) == 12
    work(runner, [end_of_partition(15)])  # the end moved and brought no record
    assert runner.task.committable(PLACE) == 15
    assert runner.at_end == {PLACE: 15}


async def test_before_the_end_is_heard_of_the_commit_stands_behind_the_last_record(app: sk.App) -> None:
    runner = opened(app, Sent())
    work(runner, fetched(3, 9))
    assert runner.task.committable(PLACE) == 10


async def test_a_trailing_gap_does_not_pass_a_record_in_flight() -> None:
    app, let_go = sk.App("slow"), asyncio.Event()

    @app.agent(app.topic("in", value=int))
    async def wait(n: int) -> None:
        await let_go.wait()

    runner = opened(app, Sent())
    work(runner, [*fetched(5), end_of_partition(8)])
    assert runner.task.committable(PLACE) == 5
    let_go.set()
    while runner.task.in_flight:
        await asyncio.sleep(0)
    assert runner.task.committable(PLACE) == 8
    await runner.close()


async def test_an_end_behind_a_record_that_waits_for_its_retry_waits_too() -> None:
    app = sk.App("retry")

    @app.agent(app.topic("in", value=int), retry=sk.Retry(1, initial="10s"))
    def fail(n: int) -> None:
        raise ValueError

    runner = opened(app, Sent())
    runner.offer(Arrival(*PLACE, fetched(5), end_offset=8))
    runner.run_slice(0)
    assert not runner.can_run(1)
    assert runner.task.committable(PLACE) in (None, 0, 5)
