"""Which topics hold dead letters, and a summary of those that have not gone home.

Nothing marks a dead-letter topic but what is in it. So the last records of every partition in the cluster are
looked at, some of them, since those of a transaction are followed by its marker; a topic in which one of them
is a letter is then read as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streamkit.cli.admin import Cluster, explained, in_our_words
from streamkit.cli.redrive import Choice, Redrive
from streamkit.processing.dead_letters import letter_of

LOOKED_AT = 10  # records of a partition
BATCH = 1000
POLL_S = 0.1  # so long a round waits for more, even if nothing more comes


class Summary(msgspec.Struct):
    """The letters of one operator in one topic."""

    topic: str
    operator: str
    letters: int = 0
    oldest_ms: int | None = None  # of the failed records
    newest_ms: int | None = None
    errors: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, error: str, time_ms: int) -> None:
        self.letters += 1
        self.errors[error] += 1
        self.oldest_ms = time_ms if self.oldest_ms is None else min(self.oldest_ms, time_ms)
        self.newest_ms = time_ms if self.newest_ms is None else max(self.newest_ms, time_ms)

    def row(self, *, as_json: bool) -> dict[str, Any]:
        errors = dict(self.errors.most_common())
        return {
            "topic": self.topic,
            "operator": self.operator,
            "letters": self.letters,
            "oldest": _instant(self.oldest_ms),
            "newest": _instant(self.newest_ms),
            "errors": errors if as_json else ", ".join(f"{error} {n}" for error, n in errors.items()),
        }


def summaries(cluster: Cluster, topic: str) -> list[Summary]:
    """Of the letters in this topic that were not redriven, by operator, most first."""
    found: dict[str, Summary] = {}
    for record, letter in Redrive(cluster, topic, Choice()).letters():
        summary = found.setdefault(letter.operator, Summary(topic, letter.operator))
        summary.add(letter.error, record.timestamp()[1])
    return sorted(found.values(), key=lambda summary: -summary.letters)


def topics_with_letters(cluster: Cluster) -> list[str]:
    """Those in which something at the end of a partition is a dead letter."""
    places = [(name, number) for name, topic in cluster.topics().items() for number in topic.partitions]
    low = cluster.offsets(places, OffsetSpec.earliest())
    high = cluster.offsets(places, OffsetSpec.latest())
    starts = [
        TopicPartition(*place, max(low[place], high[place] - LOOKED_AT))
        for place in places
        if high[place] > low[place]
    ]
    return sorted(set(_with_letters(cluster, starts)))


def _with_letters(cluster: Cluster, starts: Sequence[TopicPartition]) -> Iterator[str]:
    consumer = cluster.consumer(auto_offset_reset="error")
    left = {(place.topic, place.partition) for place in starts}
    try:
        consumer.assign(list(starts))
        while left:
            with in_our_words(cluster.bootstrap):
                messages = consumer.consume(BATCH, POLL_S)
            for message in messages:
                error, topic = message.error(), message.topic() or ""
                if error is None:
                    if letter_of(message) is not None:  # type: ignore[arg-type]
                        yield topic
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((topic, message.partition() or 0))
                else:
                    raise explained(error, cluster.bootstrap)
    finally:
        consumer.close()


def _instant(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat().replace("+00:00", "Z")
