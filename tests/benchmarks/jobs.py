"""The jobs that are measured: JSON in and a filter; then nothing, a sink, or a keyed tumbling count.

And one of its own: a table that keeps what comes.
"""

from __future__ import annotations

import os

import streamkit as sk

JOB = os.environ.get("BENCH_JOB", "filter")
RUN = os.environ.get("BENCH_RUN", "0")

app = sk.App(f"bench-{JOB}-{RUN}")

if JOB == "state":
    pages = app.table("pages", key=str, value=bytes)

    @app.agent(app.topic("wide", key=str, value=bytes, partitions=4))
    def keep(page: bytes, record: sk.Record[str]) -> None:
        pages[record.key] = page

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
