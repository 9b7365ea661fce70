"""Counts each key in a table and reports every count: what restarts are tried on."""

import os

import streamkit as sk

NAME = os.environ["JOB"]
SESSION_MS = int(os.environ.get("SESSION_MS", "6000"))  # a killed worker is missed so soon
LINGER_MS = int(os.environ.get("LINGER_MS", "20"))
KAFKA = {
    "session.timeout.ms": SESSION_MS,
    "heartbeat.interval.ms": SESSION_MS // 5,
    "linger.ms": LINGER_MS,
}

app = sk.App(NAME, commit_interval="200ms", kafka=KAFKA)
words = app.topic(f"{NAME}-words", key=str, partitions=4)
report = app.topic(f"{NAME}-report", key=str, partitions=1)
counts = app.table("counts", key=str, default=int)


@app.agent(words, sink=report)
def count(word: str, record: sk.Record[str]) -> int:
    if word == "poison":
        raise ValueError("poison")
    counts[record.key] += 1
    return counts[record.key]
