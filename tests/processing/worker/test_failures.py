"""The last words of a worker whose task failed: where, why, in which line of the user's, and what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import streamkit as sk
from streamkit.errors import RefusedError
from streamkit.processing.tasks.settlement import TaskFailure
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker.agents import AgentRunner
from streamkit.processing.worker.failures import MEND, explained


def failure(error: Exception) -> TaskFailure:
    return TaskFailure("shop-map", error, ("orders", 3), 47)


def test_an_error_of_the_users_names_the_users_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text("import json\n\ndef decode(text):\n    return json.loads(text)\n")
    shop = ModuleType("shop")
    exec(compile(path.read_text(), str(path), "exec"), vars(shop))  # noqa: S102
    try:
        shop.decode("{")
    except ValueError as error:
        told = explained(failure(error))
    assert told.message.startswith("shop-map failed at orders-3, offset 47: JSONDecodeError: ")
    assert told.message.endswith(f" ({path}, line 4)")
    assert told.hint == MEND


def test_an_error_of_ours_keeps_its_own_advice() -> None:
    told = explained(failure(RefusedError("written at another key", hint="group_by first")))
    assert told.message == "shop-map failed at orders-3, offset 47: written at another key"
    assert told.hint == "group_by first"


def test_a_failure_without_a_record_has_no_place() -> None:
    told = explained(TaskFailure("shop-process", KeyError("x"), None, None))
    assert told.message == "shop-process failed: KeyError: 'x'"


async def test_an_agent_whose_awaitable_is_cancelled_ends_the_worker_instead_of_falling_silent() -> None:
    """No error of a record, no result: commits would wait for it for ever."""
    app = sk.App("cancelled-inside")

    @app.agent(app.topic("in", key=str, value=int), sink="out")
    async def ask(n: int) -> int:
        answer = asyncio.get_running_loop().create_future()
        answer.cancel()
        return int(await answer)

    plan, moved = app.topology().plan({"in": 1}), asyncio.Event()
    task = Task(plan, plan.subtopologies[0], 0)
    task.resume(("in", 0), None, None)
    task.start()
    runner = AgentRunner(task, moved.set)
    runner.start()
    task.process(Batch("in", 0, [StoredRecord(("in", 0, 0), (b"k", b"1"), 0)]), 0)
    runner.wake()
    async with asyncio.timeout(20):
        await moved.wait()
    assert "ask-0_0 was cancelled, and not by the worker" in str(runner.failure)
    await runner.stop()
