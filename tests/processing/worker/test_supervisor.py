"""Whoever is asked to end hears of it: while it is being made, and beside one that has just ended."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import pytest

from streamkit.errors import BrokerUnreachableError
from streamkit.processing.worker.supervisor import Supervisor

WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]


async def test_a_worker_that_is_being_made_as_the_group_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    make = asyncio.create_subprocess_exec

    async def interrupted(*args: Any, **options: Any) -> asyncio.subprocess.Process:
        made = await make(*args, **options)
        supervisor._signalled(signal.SIGTERM)
        return made

    monkeypatch.setattr(asyncio, "create_subprocess_exec", interrupted)
    supervisor = Supervisor("app", [WAITS])
    running = asyncio.create_task(supervisor.run())
    try:
        assert await asyncio.wait_for(asyncio.shield(running), 20) == 0
    finally:
        supervisor._send(signal.SIGKILL)
        await running


async def test_workers_that_end_at_one_moment_are_no_failure_of_the_supervisor() -> None:
    """One says that nobody can work; another has said so, too, and is not there any more to be told."""

    class Ended:
        def send_signal(self, _: int) -> None:
            raise ProcessLookupError

    class Runs:
        told = 0

        def send_signal(self, number: int) -> None:
            self.told = number

    runs: Any = Runs()
    ended: Any = Ended()
    supervisor = Supervisor("app", [WAITS, WAITS])
    supervisor._processes = {0: ended, 1: runs}
    supervisor._stop_all(2)
    assert runs.told == signal.SIGTERM


NO_BROKER = ["sh", "-c", f"exit {BrokerUnreachableError.exit_code}"]


async def test_where_no_worker_finds_a_broker_the_group_ends_as_one_worker_does() -> None:
    async with asyncio.timeout(20):
        assert await Supervisor("app", [NO_BROKER] * 3).run() == BrokerUnreachableError.exit_code


async def test_where_others_are_at_work_a_worker_that_finds_no_broker_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They wait for brokers that are away for a while; it does, too."""
    monkeypatch.setattr("streamkit.processing.worker.supervisor.FIRST_PAUSE_S", 0.01)
    supervisor = Supervisor("app", [WAITS, NO_BROKER])
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(20):
            while supervisor._restarts[1].value < 2 and not running.done():
                await asyncio.sleep(0.005)
        assert not running.done() and 0 in supervisor._processes
    finally:
        supervisor._signalled(signal.SIGTERM)
        await running
