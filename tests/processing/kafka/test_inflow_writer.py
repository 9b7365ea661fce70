"""Rows and position of a source: both or neither, and only from the one who began last."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit as sk
from streamkit.processing.connectors.sources import Inflow
from streamkit.processing.kafka.inflow_writer import KafkaInflowWriter
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside


class Nothing(sk.Source):
    def read(self, position: Any) -> Any: ...


@pytest.fixture
def outside(broker: BrokerProcess) -> Outside:
    return Outside(broker.bootstrap)


@pytest.fixture
def inflow(outside: Outside, name: str) -> Inflow:
    app = sk.App(name)
    app.source(Nothing(), f"{name}-in", name="src")
    app.stream(f"{name}-in").to(f"{name}-out")
    (found,) = app.topology().inflows
    outside.create(found.topic.name)
    outside.create(found.positions, **{"cleanup.policy": "compact"})
    return found


def values(outside: Outside, inflow: Inflow) -> list[Any]:
    return [value for _, value, _ in outside.read(inflow.topic.name)]


async def test_the_position_is_what_was_written_last(outside: Outside, inflow: Inflow) -> None:
    writer = KafkaInflowWriter(outside.bootstrap, {}, inflow)
    assert await writer.begin() == {}
    await writer.write([(b"1", b"k", 5, [("h", b"v")])], {"a": 1, "b": [2]})
    await writer.write([], {"a": None, "c": {"d": 3}})
    await writer.close()
    assert await writer.begin() == {"b": [2], "c": {"d": 3}}
    await writer.write([(b"2", None, None, [])], {"b": 3})
    await writer.close()
    assert outside.read(inflow.topic.name) == [(b"k", 1, [("h", b"v")]), (None, 2, None)]


async def test_who_began_before_cannot_write_any_more(outside: Outside, inflow: Inflow) -> None:
    sleeper = KafkaInflowWriter(outside.bootstrap, {}, inflow)
    successor = KafkaInflowWriter(outside.bootstrap, {}, inflow)
    await sleeper.begin()
    await sleeper.write([(b"1", None, None, [])], {"n": 1})
    assert await successor.begin() == {"n": 1}
    with pytest.raises(sk.Unavailable):
        await sleeper.write([(b"2", None, None, [])], {"n": 2})
    await successor.write([(b"3", None, None, [])], {"n": 3})
    await sleeper.close()
    await successor.close()
    assert values(outside, inflow) == [1, 3]
    assert await successor.begin() == {"n": 3}
    await successor.close()


Encoded = tuple[bytes, None, None, list[Any]]


def encoded(size: int) -> Encoded:
    return b"1" * size, None, None, []


async def written(writer: KafkaInflowWriter, rows: list[Encoded]) -> list[int]:
    """Writes all that the cluster takes; the sizes of the others."""
    refused = []
    while True:
        try:
            await writer.write(rows, {"n": len(rows)})
        except sk.BadRow as bad:
            assert "src cannot write" in str(bad.cause)
            refused.append(len(rows.pop(bad.index)[0]))
        else:
            return refused


async def test_a_row_that_no_broker_takes_is_named_and_the_others_may_be_written(
    outside: Outside, inflow: Inflow
) -> None:
    writer = KafkaInflowWriter(outside.bootstrap, {}, inflow)
    await writer.begin()
    assert await written(writer, [encoded(1), encoded(2_000_000), encoded(2)]) == [2_000_000]
    await writer.close()
    assert values(outside, inflow) == [1, 11]
    assert await writer.begin() == {"n": 2}
    await writer.close()


async def test_rows_are_not_refused_for_others_in_their_batch(outside: Outside, name: str) -> None:
    """What the topic takes is less than what librdkafka puts into a batch."""
    app = sk.App(name)
    app.source(Nothing(), f"{name}-in", name="src")
    app.stream(f"{name}-in").to(f"{name}-out")
    (found,) = app.topology().inflows
    outside.create(found.topic.name, **{"max.message.bytes": "10000"})
    outside.create(found.positions, **{"cleanup.policy": "compact"})
    writer = KafkaInflowWriter(outside.bootstrap, {}, found)
    await writer.begin()
    sizes = [4_000, 4_000, 20_000, 4_000, 12_000, 4_000]
    assert await written(writer, [encoded(size) for size in sizes]) == [20_000, 12_000]
    await writer.close()
    assert len(values(outside, found)) == 4


async def test_whoever_was_overtaken_leaves_nothing_out(outside: Outside, inflow: Inflow) -> None:
    """The portion of a source in other hands may have been written there."""
    writer, successor = (KafkaInflowWriter(outside.bootstrap, {}, inflow) for _ in range(2))
    await writer.begin()
    await successor.begin()
    await successor.write([encoded(1)], {"n": 1})
    with pytest.raises(sk.Unavailable, match="src was in other hands"):
        await writer._begin_again()
    await writer.close()
    await successor.close()
