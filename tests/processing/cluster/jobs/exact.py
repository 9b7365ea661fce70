"""Counts per minute and key under exactly-once: what kills of workers and brokers are tried on."""

import os

import streamkit as sk

NAME = os.environ["JOB"]
SESSION_MS = int(os.environ.get("SESSION_MS", "6000"))
KAFKA = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": SESSION_MS // 5}

app = sk.App(
    NAME,
    commit_interval="200ms",
    kafka=KAFKA,
    guarantee="exactly_once",
    idle_timeout=None,
)
events = app.topic(f"{NAME}-events", key=str, partitions=2)
totals = app.table("totals", key=str, default=int)
windows = app.stream(events, time=lambda v: v["ts"]).window(sk.tumbling("60s")).aggregate(n=sk.Count())
windows.to(app.topic(f"{NAME}-windows", key=str, partitions=1))


@app.agent(events, sink=app.topic(f"{NAME}-totals", key=str, partitions=1))
def total(event: dict, record: sk.Record[str]) -> int:
    totals[record.key] += 1
    return totals[record.key]
