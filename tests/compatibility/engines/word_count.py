"""Kafka Streams' word count as a process: started, waited for, asked to end, killed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support.maven import classpath, java

PROGRAM = Path(__file__).with_name("WordCount.java")
POM = Path(__file__).with_name("pom.xml")
STATE_S = 60
CLOSE_S = 60


class WordCount:
    """One instance of the application `application` (also the name of its group)."""

    def __init__(
        self, path: Path, bootstrap: str, application: str, topics: tuple[str, str], **settings: str
    ) -> None:
        path.mkdir()
        self.log = path / "log"
        self.states: list[str] = []
        self._changed = threading.Condition()
        config: Mapping[str, str] = {
            "bootstrap.servers": bootstrap,
            "application.id": application,
            "state.dir": str(path / "state"),
            "statestore.cache.max.bytes": "0",  # every count is written, so that each can be looked for
            "auto.offset.reset": "earliest",
            "commit.interval.ms": "200",
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        words = [f"{name}={value}" for name, value in config.items()]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*java(classpath(POM, "kafka-streams")), str(PROGRAM), *topics, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._say(line.removeprefix("state ").strip())
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
            self.process.wait(CLOSE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
