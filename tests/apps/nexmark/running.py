"""A query of Nexmark on its events, in memory.

A query that measures by the worker's clock gets its events at their own times, to the ten seconds of its
windows: only then is there a right answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import msgspec

from apps.nexmark import queries
from apps.nexmark.model import Auction, Event, Person

SIDE = {key: f"value {key}" for key in range(queries.SIDE_KEYS)}
PARTITIONS = 2
LONG_AFTER_S = 3 * 86_400
BY_THE_CLOCK = ("q12",)
WINDOW_S = 10


def run(query: str, events: Iterable[Event]) -> tuple[list[Any], int, float]:
    """(What the query wrote, how many records it read, how many seconds that took)."""
    app = queries.app_of(query)
    inputs: dict[str, list[tuple[Any, ...]]] = {topic.name: [] for topic in app.topics}
    end_s = 0.0
    for event in events:
        topic, key = _topic_of(event)
        end_s = event.time_ms / 1000
        if topic in inputs:
            inputs[topic].append((event, key, end_s))
    if queries.SIDE in inputs:
        inputs[queries.SIDE] += [(value, key) for key, value in SIDE.items()]
    read = sum(map(len, inputs.values()))
    with app.test(partitions=dict.fromkeys(inputs, PARTITIONS)) as t:
        began_s = time.perf_counter()
        for topic in (queries.SIDE, queries.PERSONS, queries.AUCTIONS, queries.BIDS):
            if topic in inputs:
                for at_s, records in _moments(query, inputs[topic]):
                    t.sleep(max(0.0, at_s - t.now_ms / 1000))
                    t.send_all(topic, records)
        t.advance_to(end_s + LONG_AFTER_S)
        took_s = time.perf_counter() - began_s
        written = [msgspec.to_builtins(value) for value in t.read(f"nexmark-{query}.out")]
    return written, read, took_s


def _moments(query: str, records: list[tuple[Any, ...]]) -> Iterable[tuple[float, list[tuple[Any, ...]]]]:
    """(When to send them, which), in order."""
    if query not in BY_THE_CLOCK:
        return [(0.0, records)]
    return ((start, list(some)) for start, some in groupby(records, lambda r: r[2] // WINDOW_S * WINDOW_S))


def _topic_of(event: Event) -> tuple[str, int]:
    """Where an event belongs, and its key."""
    if isinstance(event, Person):
        return queries.PERSONS, event.id
    if isinstance(event, Auction):
        return queries.AUCTIONS, event.id
    return queries.BIDS, event.bidder
