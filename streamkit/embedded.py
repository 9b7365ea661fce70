"""A broker of one's own in a child process, for `--embedded`, `dev`, `demo` and tests.

The child is the ordinary `streamkit broker start` with its own interpreter lock, and ends with its parent
(`lifeline`). It runs in a session of its own, so that Ctrl-C reaches the parent first and the broker outlives
the last commit.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Self

from streamkit.errors import StreamkitError, last_words
from streamkit.runtime.os.lifeline import Lifeline
from streamkit.runtime.os.listening import listen_from

HOST = "127.0.0.1"
DEFAULT_PORT = 9092
START_S = 30.0
STOP_S = 10.0
LINES_KEPT = 50
SETTINGS = (
    "offsets.topic.num.partitions=4",
    "transaction.state.log.num.partitions=4",
    "share.coordinator.state.topic.num.partitions=4",
)


class EmbeddedBroker:
    """A running broker at `bootstrap`; a context manager. `port=0` takes any free one.

    A taken port gives way to the next free one above it (compare `port` to say so).
    """

    def __init__(self, data_dir: Path, *, port: int = 0) -> None:
        self.data_dir = data_dir
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)  # the broker's last log lines
        self._lifeline = Lifeline()
        self._start(port)

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Shut it down cleanly, by force after `STOP_S`. Idempotent."""
        self._lifeline.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, first_port: int) -> None:
        with listen_from(HOST, first_port) as listening:
            self.port: int = listening.getsockname()[1]
            ready = self._spawn(listening.fileno())
        self._lifeline.started()
        self._reader = threading.Thread(target=self._read_log, name="broker-log", daemon=True)
        self._reader.start()
        with os.fdopen(ready) as answer:
            in_time, _, _ = select.select([answer], [], [], START_S)
            address = answer.readline().strip() if in_time else ""
        if not address:
            self.stop()
            raise self._failure()

    def _spawn(self, listen_fd: int) -> int:
        """Start the child; the descriptor on which it says that it is ready."""
        ready, child_ready = os.pipe()
        lifeline = self._lifeline.child_fd
        words = ["broker", "start", "--listen", self.bootstrap, "--data-dir", str(self.data_dir)]
        words += ["--ready-fd", str(child_ready), "--parent-fd", str(lifeline), "--listen-fd", str(listen_fd)]
        for setting in SETTINGS:
            words += ["--set", setting]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamkit", *words],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            errors="replace",
            pass_fds=(child_ready, lifeline, listen_fd),
            start_new_session=True,
        )
        os.close(child_ready)
        return ready

    def _failure(self) -> StreamkitError:
        """What the broker said before it ended, as our own error."""
        said = {label: text.strip() for label, _, text in (line.partition(":") for line in self.lines)}
        return StreamkitError(
            f"the embedded broker did not start: {last_words(self.lines)}",
            hint=said.get("next", f"streamkit broker start --data-dir {self.data_dir}"),
        )

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(line.rstrip() for line in self._process.stderr)
