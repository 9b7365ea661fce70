"""What the demo runs on: its topics on a cluster, and the job in a worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import NewTopic, OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from streamkit.cli.admin import REQUEST_S, Cluster, in_our_words
from streamkit.cli.consume import Reader
from streamkit.cli.group_offsets import committed
from streamkit.cli.offsets import parse
from streamkit.demo.feed import AIRPORTS, TOPIC, TOPIC_CONFIG
from streamkit.errors import DeadlineError, StreamkitError, last_words
from streamkit.runtime.os.lifeline import LIFELINE_VARIABLE, Lifeline
from streamkit.runtime.os.listening import listen_from

JOB = "streamkit.demo.flights:app"
GROUP = "demo"
DELAYS, LATE, CANCELLED = "demo.delays", "demo.late", "demo.cancelled"
OWN = ("demo.", "demo-")  # the names of all topics of the demo, the job's internal ones included
HOST, HTTP_PORT = "127.0.0.1", 6066
STOP_S = 15.0
LEFT_BEHIND_S = 30.0
PASSING = {
    KafkaError.NON_EMPTY_GROUP,  # until a cluster forgets the member that a killed demo left behind
    KafkaError.NOT_COORDINATOR,  # until one that never had a group has made room for them
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
CHECK_EVERY_S = 0.2
SCRAPE_S = 2.0
STALLED_S = 60.0


class Topics:
    """The topics of the demo on a cluster. Every run begins with none of them."""

    def __init__(self, bootstrap: str) -> None:
        self._cluster = Cluster(bootstrap)

    def prepare(self) -> int:
        """Remove what an earlier run left, make the topic of the feed; how many topics were removed."""
        self._forget_group()
        old = [name for name in self._cluster.topics() if name.startswith(OWN)]
        if old:
            for future in self._cluster.admin.delete_topics(old).values():
                self._cluster.answer(future)
        source = NewTopic(TOPIC, len(AIRPORTS), config=TOPIC_CONFIG)
        self._cluster.only_answer(self._cluster.admin.create_topics([source]))
        return len(old)

    def _forget_group(self) -> None:
        deadline = time.monotonic() + LEFT_BEHIND_S
        while True:
            (future,) = self._cluster.admin.delete_consumer_groups([GROUP]).values()
            try:
                future.result(REQUEST_S)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    with in_our_words(self._cluster.bootstrap):
                        raise
                time.sleep(CHECK_EVERY_S)

    def lag(self) -> int:
        """Records that the job has read too few: of the feed, and of its own repartition topic."""
        topics = self._cluster.topics()
        places = [
            (name, partition)
            for name, found in topics.items()
            if name == TOPIC or (name.startswith(OWN) and name.endswith("-repartition"))
            for partition in found.partitions
        ]
        # before the ends, which must hold whatever these commits have written
        done = committed(self._cluster, GROUP)
        ends = self._cluster.offsets(places, OffsetSpec.latest())
        return sum(max(0, end - max(0, done.get(place, 0))) for place, end in ends.items())

    def values(self, topic: str) -> Iterator[bytes]:
        """Everything that is in the topic now."""
        with Reader(self._cluster, topic, (), parse(":end", now_ms=0)) as reader:
            for record in reader:
                yield _value(record)


def _value(record: Message) -> bytes:
    value = record.value()
    assert isinstance(value, bytes)
    return value


@dataclass(frozen=True)
class Figures:
    """`feed_lag`: flights not read yet; `lag`: those and the records between the two halves of the job."""

    feed_lag: int | None = None
    lag: int | None = None
    watermark: float | None = None  # seconds since the epoch


class Worker:
    """The job in a process of its own; it ends with this one."""

    def __init__(self, bootstrap: str, log: Path) -> None:
        self.log = log
        self._lifeline = Lifeline()
        fd = self._lifeline.child_fd
        with log.open("wb") as stderr, listen_from(HOST, HTTP_PORT) as listening:
            self.port: int = listening.getsockname()[1]
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "streamkit",
                    "worker",
                    JOB,
                    "--bootstrap",
                    bootstrap,
                    "--http-fd",
                    str(listening.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(fd, listening.fileno()),
                env={**os.environ, LIFELINE_VARIABLE: str(fd)},
                start_new_session=True,  # Ctrl-C comes to us, and the worker drains
            )
        self._lifeline.started()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def figures(self) -> Figures:
        """What the job tells of itself on /metrics; nothing while it does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=SCRAPE_S) as response:
                text = response.read().decode()
        except OSError:
            return Figures()
        feed_lags, lag, watermarks = [], 0.0, []
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "streamkit_source_lag_records":
                    lag += sample.value
                    feed_lags += [sample.value] if sample.labels["topic"] == TOPIC else []
                elif sample.name == "streamkit_watermark_timestamp_seconds":
                    watermarks.append(sample.value)
        if len(feed_lags) < len(AIRPORTS):  # its partitions are not assigned yet
            return Figures()
        return Figures(round(sum(feed_lags)), round(lag), min(watermarks, default=None))

    def check(self) -> None:
        """Raise when the process has ended."""
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()
            raise StreamkitError(
                f"the job ended with exit code {code}: {last_words(lines)}",
                hint=f"less {self.log}",
            )

    def stop(self) -> None:
        """Let it drain, by force after a while."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lifeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def wait_until_done(topics: Topics, worker: Worker, looked: Callable[[], None]) -> None:
    """Return when everything is read, answered and committed. `looked` is called between looks.

    The repartition topic grows until the feed is done, so only what it holds after that counts.
    """
    least, since = topics.lag(), time.monotonic()
    while least:
        worker.check()
        time.sleep(CHECK_EVERY_S)
        looked()
        lag = topics.lag()
        if lag < least:
            least, since = lag, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            raise DeadlineError(
                f"the job made no progress for {STALLED_S:g} s, {lag} records before the end",
                hint=f"less {worker.log}",
            )


def answers(topics: Topics) -> tuple[Iterable[bytes], Iterable[bytes], Iterable[bytes]]:
    """The values of the job's three result topics."""
    return topics.values(DELAYS), topics.values(LATE), topics.values(CANCELLED)
