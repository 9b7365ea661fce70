"""What is to be read next is not there: retention took it, or the topic is another than it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamkit.errors import RefusedError
from streamkit.processing.kafka.source import KafkaSource
from streamkit.processing.worker.source import Arrival, Partition, Position
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside


class Reader:
    """Begins whatever it is given at an offset."""

    def __init__(self, source: KafkaSource, offset: int) -> None:
        self._source = source
        self._offset = offset
        self._begins: list[asyncio.Task[None]] = []
        self.outcome: asyncio.Future[Sequence[Arrival]] = asyncio.get_running_loop().create_future()

    async def assigned(self, positions: Sequence[Position]) -> None:
        begun = [Position(position.topic, position.partition, self._offset) for position in positions]
        self._begins.append(asyncio.create_task(self._source.begin(begun)))

    async def revoked(self, partitions: Sequence[Partition]) -> None: ...

    async def lost(self, partitions: Sequence[Partition]) -> None: ...

    def received(self, arrivals: Sequence[Arrival]) -> None:
        self._source.taken()
        if not self.outcome.done() and any(arrival.records for arrival in arrivals):
            self.outcome.set_result(arrivals)

    def failed(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


@pytest.mark.parametrize("pass_over_lost", [False, True])
async def test_a_topic_that_was_made_anew_is_refused_whatever_is_said_of_lost_records(
    broker: BrokerProcess, name: str, pass_over_lost: bool
) -> None:
    """Going on at its beginning would pass over all that comes below the former offset, in silence."""
    outside = Outside(broker.bootstrap)
    outside.create(name, 1)
    outside.send(name, range(3))
    source = KafkaSource(broker.bootstrap, name, {name: []}, {}, pass_over_lost=pass_over_lost)
    reader = Reader(source, offset=10)
    await source.start(reader)
    try:
        with pytest.raises(RefusedError, match=f"{name}-0 ends at 3, but 10 comes next"):
            async with asyncio.timeout(60):
                await reader.outcome
    finally:
        await source.close()
