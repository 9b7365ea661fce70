"""What closes at once is told in portions: slices go on without further records, commits find room."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.processing.tasks.task import Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.source import Arrival
from streamkit.processing.worker.task_runner import TaskRunner
from tests.processing.worker.test_results_before_offsets import Sent


@pytest.mark.usefixtures("spilling")
async def test_a_runner_goes_on_until_all_is_told() -> None:
    app = sk.App("portions")
    windows = app.stream(app.topic("in", key=str, value=int)).window(sk.tumbling("1s"))
    windows.aggregate(n=sk.Count()).to("out")
    plan = app.topology().plan({})
    task, sink = Task(plan, plan.subtopologies[0], 0), Sent()
    task.resume(("in", 0), None, 0)
    runner = TaskRunner(task, sink, lambda: None)
    runner.open()
    records = [StoredRecord(("in", 0, n), (b"k%d" % n, b"1"), 0) for n in range(7)]
    records.append(StoredRecord(("in", 0, 7), (b"late", b"1"), 5_000))
    runner.offer(Arrival("in", 0, records))
    runner.run_slice(0)
    slices = 0
    while runner.can_run(0):
        assert task.behind and task.can_checkpoint()
        told = len(sink.values)
        runner.at_barrier = True
        assert not runner.can_run(0)
        runner.at_barrier = False
        runner.run_slice(0)
        assert len(sink.values) - told <= 2
        slices += 1
    assert (len(sink.values), slices, task.behind) == (7, 3, False)
    await runner.close()
