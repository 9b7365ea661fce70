"""Agents on one topic, each with 64 records in hand and its own order, one with batches; a table of what one
says. Every record takes a while, and some take much longer than a commit interval.
"""

import asyncio
import os
from typing import get_args

import streamkit as sk
from streamkit.processing.tasks.inflight import Order

NAME = os.environ["JOB"]
SESSION_MS = int(os.environ.get("SESSION_MS", "6000"))
KAFKA = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": SESSION_MS // 5}
PAUSE_S = 0.004
STRAGGLER_EVERY, STRAGGLER_S = 997, 0.4

app = sk.App(NAME, commit_interval="100ms", kafka=KAFKA)
inputs = app.topic(f"{NAME}-in", key=str, value=int, partitions=4)
outputs = {
    order: app.topic(f"{NAME}-{order}", key=str, value=list[int], partitions=4) for order in get_args(Order)
}
seen = app.table("seen", key=str, default=lambda: "0")


def enricher(order: Order) -> None:
    @app.agent(inputs, sink=outputs[order], concurrency=64, order=order, name=f"enrich-{order}")
    async def enrich(number: int, record: sk.Record[str]) -> list[int]:
        assert record.partition is not None and record.offset is not None
        await asyncio.sleep(STRAGGLER_S if number % STRAGGLER_EVERY == 0 else number % 7 * PAUSE_S / 3)
        return [number, record.partition, record.offset]


for one in get_args(Order):
    enricher(one)


@app.agent(inputs, sink=app.topic(f"{NAME}-batch", key=str, value=list[int], partitions=4), concurrency=4)
@sk.batch(50, max_wait="300ms")
async def enrich_many(numbers: list[int], records: list[sk.Record[str]]) -> list[list[int]]:
    await asyncio.sleep(len(numbers) * PAUSE_S / 4)
    return [[n, r.partition or 0, r.offset or 0] for n, r in zip(numbers, records, strict=True)]


@app.agent(outputs["key"])
def remember(result: list[int], record: sk.Record[str]) -> None:
    """The numbers of a key, one bit for each tenth: to see one again changes nothing."""
    number = result[0] // KEYS
    seen[record.key] = f"{int(seen[record.key], 16) | 1 << number:x}"


KEYS = 100  # number n has the key n % KEYS
