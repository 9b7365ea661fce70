"""The feed of departures: a topic with one partition for each of New York's three airports.

Each partition tells of its airport's flights in the order in which they really left; a cancelled flight is
told of at its scheduled time. The record's timestamp is the *scheduled* departure, so more than half of the
records are out of order, some by most of a day.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from importlib.resources import files
from typing import Any

from streamkit.errors import DeadlineError

TOPIC = "demo.flights"
AIRPORTS = ("EWR", "JFK", "LGA")  # the partition of a flight is the place of its airport in here
TOPIC_CONFIG = {
    "retention.ms": "-1"
}  # these are records of 2013: seven days of retention would drop them at once

SEND_DEADLINE_S = 60

Row = dict[str, str]
# New York is five hours behind UTC in winter. No flight of January left later than on the first of February.
JANUARY = ("2013-01-01T05:00Z", "2013-02-01T05:00Z")
AFTER_JANUARY = "2013-02-03T00:00Z"


def rows(*, full: bool = False) -> Iterator[Row]:
    """The lines of the CSV file in its order: all of 2013, or January."""
    packed = files("streamkit.demo") / "data" / "flights.csv.gz"
    with packed.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            if full or JANUARY[0] <= row["scheduled"] < JANUARY[1]:
                yield row
            elif row["scheduled"] > AFTER_JANUARY:
                return


def scheduled_ms(row: Row) -> int:
    return round(datetime.fromisoformat(row["scheduled"]).timestamp() * 1000)


def value_of(row: Row) -> bytes:
    """A row as the job reads it: numbers as numbers, no `delay` for a cancelled flight."""
    value: dict[str, Any] = {
        **row,
        "scheduled": row["scheduled"].replace("Z", ":00Z"),
        "delay": int(row["delay"]) if row["delay"] else None,
        "flight": int(row["flight"]),
    }
    return json.dumps(value, separators=(",", ":")).encode()


def send(rows: Iterable[Row], bootstrap: str, *, sent: Callable[[int], None] = lambda count: None) -> int:
    """Write the rows to the topic, wait until all are acknowledged, and answer how many there were.

    `sent` hears now and then how many are on their way.
    """
    from confluent_kafka import KafkaException, Producer

    failed: list[Any] = []

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(error)

    settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
    producer = Producer({**settings, "on_delivery": delivered})
    count = 0
    for count, row in enumerate(rows, 1):
        _queue(producer, row)
        if count % 1000 == 0:
            producer.poll(0)
            sent(count)
        if failed:
            raise KafkaException(failed[0])
    unacknowledged = producer.flush(SEND_DEADLINE_S)
    if failed:
        raise KafkaException(failed[0])
    if unacknowledged:
        raise DeadlineError(
            f"{bootstrap} did not acknowledge {unacknowledged} flights in {SEND_DEADLINE_S} s"
        )
    sent(count)
    return count


def _queue(producer: Any, row: Row) -> None:
    """Hand a row to the producer; wait while its queue is full."""
    record = {"key": row["origin"], "value": value_of(row), "timestamp": scheduled_ms(row)}
    while True:
        try:
            producer.produce(TOPIC, partition=AIRPORTS.index(row["origin"]), **record)
        except BufferError:
            producer.poll(0.1)
        else:
            return
