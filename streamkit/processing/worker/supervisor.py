"""Keeps N worker processes running: what crashes is started again, ever more slowly while it keeps crashing.

A worker that cannot work whoever starts it (a wrong word, a missing topic, a refusal) says so by its exit
code and ends the whole group with that code. So does a broker that none of them finds as they start; where
one finds it, the others are started again until they do. The first SIGTERM or SIGINT asks all workers to
drain, the second kills them. Workers end with their supervisor, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from subprocess import DEVNULL

import structlog

from streamkit.errors import INTERRUPTED, BrokerUnreachableError, NotFoundError, RefusedError, UsageError
from streamkit.runtime.os.lifeline import LIFELINE_VARIABLE, Lifeline
from streamkit.telemetry.instruments import Registry

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0  # a worker that ran so long starts again without delay
HOPELESS = {error.exit_code for error in (UsageError, NotFoundError, RefusedError)}

log = structlog.get_logger("supervisor")


class Supervisor:
    """Runs each command as a process of its own; `run` returns the exit code of the group.

    `inherited`: for each command the descriptors that its processes are given, one after the other.
    """

    def __init__(
        self,
        app_id: str,
        commands: Sequence[Sequence[str]],
        inherited: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.registry = Registry()
        restarts = self.registry.counter(
            "worker_restarts_total",
            "Workers that ended by themselves and were started again",
            ["app", "slot"],
        )
        self._restarts = [restarts.labels(app_id, str(slot)) for slot in range(len(commands))]
        self._commands = commands
        self._inherited = inherited or [()] * len(commands)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._unreached: set[int] = set()  # slots whose first worker found no broker
        self._lifeline = Lifeline()
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            await asyncio.gather(*(self._keep(slot) for slot in range(len(self._commands))))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            self._lifeline.close()
        return self._code

    def not_ready(self) -> list[str]:
        """Which workers are down, a sentence each."""
        return [
            f"worker {slot} is down" for slot in range(len(self._commands)) if slot not in self._processes
        ]

    async def _keep(self, slot: int) -> None:
        """One worker, again and again."""
        pause_s = 0.0
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            code = await self._run_once(slot)
            if self._stopping.is_set():
                return
            steady = asyncio.get_running_loop().time() - started > STEADY_S
            if code == BrokerUnreachableError.exit_code and not pause_s:
                hopeless = steady or self._nobody_reaches(slot)
            else:
                hopeless = code == 0 or code in HOPELESS
            if hopeless:
                self._stop_all(code)
                return
            pause_s = FIRST_PAUSE_S if steady or not pause_s else min(pause_s * 2, LONGEST_PAUSE_S)
            self._restarts[slot].value += 1
            log.warning("worker ended, starting it again", slot=slot, exit_code=code, pause_s=pause_s)
            await self._stopping_within(pause_s)

    def _nobody_reaches(self, slot: int) -> bool:
        """The first worker of this slot found no broker. Nor did those of the others?"""
        self._unreached.add(slot)
        return len(self._unreached) == len(self._commands)

    async def _run_once(self, slot: int) -> int:
        fd = self._lifeline.child_fd
        process = await asyncio.create_subprocess_exec(
            *self._commands[slot],
            stdin=DEVNULL,
            pass_fds=(fd, *self._inherited[slot]),
            env={**os.environ, LIFELINE_VARIABLE: str(fd)},
            start_new_session=True,  # Ctrl-C comes through us, once
        )
        self._processes[slot] = process
        log.info("worker started", slot=slot, pid=process.pid)
        if self._stopping.is_set():  # while it was being made, so that nobody has told it
            _send(process, signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            del self._processes[slot]

    async def _stopping_within(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _signalled(self, number: signal.Signals) -> None:
        code = INTERRUPTED if number == signal.SIGINT else 0
        if self._stopping.is_set():
            self._code = code or 1  # as of a worker that is told twice
            self._send(signal.SIGKILL)
        else:
            self._stop_all(code)

    def _stop_all(self, code: int) -> None:
        if not self._stopping.is_set():
            self._code = code
            self._stopping.set()
            self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            _send(process, number)


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended, and we have yet to hear of it
        process.send_signal(number)
