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
from collections.abc import Callable
from itertools import count

import orjson
from confluent_kafka import Producer

from tests.benchmarks.broker import create
from tests.benchmarks.processes import Rate, cpu_seconds
from tests.support.broker_process import BrokerProcess, environment, streamkit

TOPIC = "events"
KEYS = 1_000
PARTITIONS = 4
LOOK_S = 0.05
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
    process = start(broker, job, *options)
    log: list[str] = []
    address = address_of(process, log)
    threading.Thread(target=collect, args=(process, log), daemon=True).start()
    try:
        marks = _observe(process, address, records, log, look)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    (first, began, cpu_began), (last, ended, cpu_ended) = marks[0], marks[-1]
    return Rate((last - first) / (ended - began), (last - first) / max(cpu_ended - cpu_began, 0.01))


def start(broker: BrokerProcess, job: str, *options: str) -> subprocess.Popen[str]:
    """A worker on one of the `jobs`."""
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
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def address_of(process: subprocess.Popen[str], log: list[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line)
        if found := URL.search(line):
            return found[0]
    raise AssertionError("the worker named no address for its metrics:\n" + "".join(log[-20:]))


def collect(process: subprocess.Popen[str], log: list[str]) -> None:
    assert process.stderr is not None
    log.extend(process.stderr)


def _observe(
    process: subprocess.Popen[str],
    address: str,
    records: int,
    log: list[str],
    look: Callable[[int], None],
) -> list[tuple[int, float, float]]:
    """(records read, wall time, processor time) from a tenth to nine tenths of the input."""
    marks: list[tuple[int, float, float]] = []
    most, moved = -1, time.monotonic()
    while not marks or marks[-1][0] < records * 0.9:
        assert process.poll() is None, "the worker ended:\n" + "".join(log[-20:])
        seen = total(address, READ)
        if seen > most:
            most, moved = seen, time.monotonic()
        assert time.monotonic() < moved + STALLED_S, "the worker is not getting on:\n" + "".join(log[-20:])
        look(process.pid)
        if seen >= records * 0.1:
            marks.append((seen, time.perf_counter(), cpu_seconds(process.pid)))
        time.sleep(LOOK_S)
    assert len(marks) > 1, "too few records to measure"
    return marks


def total(address: str, metric: re.Pattern[str]) -> int:
    """What a worker has counted so far, over all labels."""
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError:  # its loop has no time to answer
        return 0
    return sum(int(float(value)) for value in metric.findall(text))
