"""A cluster of brokers on this machine, each a process of its own: `streamkit cluster up`.

The brokers are the ordinary `streamkit broker start`, and end with whoever runs them (`lifeline`). Which
addresses they have is written down beside their data (`cluster.json`), because the log names its voters by
address: the next start on the same directory must use the same ones.

    cluster.json     the brokers and their addresses
    cluster.pid      who runs it, held locked (flock) as long as it runs
    broker-1/        a broker's data
    broker-1.log     what it wrote
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from streamkit.errors import DeadlineError, NotFoundError, RefusedError, StreamkitError, last_words
from streamkit.runtime.os.lifeline import Lifeline

PLAN_FILE, PID_FILE = "cluster.json", "cluster.pid"
CONTROLLER_PORTS_ABOVE = 10_000
VOTERS = 3
START_S = 60.0
STOP_S = 30.0
LINES_TOLD = 40


class LocalBroker(msgspec.Struct, frozen=True, kw_only=True):
    """One broker of the plan; addresses are HOST:PORT. Only voters have a controller's address."""

    node_id: int
    listen: str
    controller_listen: str | None
    http: str | None


def planned(
    count: int, *, listen: tuple[str, int], http: tuple[str, int] | None, data_dir: Path
) -> list[LocalBroker]:
    """The brokers of a directory: as it was founded, else new. Raises RefusedError if the two differ."""
    host, first = listen
    if max(first + count - 1 + CONTROLLER_PORTS_ABOVE, (http or listen)[1] + count) > 65535:
        raise RefusedError(
            f"from port {first} on there are not {count} ports for brokers, and for controllers 10,000 above",
            hint=f"--listen {host}:9092",
        )
    voters = VOTERS if count >= VOTERS else 1  # two voters would stand still when either of them does
    plan = [
        LocalBroker(
            node_id=index + 1,
            listen=f"{host}:{first + index}",
            controller_listen=f"{host}:{first + index + CONTROLLER_PORTS_ABOVE}" if index < voters else None,
            http=f"{http[0]}:{http[1] + index}" if http else None,
        )
        for index in range(count)
    ]
    founded = _read_plan(data_dir)
    if founded is not None and [one.listen for one in founded] != [one.listen for one in plan]:
        raise RefusedError(
            f"{data_dir} holds a cluster of {len(founded)} brokers from {founded[0].listen} on",
            hint=f"streamkit cluster up -n {len(founded)} --listen {founded[0].listen} --data-dir {data_dir}",
        )
    return plan


