"""Several members of one group inside a test: each with an `App` of its own, all on the test's loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import pytest

from streamkit.processing.app import App
from streamkit.processing.worker.member import Member
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.processing.worker.worker import assembled
from streamkit.telemetry.instruments import Registry

WAIT_S = 60.0


class Running:
    """A member at work."""

    def __init__(self, member: Member, task: asyncio.Task[None]) -> None:
        self.member = member
        self.task = task

    async def stop(self) -> None:
        self.member.stop()
        await asyncio.wait_for(self.task, WAIT_S)

    @property
    def tasks(self) -> set[str]:
        """The tasks that it runs."""
        return {runner.task.id for runner in self.member.tasks.ready}


@asynccontextmanager
async def running(app: App, bootstrap: str) -> AsyncIterator[Running]:
    """The app's member while the block lasts; a failure of it is raised at its end unless stopped before."""
    async with assembled(app, Registry(), bootstrap) as member:
        task = asyncio.create_task(member.run())
        try:
            yield Running(member, task)
        finally:
            member.stop()
            await asyncio.wait_for(task, WAIT_S)


async def commits_tried(running: Running, times: int = 3) -> None:
    """So many commits later: whatever could move has moved."""
    committer, tried = running.member.committer, 0
    commit = committer.commit

    async def counted(runners: Collection[TaskRunner]) -> bool:
        nonlocal tried
        done = await commit(runners)
        tried += 1
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committer, "commit", counted)
        await until(lambda: tried >= times, "commits are tried")


async def until(check: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def until_outside(check: Callable[[], bool], what: str = "") -> None:
    """Of what is asked of a broker, and not of a worker here: in a thread, for workers go on meanwhile.

    An offset in an open transaction is not answered before that ends, and this loop may have to end it.
    """
    deadline = time.monotonic() + WAIT_S
    while not await asyncio.to_thread(check):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)
