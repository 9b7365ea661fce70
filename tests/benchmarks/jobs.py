"""The jobs that are measured: JSON in and a filter; then nothing, a sink, or a keyed tumbling count.

And some of their own: a table that keeps what comes; a large page for each key, in a table or in windows.
"""

from __future__ import annotations

import os

import streamkit as sk
from tests.benchmarks.pages import page, text

JOB = os.environ.get("BENCH_JOB", "filter")
RUN = os.environ.get("BENCH_RUN", "0")
SMALL_QUEUES = {"queue.buffering.max.kbytes": 16_384, "queued.max.messages.kbytes": 8_192}

app = sk.App(f"bench-{JOB}-{RUN}", kafka=SMALL_QUEUES if JOB.startswith("large") else None)


if JOB == "state":
    pages = app.table("pages", key=str, value=bytes)

    @app.agent(app.topic("wide", key=str, value=bytes, partitions=4))
    def keep(page: bytes, record: sk.Record[str]) -> None:
        pages[record.key] = page

elif JOB == "large-table":
    shown = app.table("pages", key=str, value=bytes)

    @app.agent(app.topic("visits", key=str, value=str, partitions=4))
    def visit(name: str, record: sk.Record[str]) -> None:
        before = shown.get(record.key)
        shown[record.key] = page(name, 1 if before is None else before[0] + 1)

elif JOB == "large-windows":
    visited = sk.Aggregate(
        start=lambda: [0, ""],
        add=lambda seen, name: [seen[0] + 1, seen[1] or text(name)],
        finish=lambda seen: [seen[0], seen[1][:20]],
    )
    hours = app.stream(app.topic("visits", key=str, value=str, partitions=4)).window(sk.tumbling("1h"))
    hours.aggregate(page=visited).to(app.topic(f"results-{JOB}-{RUN}", key=str, partitions=4))

else:
    events = app.topic("events", key=str, partitions=4)
    results = app.topic(f"results-{JOB}-{RUN}", key=str, partitions=4)
    stream = app.stream(events)

if JOB == "filter":
    stream.filter(lambda event: event["amount"] > 10)
elif JOB == "sink":
    stream.filter(lambda event: event["amount"] >= 0).to(results)
elif JOB == "windows":
    large = stream.filter(lambda event: event["amount"] > 10)
    large.window(sk.tumbling("10s", grace="1s")).aggregate(n=sk.Count(), emit="on_close").to(results)
