"""Follows files into a topic, and the topic into files and a database: what connectors are tried on."""

import os
from pathlib import Path

import streamkit as sk

NAME = os.environ["JOB"]
HERE = Path(os.environ["FILES"])
SESSION_MS = int(os.environ.get("SESSION_MS", "6000"))  # a killed worker is missed so soon
KAFKA = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": SESSION_MS // 5}
SETUP = (
    'create table if not exists numbers (topic, partition, "offset", n, '
    'primary key (topic, partition, "offset")); pragma journal_mode = wal'
)

app = sk.App(
    NAME, commit_interval="200ms", kafka=KAFKA, guarantee=os.environ.get("GUARANTEE", "at_least_once")
)
numbers = app.topic(f"{NAME}-numbers", key=str, value=dict, partitions=2)
app.source(
    sk.FileSource(HERE / "in", "ndjson", follow=True, interval="20ms"),
    numbers,
    key=lambda value: str(value["n"] % 50),
)
app.stream(numbers).to(sk.FileSink(HERE / "out", max_wait="50ms"))
app.stream(numbers).to(
    sk.SqliteSink(HERE / "db", "numbers", key=("topic", "partition", "offset"), setup=SETUP, max_wait="50ms")
)
