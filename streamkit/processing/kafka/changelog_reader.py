"""Reads changelog partitions from their beginning to given offsets, as fast as they come.

A consumer of its own, without a group, that lives for one restore. Its calls block, so they run in a thread;
the records are handed over on the loop in slices, so that tasks that are already running keep their turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from streamkit.errors import RefusedError
from streamkit.processing.kafka.settings import KafkaSettings, reader_settings
from streamkit.processing.kafka.source import by_partition
from streamkit.processing.record import RawRecord
from streamkit.processing.source import Arrival, Partition

ROUND_RECORDS = 4_000
SLICE_RECORDS = 500
POLL_S = 0.1

log = logging.getLogger("worker.restore")


class KafkaChangelogReader:
    def __init__(self, bootstrap: str, user: KafkaSettings) -> None:
        self._conf = reader_settings(bootstrap, user)

    async def read(
        self, ends: Mapping[Partition, int], apply: Callable[[Partition, Sequence[RawRecord]], None]
    ) -> None:
        """`apply` every record below its partition's (exclusive) end, in order. Cancellable."""
        remaining = {place: end for place, end in ends.items() if end > 0}
        if not remaining:
            return
        consumer = Consumer(self._conf, logger=log)
        try:
            consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in remaining])
            while remaining:
                for arrival in await asyncio.to_thread(_round, consumer):
                    await self._take(arrival, remaining, apply)
        finally:
            await asyncio.to_thread(consumer.close)

    async def _take(
        self,
        arrival: Arrival,
        remaining: dict[Partition, int],
        apply: Callable[[Partition, Sequence[RawRecord]], None],
    ) -> None:
        place = (arrival.topic, arrival.partition)
        end = remaining.get(place)
        if end is None:
            return
        records = arrival.records
        if records and records[-1].offset() >= end - 1:
            del remaining[place]
            records = [record for record in records if record.offset() < end]
        elif arrival.end_offset is not None:
            _check_complete(place, end, arrival.end_offset)
            del remaining[place]
        for start in range(0, len(records), SLICE_RECORDS):
            apply(place, records[start : start + SLICE_RECORDS])
            await asyncio.sleep(0)


def _round(consumer: Consumer) -> list[Arrival]:
    first = consumer.poll(POLL_S)
    if first is None:
        return []
    return by_partition([first, *consumer.consume(ROUND_RECORDS - 1, 0)])


def _check_complete(place: Partition, committed: int, end: int) -> None:
    """The partition ends here. Compaction leaves gaps below the end but never lowers it."""
    if end < committed:
        raise RefusedError(
            f"the changelog {place[0]}-{place[1]} ends at {end}, but {committed} is committed: state is lost",
            hint="give the app another name to build its state anew from the input",
        )
