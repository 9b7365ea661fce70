"""A query of Nexmark on its events, in memory.

The events come as they happened: those of ten seconds at a time, when the worker's clock has come to them. So
a query that measures by that clock has a right answer too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import chain, groupby
from typing import Any, NamedTuple

import msgspec

from apps.nexmark import queries
from apps.nexmark.model import Auction, Bid, Event, Person

SIDE = {key: f"value {key}" for key in range(queries.SIDE_KEYS)}
PARTITIONS = 2
LONG_AFTER_S = 3 * 86_400
MOMENT_MS = 10_000
BY_THE_CLOCK = ("q12",)
TOPICS: dict[type, str] = {Person: queries.PERSONS, Auction: queries.AUCTIONS, Bid: queries.BIDS}


class Moment(NamedTuple):
    """What happened in ten seconds, encoded: (value, key, time) by topic."""

    start_s: float
    records: dict[str, list[tuple[bytes, bytes, float]]]


class Run(NamedTuple):
    written: list[dict[str, Any]]
    read: int
    """Records of its input topics."""
    wall_s: float
    cpu_s: float


def moments(events: Iterable[Event]) -> list[Moment]:
    found: list[Moment] = []
    for number, some in groupby(events, lambda event: event.time_ms // MOMENT_MS):
        records: dict[str, list[tuple[bytes, bytes, float]]] = {topic: [] for topic in TOPICS.values()}
        for event in some:
            key = event.bidder if isinstance(event, Bid) else event.id
            record = (msgspec.json.encode(event), b"%d" % key, event.time_ms / 1000)
            records[TOPICS[type(event)]].append(record)
        found.append(Moment(number * MOMENT_MS / 1000, records))
    return found


def run(query: str, happened: list[Moment], *, together: int = 1) -> Run:
    """`together`: how many moments come at a time, unless the query measures by the clock."""
    if query in BY_THE_CLOCK:
        together = 1
    app = queries.app_of(query)
    inputs = {topic.name for topic in app.topics}
    topics = [topic for topic in TOPICS.values() if topic in inputs]
    with app.test(partitions=dict.fromkeys(inputs, PARTITIONS)) as t:
        if queries.SIDE in inputs:
            t.send_all(queries.SIDE, ((value, key) for key, value in SIDE.items()))
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        for start in range(0, len(happened), together):
            some = happened[start : start + together]
            t.sleep(max(0.0, some[0].start_s - t.now_ms / 1000))
            for topic in topics:
                t.send_all(topic, chain.from_iterable(moment.records[topic] for moment in some))
        t.advance_to(happened[-1].start_s + LONG_AFTER_S)
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        written = [msgspec.to_builtins(value) for value in t.read(f"nexmark-{query}.out")]
    read = sum(len(moment.records[topic]) for moment in happened for topic in topics)
    return Run(written, read, wall_s, cpu_s)
