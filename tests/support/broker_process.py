"""A real broker as a child process: started, killed and restarted on the same port and directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from streamkit.runtime.os.lifeline import Lifeline

REPOSITORY = Path(__file__).resolve().parents[2]
TELEMETRY = re.compile(r"http://(127\.0\.0\.1:\d+)")
READY = re.compile(r"ready\b.*?(127\.0\.0\.1:(\d+))")


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child that must find this checkout from any working directory.

    It keeps its bytecode, as an installed package does: to compile everything anew takes half of a start.
    """
    path = os.pathsep.join(p for p in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if p)
    given = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**given, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **extra}


def streamkit(*words: str) -> list[str]:
    """The command line of `streamkit WORDS…` under this interpreter."""
    return [sys.executable, "-m", "streamkit", *words]


class BrokerProcess:
    """`streamkit broker start` on loopback; the first start picks a free port and later ones keep it."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.options = options
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.log: list[str] = []

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        """Where it serves metrics and health, when started with `--http 127.0.0.1:0`."""
        return next(found[1] for line in self.log if (found := TELEMETRY.search(line)))

    def start(self, *, timeout_s: float = 30) -> Self:
        listen = f"127.0.0.1:{self.port}"
        self.lifeline = Lifeline()  # a run that is killed leaves no broker behind
        command = streamkit(
            *("broker", "start", "--listen", listen, "--data-dir", str(self.data_dir)),
            *("--parent-fd", str(self.lifeline.child_fd), *self.options),
        )
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
            pass_fds=(self.lifeline.child_fd,),
        )
        self.lifeline.started()
        ready = threading.Event()
        threading.Thread(target=self._read_log, args=(self.process, ready), daemon=True).start()
        if not ready.wait(timeout_s) or self.port == 0:
            self.kill()
            raise AssertionError("the broker did not become ready:\n" + "\n".join(self.log[-20:]))
        return self

    def _read_log(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line.rstrip())
            if (found := READY.search(line)) and not ready.is_set():
                self.port = int(found[2])
                ready.set()
        ready.set()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code of the clean shutdown."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            self.lifeline.close()
