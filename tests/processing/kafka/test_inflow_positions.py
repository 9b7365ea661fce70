"""Positions as records of a compacted topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import streamkit as sk
from streamkit.processing.kafka.inflow_writer import KafkaInflowWriter
from streamkit.processing.record import RawRecord
from streamkit.processing.testing import StoredRecord

FOREIGN = b"stra\xdfe.csv".decode(errors="surrogateescape")  # as Python reads a Latin-1 file name


class Positions:
    """The topic, as a producer and as a reader."""

    def __init__(self) -> None:
        self.records: list[RawRecord] = []

    def begin_transaction(self) -> None: ...

    def commit_transaction(self, timeout_s: float) -> None: ...

    def produce(self, topic: str, value: bytes, key: bytes, *_: Any) -> None:
        self.records.append(StoredRecord((topic, 0, len(self.records)), (key, value), 0))

    async def spans(self, committed: Mapping[Any, int]) -> Mapping[Any, int]:
        return committed

    async def read(self, spans: Mapping[Any, int], apply: Callable[[Any, Sequence[RawRecord]], None]) -> None:
        apply(next(iter(spans)), self.records)


async def test_entries_of_a_position_have_any_name() -> None:
    app, topic = sk.App("in"), Positions()
    app.source(sk.FileSource("inbox", "csv"), app.topic("orders", value=dict))
    app.stream("orders").to("out")
    writer = KafkaInflowWriter("127.0.0.1:1", {}, app.topology().inflows[0])
    writer._producer, writer._reader = cast(Any, topic), cast(Any, topic)
    await writer.write([], {"plain": 1, FOREIGN: 2})
    assert await writer._position() == {"plain": 1, FOREIGN: 2}