class LocalCluster:
    """Brokers in the foreground; `run` returns when they have been told to end."""

    def __init__(
        self,
        data_dir: Path,
        plan: Sequence[LocalBroker],
        *,
        settings: Sequence[str] = (),
        say: Callable[[str], None],
    ) -> None:
        self._data_dir = data_dir
        self._plan = plan
        self._settings = settings
        self._say = say
        self._processes: dict[int, Process] = {}
        self._watchers: list[asyncio.Future[None]] = []
        self._signals = 0

    async def run(self) -> int:
        """Start all, tell of each, and wait for SIGTERM (exit 0) or SIGINT (130)."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        with _held_lock(self._data_dir), Lifeline() as self._lifeline:
            (self._data_dir / PLAN_FILE).write_bytes(msgspec.json.encode(self._plan))
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._signalled, number)
            self._code = 0
            try:
                await self._start_all()
                await self._ending.wait()
            finally:
                await self._stop_all()
        return self._code

    async def _start_all(self) -> None:
        starting = asyncio.gather(*(self._start(one) for one in self._plan))
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        ending.cancel()
        starting.result()
        first = self._plan[0].listen
        self._say(f"cluster of {len(self._plan)} ready: streamkit cluster health --bootstrap {first}")

    async def _start(self, one: LocalBroker) -> None:
        """Start a broker and wait until it answers; its end is told, whenever it comes."""
        ready, child_ready = os.pipe()
        lifeline = self._lifeline.child_fd
        out = os.open(self._log(one), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamkit", *self._words(one),
            "--ready-fd", str(child_ready), "--parent-fd", str(lifeline),
            stdin=DEVNULL, stdout=out, stderr=out, pass_fds=(child_ready, lifeline),
            start_new_session=True,  # Ctrl-C comes through us, once
        )  # fmt: skip
        os.close(child_ready)
        os.close(out)
        self._processes[one.node_id] = process
        answered = await _read_line(ready)
        if not answered:
            raise StreamkitError(
                f"broker {one.node_id} did not start: {self._last_words(one)}",
                hint=f"see {self._log(one)}",
            )
        data = self._data_dir / f"broker-{one.node_id}"
        self._say(f"broker {one.node_id} ready at {one.listen}, pid {process.pid}, data in {data}")
        self._watchers.append(asyncio.ensure_future(self._tell_the_end(one, process)))

    def _words(self, one: LocalBroker) -> list[str]:
        words = ["broker", "start", "--node-id", str(one.node_id), "--listen", one.listen]
        words += ["--data-dir", str(self._data_dir / f"broker-{one.node_id}")]
        voters = [
            f"{other.node_id}@{other.controller_listen}" for other in self._plan if other.controller_listen
        ]
        words += ["--voters", ",".join(voters)]
        if one.controller_listen is not None:
            words += ["--controller-listen", one.controller_listen]
        if one.http is not None:
            words += ["--http", one.http]
        for setting in self._settings:
            words += ["--set", setting]
        return words

    async def _tell_the_end(self, one: LocalBroker, process: Process) -> None:
        code = await process.wait()
        if self._ending.is_set():
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        self._say(f"broker {one.node_id} {how}; to have it back: streamkit {shlex.join(self._words(one))}")

    async def _stop_all(self) -> None:
        self._ending.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        async with asyncio.timeout(STOP_S):
            await asyncio.gather(*(process.wait() for process in self._processes.values()))

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        self._code = 130 if number == signal.SIGINT else 0
        self._ending.set()
        if self._signals > 1:
            for process in self._processes.values():
                if process.returncode is None:
                    process.kill()

    def _last_words(self, one: LocalBroker) -> str:
        return last_words(self._log(one).read_text(errors="replace").splitlines()[-LINES_TOLD:])

    def _log(self, one: LocalBroker) -> Path:
        return self._data_dir / f"broker-{one.node_id}.log"


def stop(data_dir: Path) -> None:
    """End the cluster that runs on this directory, and wait for it; raises NotFoundError, DeadlineError."""
    try:
        with open(data_dir / PID_FILE) as file:
            if _locks(file):
                raise NotFoundError(
                    f"no cluster runs on {data_dir}", hint=f"streamkit cluster up --data-dir {data_dir}"
                )
            os.kill(int(file.read()), signal.SIGTERM)
            end_s = time.monotonic() + STOP_S + 5
            while not _locks(file):
                if time.monotonic() > end_s:
                    raise DeadlineError(f"the cluster in {data_dir} has not ended after {STOP_S + 5:g} s")
                time.sleep(0.05)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no cluster in {data_dir}", hint="name its directory with --data-dir"
        ) from None


def _read_plan(data_dir: Path) -> list[LocalBroker] | None:
    try:
        return msgspec.json.decode((data_dir / PLAN_FILE).read_bytes(), type=list[LocalBroker])
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise RefusedError(f"{data_dir}/{PLAN_FILE} cannot be read: {error}") from None


def _held_lock(data_dir: Path) -> TextIO:
    """The open pid file: locked for as long as it is open. Raises RefusedError if another process has it."""
    file = open(data_dir / PID_FILE, "a+")  # noqa: SIM115  # the caller closes it
    if not _locks(file):
        file.close()
        raise RefusedError(
            f"a cluster runs on {data_dir} already", hint=f"streamkit cluster down --data-dir {data_dir}"
        )
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _locks(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _read_line(fd: int) -> bytes:
    """What comes through a pipe until its other end closes, at most `START_S`; the pipe is closed then."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    try:
        async with asyncio.timeout(START_S):
            return await reader.readline()
    except TimeoutError:
        return b""
    finally:
        transport.close()
