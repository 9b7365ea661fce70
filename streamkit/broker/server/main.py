"""The process around a node: event loop, signals, limits of the system, and the word that it is ready.

A broker runs until SIGTERM (exit 0), SIGINT (130), a failure, or, embedded in another program, until that
program's end of a pipe closes. A second signal does not wait for anything.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.config_key import INT_MAX
from streamkit.broker.server.node import Broker, start_unless
from streamkit.broker.storage.log_directory import OPEN_FILES
from streamkit.errors import RefusedError
from streamkit.runtime.os.memory import keep_freed_memory
from streamkit.runtime.os.ports import os_ports
from streamkit.telemetry.exposition import TelemetryServer
from streamkit.telemetry.instruments import Registry

log = structlog.get_logger(__name__)

INTERRUPTED = 130
OTHER_FILES = 128
"""Sockets of our own, files that are written aside, whatever libraries open."""
GC_THRESHOLDS = (50_000, 20, 100)
"""Almost nothing on the hot paths can be part of a cycle; Python's default looks every 700 objects."""
SWITCH_INTERVAL_S = 0.0002
"""How long the loop keeps the interpreter from a thread that wants it. The disk's threads want it for a few
microseconds, to begin a flush and to say that it is done. Python lets each wait 5 ms while requests are
served, and the device has nothing to do."""


def run_broker(
    config: BrokerConfig,
    *,
    http: tuple[str, int] | None = None,
    ready_fd: int | None = None,
    parent_fd: int | None = None,
    listening: socket.socket | None = None,
) -> int:
    """Run one broker until it is told to end; its exit code. Raises StreamkitError if it cannot.

    `http` is where metrics and health are served. An embedding program hears `host:port` over `ready_fd`
    once the broker answers, and ends it by closing its side of `parent_fd`. `listening` is a socket that it
    holds for the broker, at the address of a listener.
    """
    if not __debug__:
        raise RefusedError(
            "a broker checks its invariants by assertions, which python -O removes", hint="leave -O out"
        )
    connections = min(config.max_connections, connections_for(raise_file_limit()))
    config = dataclasses.replace(config, max_connections=connections)
    process = Process(config, http=http, ready_fd=ready_fd, parent_fd=parent_fd, listening=listening)
    return run_on_loop(process.run())


def run_on_loop(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` on uvloop where it is installed, else on asyncio's own loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def raise_file_limit() -> int:
    """As many open files as the system grants this process; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else INT_MAX


def connections_for(file_limit: int) -> int:
    """How many connections leave enough files for the logs: strangers must not be able to take them all."""
    return max(1, file_limit - min(OPEN_FILES + OTHER_FILES, file_limit // 2))


class Process:
    def __init__(
        self,
        config: BrokerConfig,
        *,
        http: tuple[str, int] | None,
        ready_fd: int | None,
        parent_fd: int | None,
        listening: socket.socket | None,
    ) -> None:
        self._config = config
        self._http = http
        self._ready_fd = ready_fd
        self._parent_fd = parent_fd
        self._listening = listening
        self._exit_code = 0
        self._signals = 0

    async def run(self) -> int:
        self._ended = asyncio.Event()
        self._listen_to_signals()
        self._watch_parent()
        metrics = Registry()
        ports = os_ports(self._task_failed, self._listening)
        self._broker = broker = Broker(self._config, ports, metrics, on_end=self._ended.set)
        telemetry: TelemetryServer | None = None
        try:
            if self._http is not None:
                host, port = self._http
                telemetry = TelemetryServer(metrics, host=host, port=port, readiness=broker.unready_because)
                log.info("telemetry", url=telemetry.url)
            await self._start(broker)
            await self._ended.wait()
        finally:
            await broker.stop()
            if telemetry is not None:
                telemetry.close()
            ports.disk.close()
        if broker.failure is not None:
            raise broker.failure
        return self._exit_code

    async def _start(self, broker: Broker) -> None:
        """Start, unless told to end meanwhile; then say so."""
        if not await start_unless(broker, self._ended):
            return
        gc.collect()
        gc.freeze()
        keep_freed_memory()
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._announce(broker)

    def _announce(self, broker: Broker) -> None:
        addresses = ", ".join(f"{one.host}:{one.port}" for one in broker.endpoints())
        print(
            f"broker {self._config.node_id} ready at {addresses}, data in {self._config.log_dir}",
            file=sys.stderr,
            flush=True,
        )
        if self._ready_fd is not None:
            first = broker.endpoints()[0]
            os.write(self._ready_fd, f"{first.host}:{first.port}\n".encode())
            os.close(self._ready_fd)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, INTERRUPTED)):
            loop.add_signal_handler(number, self._signalled, code)

    def _signalled(self, code: int) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(INTERRUPTED)
        self._exit_code = code
        self._ended.set()

    def _watch_parent(self) -> None:
        if self._parent_fd is not None:
            asyncio.get_running_loop().add_reader(self._parent_fd, self._parent_spoke, self._parent_fd)

    def _parent_spoke(self, parent_fd: int) -> None:
        """The parent never writes: what there is to read is the end of its life."""
        if not os.read(parent_fd, 1024):
            asyncio.get_running_loop().remove_reader(parent_fd)
            self._ended.set()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._broker.task_failed(name, error)
