"""How many records a slice takes: a millisecond's worth, and not much less when the loop was held up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import pytest

from streamkit.processing.record import RawRecord
from streamkit.processing.tasks.task import Batch, Task, TaskOutput
from streamkit.processing.worker import task_runner
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Arrival
from streamkit.processing.worker.task_runner import SLICE_S, TaskRunner

RECORD_S = 2.0**-20  # about a microsecond, and sums of it are exact
HOLD_UP_S = 0.125


class Clocked:
    """A task that takes a given time for each record, and longer where the loop is held up."""

    failure = None
    behind = False
    in_flight = 0
    agents: Mapping[str, Any] = MappingProxyType({})
    places_looked_up = None
    places = (("t", 0),)

    def __init__(self) -> None:
        self.now_s = 0.0
        self.held_up_s = 0.0
        self.slices: list[int] = []

    def process(self, batch: Batch, now_ms: int) -> TaskOutput:
        self.slices.append(len(batch.records))
        self.now_s += len(batch.records) * RECORD_S + self.held_up_s
        return TaskOutput({}, len(batch.records))


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    task = Clocked()
    monkeypatch.setattr(task_runner, "perf_counter", lambda: task.now_s)
    return task


def run_slices(runner: TaskRunner, count: int) -> None:
    for _ in range(count):
        runner.run_slice(0)


def test_a_slice_is_a_millisecond_of_records_and_survives_a_hold_up(clocked: Clocked) -> None:
    runner = TaskRunner(cast(Task, clocked), cast(Sink, None), lambda: None)
    runner.offer(Arrival("t", 0, cast(Sequence[RawRecord], [None] * 50_000)))
    run_slices(runner, 5)
    settled = clocked.slices[-1]
    assert settled == int(SLICE_S / RECORD_S)
    clocked.held_up_s = HOLD_UP_S  # somebody else had the processor
    run_slices(runner, 1)
    clocked.held_up_s = 0.0
    run_slices(runner, 2)
    assert clocked.slices[-2:] == [settled // 2, settled]
