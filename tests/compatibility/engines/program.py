"""An engine's program as a process: started, waited for, asked to end, killed.

It says on its standard output each state that it comes to, a line for each; the end of its input is its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

STATE_S = 240  # a virtual machine on a busy machine
CLOSE_S = 120


class Program:
    """One process, with those that it starts itself; what it says of errors is in `log`."""

    def __init__(self, path: Path, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        path.mkdir(exist_ok=True)
        self.log = path / "log"
        self.states: list[str] = []
        self._changed = threading.Condition()
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=path,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._say(line.strip())
        self._say("gone")

    def _say(self, state: str) -> None:
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def comes_to(self, state: str) -> Self:
        """Wait until it has come to a state, or said that it is gone."""
        with self._changed:
            done = self._changed.wait_for(lambda: {state, "gone"} & set(self.states), STATE_S)
        assert done and state in self.states, (self.states, self.log.read_text()[-5000:])
        return self

    def close(self) -> None:
        """Let it finish what it has in hand."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            ended = self.process.wait(CLOSE_S)
        finally:
            self.kill()
        assert ended == 0, (ended, self.log.read_text()[-5000:])

    def kill(self) -> None:
        """kill -9 of all its processes, and wait until it is gone."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
