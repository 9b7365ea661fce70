"""kcat from Debian: librdkafka 2.0.2, with a bug in its tagged fields that a broker must not tickle.

A reader is a kcat process whose lines a thread collects; every `send` is a process.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
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

KEY = "\x1e"
ADMINISTRATION = (
    *("create topic", "delete topic", "add partitions", "topic settings", "delete records"),
    *("list groups", "delete group"),
)


def settings_words(settings: Mapping[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("-X", f"{key}={value}")]


def as_line(record: Record) -> str:
    assert record.key is not None and record.value is not None
    return f"{record.key.decode()}{KEY}{record.value.decode()}\n"


class KcatProducer:
    """Each `send` is a process; a transaction is one that has all its records."""

    def __init__(self, words: Sequence[str], is_transactional: bool) -> None:
        self._words = words
        self._is_transactional = is_transactional
        self._waiting: list[tuple[str, Record]] = []

    def send(self, topic: str, records: Sequence[Record]) -> list[tuple[int, int]]:
        if self._is_transactional:
            self._waiting += [(topic, record) for record in records]
        else:
            self._write(topic, records)
        return []

    def _write(self, topic: str, records: Sequence[Record]) -> None:
        alike: dict[tuple[int | None, tuple[tuple[str, bytes], ...]], list[Record]] = {}
        for record in records:
            alike.setdefault((record.partition, tuple(record.headers)), []).append(record)
        for (partition, headers), same in alike.items():
            words = [] if partition is None else ["-p", str(partition)]
            for key, value in headers:
                words += ["-H", f"{key}={value.decode()}"]
            run([*self._words, "-t", topic, *words], "".join(map(as_line, same)))

    def begin(self) -> None:
        self._waiting = []

    def commit(self) -> None:
        self._write(self._waiting[0][0], [record for _, record in self._waiting])

    def abort(self) -> None:
        self._waiting = []

    def close(self) -> None:
        """Nothing is left open."""


class KcatConsumer:
    def __init__(self, words: Sequence[str], topic: str) -> None:
        self._topic = topic
        self._rows: list[Row] = []
        self._owned: frozenset[int] = frozenset()
        self._came = threading.Condition()
        self._process = subprocess.Popen(
            words, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._readers = [threading.Thread(target=work) for work in (self._read, self._watch)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = json.loads(line)
            headers = found.get("headers", [])
            row = Row(
                found["partition"],
                found["offset"],
                found["ts"],
                found["key"] and found["key"].encode(),
                found["payload"] and found["payload"].encode(),
                tuple((key, value.encode()) for key, value in zip(headers[::2], headers[1::2], strict=True)),
            )
            with self._came:
                self._rows.append(row)
                self._came.notify_all()

    def _watch(self) -> None:
        assert self._process.stderr is not None
        with suppress(ValueError):
            for line in self._process.stderr:
                if "rebalanced" in line:
                    numbers = re.findall(rf"{re.escape(self._topic)} \[(\d+)\]", line)
                    self._owned = frozenset(map(int, numbers)) if "assigned" in line else frozenset()

    def poll(self) -> list[Row]:
        with self._came:
            self._came.wait_for(lambda: self._rows, POLL_S)
            rows, self._rows = self._rows, []
        return rows

    def owned(self) -> frozenset[int]:
        return self._owned

    def commit(self, offsets: Mapping[int, int]) -> None:
        """What it has printed is committed when it ends."""

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            for reader in self._readers:
                reader.join(DEADLINE_S)


def run(words: Sequence[str], stdin: str = "") -> str:
    end = time.monotonic() + DEADLINE_S
    done = subprocess.run(
        words, input=stdin, text=True, capture_output=True, timeout=end - time.monotonic(), check=False
    )
    if done.returncode != 0:
        raise Refused(None, done.stderr)
    return done.stdout


class Kcat:
    name: ClassVar[str] = "kcat"
    lacks: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(ADMINISTRATION, "kcat has no administration"),
        "places": "kcat does not print where a record was written",
        "timestamp": "kcat's producer cannot set timestamps",
        "nulls": "kcat's lines have a key and a value",
        "binary": "kcat's lines are text",
        "seek": "kcat cannot move once it reads",
        "pause": "kcat reads until it ends",
        "commit": "kcat commits what it printed, when it ends",
        "cooperative": "kcat 1.7 prints what changed, not what it owns",
        "consumer protocol": "librdkafka 2.0 knows classic groups alone",
        "open transactions": "kcat reads all its input before it writes, and then commits",
    }

    def __init__(self, bootstrap: str) -> None:
        self._words = ["kcat", "-b", bootstrap]

    @staticmethod
    def why_not() -> str | None:
        return None if shutil.which("kcat") else "kcat is not installed (Debian: apt-get install kcat)"

    def close(self) -> None:
        pass

    def producer(self, **settings: Any) -> KcatProducer:
        chosen = ProducerSettings(**settings)
        given: dict[str, object] = {
            "acks": chosen.acks,
            "enable.idempotence": str(chosen.idempotent).lower(),
            "message.max.bytes": chosen.max_bytes,
            "linger.ms": 50,
            "topic.metadata.propagation.max.ms": chosen.patience_ms,
        }
        if chosen.transactional_id is not None:
            given |= {
                "transactional.id": chosen.transactional_id,
                "transaction.timeout.ms": chosen.transaction_timeout_ms,
                "enable.idempotence": "true",
            }
        words = [*self._words, "-P", "-K", KEY, "-z", chosen.compression, *settings_words(given)]
        return KcatProducer(words, chosen.transactional_id is not None)

    def consumer(self, topic: str, **settings: Any) -> KcatConsumer:
        chosen = ConsumerSettings(**settings)
        given = {"isolation.level": chosen.isolation, "fetch.wait.max.ms": 100}
        words = [*self._words, "-J", "-u"]
        if chosen.limit is not None:
            words += ["-c", str(chosen.limit)]
        if chosen.group is None:
            start = {"earliest": "beginning", "latest": "end"}.get(str(chosen.start), f"s@{chosen.start}")
            return KcatConsumer([*words, *settings_words(given), "-C", "-t", topic, "-o", start], topic)
        given |= {
            "auto.offset.reset": chosen.start,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 200,
            "partition.assignment.strategy": "range",
        }
        if chosen.instance is not None:
            given["group.instance.id"] = chosen.instance
        return KcatConsumer([*words, *settings_words(given), "-G", chosen.group, topic], topic)

    def _metadata(self) -> dict[str, int]:
        listing = json.loads(run([*self._words, "-L", "-J"]))
        return {entry["topic"]: len(entry["partitions"]) for entry in listing["topics"]}

    def topics(self) -> set[str]:
        return set(self._metadata())

    def partitions_of(self, topic: str) -> int:
        return self._metadata()[topic]

    def offsets_of(self, topic: str) -> dict[int, tuple[int, int]]:
        found = {}
        for partition in range(self.partitions_of(topic)):
            ends = [
                run([*self._words, "-Q", "-t", f"{topic}:{partition}:{which}"]).split()[-1]
                for which in (-2, -1)
            ]
            found[partition] = (int(ends[0]), int(ends[1]))
        return found
