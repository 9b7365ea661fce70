"""Spark Structured Streaming over our broker: its Kafka source and sink, from its checkpoint, under kills.

Spark asks for offsets, gives each task a stretch of them, and notes what a batch is made of before it begins;
a batch that a kill cut short is done again from the same offsets. Into files this is exactly once; into a
topic it is at least once, so of a count only the newest must be right.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.compatibility.book.stages import Stage
from tests.compatibility.engines.book import COUNTED_S, PARTITIONS, Book
from tests.compatibility.engines.hdfs_reader import HdfsReader
from tests.compatibility.engines.jobs import Hdfs, Spark
from tests.compatibility.engines.program import Program

pytestmark = pytest.mark.compat_engines

LINES = 600
DIRECTORY = "/lines"


def test_words_counted_into_another_topic(
    place: Stage, name: str, play: Callable[[Program], Any], tmp_path: Path
) -> None:
    book = Book(place.bootstrap, name, place.replicas)
    checkpoint = (tmp_path / "checkpoint").as_uri()

    def query() -> Spark:
        return play(Spark(tmp_path, place.bootstrap, *book.topics, checkpoint))

    first = query().comes_to("RUNNING")
    book.write(LINES)
    book.discard(LINES)
    book.read_on()
    book.write(LINES)
    first.kill()
    second = query().comes_to("RUNNING")
    with place.leader_dies(book.topics[0]):
        book.write(LINES)
        book.read_on()
    with place.leader_dies(book.topics[1]):
        book.write(LINES)
        book.read_newest()
    second.close()
    assert book.never_falls()
    book.close()


def test_records_into_the_files_of_hdfs(
    place: Stage, name: str, play: Callable[[Program], Any], tmp_path: Path
) -> None:
    book = Book(place.bootstrap, name, place.replicas)
    topic = book.topics[0]
    hdfs = play(Hdfs(tmp_path / "hdfs"))
    reader = HdfsReader(hdfs.http)

    def query() -> Spark:
        job = Spark(
            tmp_path / "spark", place.bootstrap, topic, hdfs.uri + DIRECTORY, f"{hdfs.uri}/checkpoint"
        )
        return play(job)

    first = query().comes_to("RUNNING")
    book.write(LINES)
    book.discard(LINES)
    until_there_are(1, reader)
    book.write(LINES)
    first.kill()
    second = query().comes_to("RUNNING")
    with place.leader_dies(topic):
        book.write(LINES)
        until_there_are(2 * LINES + 1, reader)
    second.close()
    assert records_in(reader) == records_of(place.bootstrap, topic)
    book.close()


Line = tuple[int, int, str]  # partition, offset, value


def until_there_are(lines: int, reader: HdfsReader) -> None:
    deadline = time.monotonic() + COUNTED_S
    while len(records_in(reader)) < lines:
        assert time.monotonic() < deadline, f"{len(records_in(reader))} of {lines} lines came into HDFS"
        time.sleep(0.2)


def records_in(reader: HdfsReader) -> list[Line]:
    """What is in the files that Spark's log says are whole; it lists them beside them, batch by batch."""
    try:
        names = reader.names(f"{DIRECTORY}/_spark_metadata")
    except HTTPError:
        return []
    entries = [
        json.loads(entry)
        for batch in names
        if not batch.startswith(".")  # it is not whole yet
        for entry in reader.text(f"{DIRECTORY}/_spark_metadata/{batch}").splitlines()[1:]
    ]
    paths = {urlparse(entry["path"]).path for entry in entries if entry["action"] == "add"}
    rows = [json.loads(line) for path in paths for line in reader.text(path).splitlines()]
    return sorted((row["partition"], row["offset"], row["value"]) for row in rows)


def records_of(bootstrap: str, topic: str) -> list[Line]:
    """What is committed in the topic, as confluent-kafka reads it."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "none", "enable.partition.eof": True}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, index) for index in range(PARTITIONS)])
    found: list[Line] = []
    ended: set[int] = set()
    while len(ended) < PARTITIONS:
        message = consumer.poll(30)
        assert message is not None, f"partitions {ended} of {topic} alone came to their ends"
        if message.error():
            ended.add(message.partition())
        else:
            found.append((message.partition(), message.offset(), message.value().decode()))
    consumer.close()
    return sorted(found)
