"""Rows and position of a source: both or neither, and only from the one who began last."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import StreamkitError
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


async def test_a_portion_with_a_record_that_no_broker_takes_is_not_written_at_all(
    outside: Outside, inflow: Inflow
) -> None:
    writer = KafkaInflowWriter(outside.bootstrap, {}, inflow)
    await writer.begin()
    with pytest.raises(StreamkitError, match="src cannot write") as refused:
        await writer.write([(b"1", None, None, []), (b"2" * 2_000_000, None, None, [])], {"n": 2})
    assert not isinstance(refused.value, sk.Unavailable)
    assert await writer.begin() == {}
    await writer.close()
    assert values(outside, inflow) == []
