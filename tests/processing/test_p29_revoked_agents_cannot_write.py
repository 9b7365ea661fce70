"""SEMANTICS P29, the driver's half: what completes after its task is gone neither acknowledges nor writes."""

from __future__ import annotations

import asyncio

import pytest

import streamkit as sk
from streamkit.errors import RefusedError
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.agents import AgentRunner


async def test_a_late_completion_is_refused() -> None:
    app = sk.App("revoke")
    topic = app.topic("in", key=str, value=int)
    table = app.table("table", default=int, key=str)
    begun, outcome = asyncio.Event(), []

    @app.agent(topic)
    async def write(n: int, record: sk.Record[str]) -> None:
        table[record.key] = n
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            try:
                table[record.key] = 99
            except RefusedError as error:
                outcome.append(error)
            raise

    plan = app.topology().plan({})
    task = Task(plan, plan.subtopologies[0], 0)
    task.resume(("in", 0), None, 0)
    task.start()
    runner = AgentRunner(task, lambda: None)
    runner.start()
    task.process(Batch("in", 0, [StoredRecord(("in", 0, 0), (b"k", b"1"), 0)]), 0)
    runner.wake()
    await begun.wait()
    assert task.committable(("in", 0)) == 0
    assert not task.can_checkpoint(), "state waits for the record in hand"
    task.close()
    await runner.stop()
    assert len(outcome) == 1
    with pytest.raises(RefusedError):
        table["k"] = 1
