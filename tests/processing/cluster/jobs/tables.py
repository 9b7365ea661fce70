"""Two kinds of tables over one stream: what queries are tried on."""

import os

import streamkit as sk

NAME = os.environ["JOB"]

app = sk.App(NAME, commit_interval="200ms", kafka={"session.timeout.ms": 6000, "heartbeat.interval.ms": 1200})
words = app.topic(f"{NAME}-words", key=str, value=str, partitions=4)
counts = app.table("counts", key=str, default=int)
stream = app.stream(words)
stream.to_table(name="latest").to(f"{NAME}-out")


@app.agent(stream)
def count(word: str, record: sk.Record[str]) -> None:
    counts[record.key] += 1
