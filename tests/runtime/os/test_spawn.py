"""Tasks that belong to somebody: none is lost, neither its failure nor its end."""

from __future__ import annotations

import asyncio

from streamkit.runtime.os.spawn import TaskSpawn


async def test_a_failure_reaches_the_owner() -> None:
    failures: list[tuple[str, BaseException]] = []
    spawn = TaskSpawn(lambda name, error: failures.append((name, error)))

    async def fail() -> None:
        raise ValueError("no")

    task = spawn.start(fail(), name="the one that fails")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert [(name, str(error)) for name, error in failures] == [("the one that fails", "no")]


async def test_closing_cancels_what_runs_and_waits_for_it() -> None:
    ended: list[str] = []
    spawn = TaskSpawn(lambda name, error: ended.append("failed"))

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    task = spawn.start(wait_for_ever(), name="waits")
    await asyncio.sleep(0)
    await spawn.close()
    assert task.done()
    assert ended == ["cleaned up"]
