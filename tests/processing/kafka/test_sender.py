"""`async with app:` and `await topic.send(...)` from any asyncio program."""

from __future__ import annotations

import pytest

import streamkit as sk
from streamkit.errors import RefusedError, UsageError
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside


async def test_sent_records_are_there_on_return(broker: BrokerProcess, name: str) -> None:
    app = sk.App(name, bootstrap=broker.bootstrap)
    topic = app.topic(name, key=str, partitions=3)
    async with app:
        for number in range(3):
            await topic.send({"n": number}, key="k", headers=[("h", b"1")], timestamp_ms=5)
    outside = Outside(broker.bootstrap)
    assert outside.partitions(name) == 3
    assert outside.read(name) == [(b"k", {"n": number}, [("h", b"1")]) for number in range(3)]
    with pytest.raises(RefusedError, match="not running"):
        await topic.send({"n": 3})


async def test_another_partition_count_is_an_error(broker: BrokerProcess, name: str) -> None:
    Outside(broker.bootstrap).create(name, 2)
    app = sk.App(name, bootstrap=broker.bootstrap)
    app.topic(name, partitions=3)
    with pytest.raises(UsageError, match=f"{name} has 2 partitions; the app needs 3"):
        async with app:
            pass
