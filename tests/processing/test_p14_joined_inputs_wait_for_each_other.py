"""SEMANTICS P14: of two joined inputs, one that is empty here but lags is waited for; one at its end, not."""

from __future__ import annotations

import json
from typing import Any

import streamkit as sk
from streamkit.processing.tasks import intake
from streamkit.processing.tasks.intake import Intake
from streamkit.processing.tasks.task import Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.source import Arrival
from streamkit.processing.worker.task_runner import TaskRunner

ROWS, STREAM = ("rows", 0), ("stream", 0)


class Outputs:
    """A sink that remembers."""

    full = False

    def __init__(self) -> None:
        self.values: list[Any] = []

    def send(self, topic: str, records: Any) -> None:
        self.values += [json.loads(value) for value, *_ in records]


def arrival(place: tuple[str, int], *records: tuple[int, Any], end: int | None = None) -> Arrival:
    stored = [
        StoredRecord((*place, offset), (b"k", json.dumps(value).encode()), time_ms)
        for offset, (time_ms, value) in enumerate(records)
    ]
    return Arrival(*place, stored, end)


def build() -> tuple[TaskRunner, Outputs]:
    app = sk.App("waits")
    rows = app.table_from(app.topic("rows", key=str))
    app.stream(app.topic("stream", key=str)).join(rows, lambda a, b: (a, b), how="left").to("out")
    plan = app.topology().plan({})
    task = Task(plan, plan.subtopologies[0], 0)
    for place in task.places:
        task.resume(place, "", 0)
    sink = Outputs()
    runner = TaskRunner(task, sink, lambda: None)  # type: ignore[arg-type]
    task.start()
    runner.ready = True
    return runner, sink


def run(runner: TaskRunner) -> None:
    while runner.can_run(0):
        runner.run_slice(0)


def test_one_that_lags_is_waited_for() -> None:
    runner, sink = build()
    runner.offer(arrival(STREAM, (10, "a"), (30, "b"), end=2))
    run(runner)
    assert sink.values == [] and runner.waits_for_input
    runner.offer(arrival(ROWS, (10, "row"), (20, "newer"), (40, "newest")))
    run(runner)
    assert sink.values == [["a", "row"], ["b", "newer"]], "each record with the row of its time"


def test_one_that_is_caught_up_is_not_waited_for() -> None:
    runner, sink = build()
    runner.offer(arrival(ROWS, end=0))
    runner.offer(arrival(STREAM, (10, "a")))
    run(runner)
    assert sink.values == [["a", None]]


def test_what_is_held_back_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "MOST_HELD", 3)
    runner, sink = build()
    runner.offer(arrival(STREAM, (10, "a"), (30, "b")))
    run(runner)
    assert sink.values == []
    runner.offer(arrival(STREAM, (40, "c")))
    runner.run_slice(0)
    assert len(sink.values) >= 1


def test_without_an_order_arrivals_go_as_they_came() -> None:
    waiting = Intake()
    for place, time_ms in ((STREAM, 50), (ROWS, 10), (STREAM, 60)):
        waiting.offer(arrival(place, (time_ms, time_ms)))
    seen = []
    while (place := waiting.turn(())) is not None:
        [record] = waiting.records(place, 10)
        seen.append(record.timestamp()[1])
        waiting.took(place, 1)
    assert seen == [50, 10, 60] and waiting.queued == 0
