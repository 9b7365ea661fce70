"""One worker process: a stateless job, one that writes every record, and a keyed tumbling count.

Measured from outside, by the worker's own metrics, between a tenth and nine tenths of the input, so that
neither joining the group nor the last commit counts. Commits go on all the while.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count

import orjson
from confluent_kafka import Producer

from tests.benchmarks.broker import create
from tests.benchmarks.processes import Rate, cpu_seconds
from tests.support.broker_process import BrokerProcess, environment, streamkit

TOPIC = "events"
KEYS = 1_000
PARTITIONS = 4
LOOK_S = 0.2  # each look costs the worker a page of metrics
STALLED_S = 60  # without a record more
RUNS = count()
URL = re.compile(r"http://[\d.]+:\d+")
READ = re.compile(r'^streamkit_agent_records_total\{[^}]*result="read"[^}]*\} (\S+)', re.MULTILINE)

CLOSED = re.compile(r"^streamkit_windows_closed_total\{[^}]*\} (\S+)", re.MULTILINE)


def fill(bootstrap: str, records: int) -> None:
    """The input: JSON of some 70 bytes, a thousand keys, one millisecond of event time apart."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
        }
    )
    start_ms = int(time.time() * 1000) - records
    for number in range(records):
        key = f"user-{number * 7919 % KEYS}"
        value = orjson.dumps({"user": key, "amount": number % 100, "page": "/shop/item", "n": number})
        producer.produce(TOPIC, value, key, timestamp=start_ms + number)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


def prepare(broker: BrokerProcess) -> None:
    create(broker, TOPIC, PARTITIONS)


def run(
    broker: BrokerProcess, job: str, records: int, *options: str, look: Callable[[int], None] = lambda _: None
) -> Rate:
    """Input records/s. `look` is called with the worker's pid again and again."""
    marks: list[tuple[int, float, float]] = []  # records read, wall time, processor time
    with running(broker, job, *options) as worker:
        for seen in worker.counts(READ):
            look(worker.pid)
            if seen >= records * 0.1:
                marks.append((seen, time.perf_counter(), cpu_seconds(worker.pid)))
            if seen >= records * 0.9:
                break
    assert len(marks) > 1, "too few records to measure"
    (first, began, cpu_began), (last, ended, cpu_ended) = marks[0], marks[-1]
    return Rate((last - first) / (ended - began), (last - first) / max(cpu_ended - cpu_began, 0.01))


class Observed:
    """A worker that runs, looked at from outside, by its own metrics."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.pid = process.pid
        self._process = process
        self._log: list[str] = []
        self._address = self._named_address(process.stderr)
        threading.Thread(target=self._log.extend, args=(process.stderr,), daemon=True).start()

    def counts(
        self, metric: re.Pattern[str], *, look_s: float = LOOK_S, stalled_s: float = STALLED_S
    ) -> Iterator[int]:
        """What it has counted so far, over all labels, again and again. It must neither end nor rest."""
        most, moved = -1, time.monotonic()
        while True:
            assert self._process.poll() is None, "the worker ended:\n" + self._last_words
            seen = self._total(metric)
            if seen > most:
                most, moved = seen, time.monotonic()
            assert time.monotonic() < moved + stalled_s, f"it stays at {seen}:\n" + self._last_words
            yield seen
            time.sleep(look_s)

    def _total(self, metric: re.Pattern[str]) -> int:
        try:
            with urllib.request.urlopen(f"{self._address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError:  # its loop has no time to answer
            return 0
        return sum(int(float(value)) for value in metric.findall(text))

    def _named_address(self, lines: Iterable[str]) -> str:
        for line in lines:
            self._log.append(line)
            if found := URL.search(line):
                return found[0]
        raise AssertionError("the worker named no address for its metrics:\n" + self._last_words)

    @property
    def _last_words(self) -> str:
        return "".join(self._log[-20:])


@contextmanager
def running(
    broker: BrokerProcess, job: str, *options: str, began: Callable[[int], None] = lambda _: None
) -> Iterator[Observed]:
    """A worker on one of the `jobs`. `began` is called with its pid before it does anything."""
    command = streamkit(
        "worker",
        "tests.benchmarks.jobs:app",
        "--bootstrap",
        broker.bootstrap,
        "--http",
        "127.0.0.1:0",
        *options,
    )
    env = environment(BENCH_JOB=job, BENCH_RUN=f"{os.getpid()}-{next(RUNS)}")
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        began(process.pid)
        yield Observed(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
