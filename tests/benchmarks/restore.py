"""A task's store from its changelog: into memory, and into RocksDB.

What is measured is what a worker does between its assignment and the first record: a consumer of its own, the
changelog from beginning to end, every entry in the store. The changelog holds `keys` entries of 8 + 40 bytes,
in no order.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import Producer

import streamkit as sk
from streamkit.processing.kafka.changelog_reader import KafkaChangelogReader
from streamkit.processing.state.store import Store
from streamkit.processing.tasks.task import Task
from streamkit.processing.worker.progress import Progress
from streamkit.processing.worker.restore import restore
from streamkit.processing.worker.rocksdb import StateDirectory
from streamkit.processing.worker.worker import GC_THRESHOLDS
from streamkit.telemetry.instruments import Registry
from tests.benchmarks.processes import Rate, Stopwatch

APP = "restoring"
TABLE = "totals"
CHANGELOG = f"{APP}-{TABLE}-changelog"
STRIDE = 1_000_003  # coprime to the number of keys: they come in no order
VALUE = b"v" * 40


def fill(bootstrap: str, keys: int) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "batch.num.messages": 50_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
        }
    )
    for number in range(keys):
        producer.produce(CHANGELOG, VALUE, b"%08d" % (number * STRIDE % keys), 0)
        if number % 10_000 == 0:
            producer.poll(0)
        if number % 500_000 == 0:
            producer.flush(120)
    assert producer.flush(120) == 0


def run(bootstrap: str, keys: int, *, on_disk: bool) -> Rate:
    """Changelog records/s."""
    with tempfile.TemporaryDirectory() as directory:
        state = StateDirectory(Path(directory), APP, 0) if on_disk else None
        return asyncio.run(_restored(bootstrap, keys, state.stores([TABLE], 0) if state else {}))


async def _restored(bootstrap: str, keys: int, stores: Mapping[str, Store]) -> Rate:
    task, progress = _task(stores), Progress(Registry().gauge("remaining", "", ["store", "partition"]))
    reader = KafkaChangelogReader(bootstrap, {})
    gc.set_threshold(*GC_THRESHOLDS)  # as in a worker
    watch = Stopwatch(os.getpid())
    await restore(task, {(CHANGELOG, 0): keys}, reader, progress)
    rate = watch.rate(keys)
    store = task.stores[TABLE]
    assert store.position == keys and store.get(b"%08d" % (keys // 2)) == VALUE
    return rate


def _task(stores: Mapping[str, Store]) -> Task:
    app = sk.App(APP)
    totals = app.table(TABLE, key=str, value=bytes)

    @app.agent(app.topic("orders", key=str, value=bytes, partitions=1))
    def keep(value: bytes, record: sk.Record[str]) -> None:
        totals[record.key] = value

    plan = app.topology().plan({})
    return Task(plan, plan.subtopologies[0], 0, stores)
