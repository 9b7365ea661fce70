"""A flush lets processing go on; when it is given up, what found no room is still to be sent."""

from __future__ import annotations

import asyncio
import json

import pytest

from streamkit.processing.kafka.settings import producer_settings
from streamkit.processing.kafka.sink import MOST_HELD, KafkaSink
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.runtime.os.clock import SystemClock
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside

NOBODY = "127.0.0.1:1"
SMALL_QUEUE = {"queue.buffering.max.messages": 10, "linger.ms": 5}


def records(*values: int) -> list[SinkRecord]:
    return [(json.dumps(value).encode(), b"k", 1, None, 0) for value in values]


async def test_more_records_than_the_queue_holds_arrive_in_order(broker: BrokerProcess, name: str) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(name, 1)
    sink = KafkaSink(producer_settings(outside.bootstrap, SMALL_QUEUE), SystemClock(), {})
    sink.send(name, records(*range(200)))
    await sink.flush()
    assert [value for _, value, _ in outside.read(name)] == list(range(200))
    await sink.close()


async def test_a_cancelled_flush_drops_nothing(broker: BrokerProcess, name: str) -> None:
    """A leaving worker cancels the commit in hand and makes a last one, which must not acknowledge less."""
    outside = Outside(broker.bootstrap)
    outside.create(name, 1)
    sink = KafkaSink(producer_settings(outside.bootstrap, SMALL_QUEUE), SystemClock(), {})
    sink.send(name, records(*range(100)))
    flush = asyncio.create_task(sink.flush())
    await asyncio.sleep(0)
    sink.send(name, records(*range(100, 120)))  # during a flush: held for the next
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    await sink.flush()
    assert [value for _, value, _ in outside.read(name)] == list(range(120))
    await sink.close()


async def test_a_flush_holds_records_back_without_stopping_those_who_make_them() -> None:
    sink = KafkaSink(producer_settings(NOBODY, {}), SystemClock(), {})
    sink.send("t", records(1))
    flush = asyncio.create_task(sink.flush())
    await asyncio.sleep(0)
    sink.send("t", records(2))
    assert not sink.full
    sink.send("t", records(3) * MOST_HELD)
    assert sink.full
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    sink.serve()
    assert not sink.full
    await sink.close()


async def test_what_is_discarded_is_waited_for_no_more_and_the_next_records_go_out(
    broker: BrokerProcess, name: str
) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(name, 1)
    sink = KafkaSink(
        producer_settings(outside.bootstrap, SMALL_QUEUE | {"linger.ms": 300}), SystemClock(), {}
    )
    sink.send(name, records(*range(5)))
    flush = asyncio.create_task(sink.flush())
    await asyncio.sleep(0)
    sink.send(name, records(*range(5, 30)))
    sink.discard()
    await asyncio.wait_for(flush, 10)
    sink.send(name, records(*range(30, 40)))
    await sink.flush()
    assert [value for _, value, _ in outside.read(name)] == list(range(30, 40))
    await sink.close()
