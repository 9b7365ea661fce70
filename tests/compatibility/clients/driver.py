"""A client of another language: a small program under `drivers/`, told what to do by lines of JSON.

Each line on its standard input is a command, `{"do": WORD, …}`; it answers each with one line on its standard
output: `{"ok": …}`, or `{"error": TEXT, "code": NUMBER or null}`. The words are those of the contract.
Producers and consumers are named by the `id` that they were made with. Keys, values and values of headers are
base64; nothing is null that was not null.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

from tests.compatibility.contract import (
    DEADLINE_S,
    POLL_S,
    SESSION_MS,
    ConsumerSettings,
    ProducerSettings,
    Record,
    Refused,
    Row,
)
from tests.support.toolchains import Toolchain

ANSWER_S = 2 * DEADLINE_S


def text(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def data(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


class DriverProcess:
    """One program; its commands are asked one after the other, its standard error goes to a file."""

    def __init__(self, command: Sequence[str], bootstrap: str) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [*command, bootstrap], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, **words: object) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **words}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=ANSWER_S)
        except (Empty, OSError):
            line = ""
        if not line:
            self.close()
            raise AssertionError(f"no answer to {do} {words}: {self.said()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["code"], answer["error"])
        return answer["ok"]

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        self._said.seek(0)
        return self._said.read()

    def close(self) -> None:
        """The end of its input is its end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()


class DriverProducer:
    def __init__(self, process: DriverProcess, number: int) -> None:
        self._process = process
        self._id = number

    def send(self, topic: str, records: Sequence[Record]) -> list[tuple[int, int]]:
        written = [
            {
                "key": text(record.key),
                "value": text(record.value),
                "partition": record.partition,
                "timestamp": record.timestamp_ms,
                "headers": [[name, text(value)] for name, value in record.headers],
            }
            for record in records
        ]
        places = self._process.ask("send", id=self._id, topic=topic, records=written)
        return [(partition, offset) for partition, offset in places]

    def begin(self) -> None:
        self._process.ask("begin", id=self._id)

    def commit(self) -> None:
        self._process.ask("commit_transaction", id=self._id)

    def abort(self) -> None:
        self._process.ask("abort_transaction", id=self._id)

    def send_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        places = list(offsets.items())
        self._process.ask("send_offsets", id=self._id, group=group, topic=topic, offsets=places)

    def close(self) -> None:
        if self._process.is_alive:
            self._process.ask("close", id=self._id)


class DriverConsumer:
    def __init__(self, process: DriverProcess, number: int) -> None:
        self._process = process
        self._id = number

    def poll(self) -> list[Row]:
        rows = self._process.ask("poll", id=self._id, wait_ms=int(POLL_S * 1000))
        return [
            Row(
                partition,
                offset,
                timestamp,
                data(key),
                data(value),
                tuple((name, data(held) or b"") for name, held in headers),
            )
            for partition, offset, timestamp, key, value, headers in rows
        ]

    def owned(self) -> frozenset[int]:
        return frozenset(self._process.ask("owned", id=self._id))

    def seek(self, partition: int, offset: int) -> None:
        self._process.ask("seek", id=self._id, partition=partition, offset=offset)

    def pause(self, partitions: Sequence[int]) -> None:
        self._process.ask("pause", id=self._id, partitions=list(partitions))

    def resume(self, partitions: Sequence[int]) -> None:
        self._process.ask("resume", id=self._id, partitions=list(partitions))

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._process.ask("commit", id=self._id, offsets=list(offsets.items()))

    def committed(self) -> dict[int, int]:
        return dict(self._process.ask("committed", id=self._id))

    def close(self) -> None:
        if self._process.is_alive:
            self._process.ask("close", id=self._id)


class Driver:
    """The contract by a driver program; each foreign client is a subclass: which program, what it lacks."""

    name: ClassVar[str]
    lacks: ClassVar[Mapping[str, str]]
    toolchain: ClassVar[Toolchain]

    def __init__(self, bootstrap: str) -> None:
        self._command = self.toolchain.command()
        self._bootstrap = bootstrap
        self._process = DriverProcess(self._command, bootstrap)
        self._ids = count(1)

    @classmethod
    def why_not(cls) -> str | None:
        return cls.toolchain.why_not()

    def _ask(self, do: str, **words: object) -> Any:
        if not self._process.is_alive:
            self._process = DriverProcess(self._command, self._bootstrap)
        return self._process.ask(do, **words)

    def close(self) -> None:
        self._process.close()

    def producer(self, **settings: Any) -> DriverProducer:
        number = next(self._ids)
        self._ask("producer", id=number, **asdict(ProducerSettings(**settings)))
        return DriverProducer(self._process, number)

    def consumer(self, topic: str, **settings: Any) -> DriverConsumer:
        number = next(self._ids)
        chosen = asdict(ConsumerSettings(**settings))
        self._ask("consumer", id=number, topic=topic, session_ms=SESSION_MS, **chosen)
        return DriverConsumer(self._process, number)

    def create_topic(
        self, topic: str, partitions: int, replicas: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        given = dict(settings or {})
        self._ask("create_topic", topic=topic, partitions=partitions, replicas=replicas, settings=given)

    def delete_topic(self, topic: str) -> None:
        self._ask("delete_topic", topic=topic)

    def topics(self) -> set[str]:
        return set(self._ask("topics"))

    def partitions_of(self, topic: str) -> int:
        found = self._ask("partitions_of", topic=topic)
        assert isinstance(found, int)
        return found

    def add_partitions(self, topic: str, total: int) -> None:
        self._ask("add_partitions", topic=topic, total=total)

    def change_settings(self, topic: str, settings: Mapping[str, str]) -> None:
        self._ask("change_settings", topic=topic, settings=dict(settings))

    def settings_of(self, topic: str) -> dict[str, str]:
        return dict(self._ask("settings_of", topic=topic))

    def groups(self) -> set[str]:
        return set(self._ask("groups"))

    def delete_group(self, group: str) -> None:
        self._ask("delete_group", group=group)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        self._ask("delete_records", topic=topic, partition=partition, before=before)

    def offsets_of(self, topic: str) -> dict[int, tuple[int, int]]:
        return {partition: (begin, end) for partition, begin, end in self._ask("offsets_of", topic=topic)}
