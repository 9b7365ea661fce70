"""Flink counts words over our broker, exactly once: its Kafka source and sink, checkpoints, kills of both.

Flink writes in transactions that end with its checkpoints. After a kill it commits again what its checkpoint
says was ready, by the producer id and epoch noted there, and looks for what is left open: by taking over all
transactional ids that may have been in use (INCREMENTING), or by asking the broker for the open transactions
of its topic's producers (POOLING).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.compatibility.book.stages import Stage
from tests.compatibility.contract import until
from tests.compatibility.engines.book import COUNTED_S, PARTITIONS, Book
from tests.compatibility.engines.jobs import Flink
from tests.compatibility.engines.program import Program

pytestmark = pytest.mark.compat_engines

LINES = 300
KILLS = 2


@pytest.mark.parametrize("naming", ["INCREMENTING", "POOLING"])
def test_word_count_exactly_once_under_kills(
    place: Stage, name: str, naming: str, play: Callable[[Program], Flink], tmp_path: Path
) -> None:
    book = Book(place.bootstrap, name, place.replicas)
    for _ in range(KILLS):
        job = play(Flink(tmp_path, place.bootstrap, name, book.topics, naming)).comes_to("RUNNING")
        book.write(LINES)
        book.discard(LINES)
        book.read_on()
        book.write(LINES)
        job.kill()
    job = play(Flink(tmp_path, place.bootstrap, name, book.topics, naming)).comes_to("RUNNING")
    with place.leader_dies(book.topics[1]):
        book.write(LINES)
        book.read_on()
    with place.leader_dies(book.topics[0]):
        book.write(LINES)
        book.read()
    # Flink commits between two polls, of which one waits for ten seconds where nothing comes.
    lines = ends(place.bootstrap, book.topics[0])
    until(lambda: committed(place.bootstrap, name, book.topics[0]) == lines, "all is committed", COUNTED_S)
    job.close()
    assert book.is_complete()
    book.close()


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """The offsets that Flink committed to its group with its last checkpoint."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    found = consumer.committed([TopicPartition(topic, index) for index in range(PARTITIONS)], timeout=20)
    consumer.close()
    return {one.partition: one.offset for one in found}


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none"})
    found = {
        index: consumer.get_watermark_offsets(TopicPartition(topic, index), timeout=20)[1]
        for index in range(PARTITIONS)
    }
    consumer.close()
    return found
