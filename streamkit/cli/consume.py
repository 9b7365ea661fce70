"""Reading records for `topic consume`: from offsets to offsets, in no group."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import click
from confluent_kafka import KafkaError, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streamkit.cli.admin import Cluster, explained, in_our_words
from streamkit.cli.offsets import OffsetRange
from streamkit.cli.output import print_json
from streamkit.cli.places import resolved
from streamkit.errors import UsageError
from streamkit.telemetry.printable import printable

BATCH = 1000
POLL_S = 0.1  # so long a round waits for more, even if nothing more comes


class Reader:
    """The records of a topic's partitions in a range of offsets; it ends when each partition reached its end.

    Invariant: `_left` maps each partition that is not done to its end offset (None: it has no end).
    """

    def __init__(self, cluster: Cluster, topic: str, partitions: Sequence[int], wanted: OffsetRange) -> None:
        self._cluster = cluster
        self._topic = topic
        places = [(topic, partition) for partition in self._choose(partitions)]
        low = cluster.offsets(places, OffsetSpec.earliest())
        high = cluster.offsets(places, OffsetSpec.latest())
        start = resolved(cluster, wanted.start, low, high)
        end = resolved(cluster, wanted.end, low, high) if wanted.end else {}
        self._left: dict[int, int | None] = {
            place[1]: end.get(place) for place in places if place not in end or start[place] < end[place]
        }
        self._consumer = cluster.consumer(auto_offset_reset="error")
        self._consumer.assign([TopicPartition(topic, p, start[topic, p]) for p in self._left])

    def _choose(self, partitions: Sequence[int]) -> list[int]:
        found = self._cluster.topic(self._topic).partitions
        for partition in partitions:
            if partition not in found:
                raise UsageError(
                    f"{self._topic} has no partition {partition}",
                    hint=f"streamkit topic describe {self._topic}",
                )
        return sorted(set(partitions) or found)

    def __iter__(self) -> Iterator[Message]:
        while self._left:
            with in_our_words(self._cluster.bootstrap):
                messages = self._consumer.consume(BATCH, POLL_S)
            for message in messages:
                if self._wanted(message):
                    yield message

    def _wanted(self, message: Message) -> bool:
        """Is this a record of the range? Also notes when a partition is done."""
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise explained(error, self._cluster.bootstrap)
        partition, offset = message.partition(), message.offset()
        assert partition is not None and offset is not None
        if partition not in self._left:
            return False
        end = self._left[partition]
        is_record = error is None
        if end is not None and offset + is_record >= end:
            del self._left[partition]
        return is_record and (end is None or offset < end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def printer(*, raw: bool, as_json: bool) -> Callable[[Message], None]:
    """How to show a record: its raw value, a JSON object, or a line of text."""
    if raw:
        return _print_value
    return _print_object if as_json else _print_line


def _print_value(record: Message) -> None:
    sys.stdout.buffer.write((record.value() or b"") + b"\n")
    sys.stdout.buffer.flush()


def _print_object(record: Message) -> None:
    headers: Any = record.headers() or []
    print_json(
        {
            "topic": record.topic(),
            "partition": record.partition(),
            "offset": record.offset(),
            "timestamp": record.timestamp()[1],
            "key": _as_json(record.key()),
            "value": _as_json(record.value()),
            "headers": [[name, _as_json(value)] for name, value in headers],
        }
    )


def _print_line(record: Message) -> None:
    place = f"{record.partition()}\t{record.offset()}"
    click.echo(f"{place}\t{_as_text(record.key())}\t{_as_text(record.value())}")


def _as_text(data: bytes | None) -> str:
    return "-" if data is None else printable(data.decode("utf-8", "backslashreplace"))


def _as_json(data: str | bytes | None) -> Any:
    if data is None or isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
