"""Reads changelog partitions between given offsets, as fast as they come.

A consumer of its own, without a group, that lives for one restore. Its calls block, so they run in a thread;
the records are handed over on the loop in slices, so that tasks that are already running keep their turn. A
restore that is cancelled waits for the call in hand: a client must not be closed under it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streamkit.errors import RefusedError
from streamkit.processing.kafka.blocking import in_thread
from streamkit.processing.kafka.settings import KafkaSettings, reader_settings
from streamkit.processing.kafka.source import by_partition
from streamkit.processing.record import RawRecord
from streamkit.processing.worker.source import Arrival, Partition

ROUND_RECORDS = 4_000
SLICE_RECORDS = 500
POLL_S = 0.1
REQUEST_S = 2.0
RETRY_S = 0.25
MISSING_S = 15.0  # a topic that is unknown for so long is gone; before, metadata may be on its way
STALLED_S = 30.0  # without a record for so long: is it still there?

MISSING = {
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}

Span = tuple[int, int]  # offsets: from, to (exclusive)
log = logging.getLogger("worker.restore")


class KafkaChangelogReader:
    def __init__(self, bootstrap: str, user: KafkaSettings) -> None:
        self._conf = reader_settings(bootstrap, user)

    async def spans(self, committed: Mapping[Partition, int]) -> dict[Partition, Span]:
        """Start and (last stable) end of each partition. Waits for brokers that do not answer, and for
        transactions that are committed but not marked as such everywhere; raises RefusedError for a partition
        that is gone or lacks what was committed.
        """
        spans = {}
        async with self._consumer() as consumer:
            for place, position in committed.items():
                spans[place] = await _span(consumer, place)
                if spans[place][1] < position:
                    await self._check_complete(place, position)
                while spans[place][1] < position:
                    await asyncio.sleep(RETRY_S)
                    spans[place] = await _span(consumer, place)
        return spans

    async def read(
        self, spans: Mapping[Partition, Span], apply: Callable[[Partition, Sequence[RawRecord]], None]
    ) -> None:
        """`apply` every record in its partition's [from, end), in order. Cancellable."""
        remaining = {place: end for place, (start, end) in spans.items() if end > start}
        if not remaining:
            return
        topic = _only_topic(remaining)
        async with self._consumer() as consumer:
            await _assign(consumer, {place: spans[place][0] for place in remaining})
            progress = monotonic()
            while remaining:
                arrivals = await in_thread(_round, consumer, topic)
                for arrival in arrivals:
                    await self._take(arrival, remaining, apply)
                if arrivals:
                    progress = monotonic()
                elif monotonic() - progress > STALLED_S:
                    await self.spans(remaining)
                    progress = monotonic()

    async def follow(
        self,
        starts: Mapping[Partition, int],
        apply: Callable[[Partition, Sequence[RawRecord]], None],
        caught_up: Callable[[], None],
    ) -> None:
        """`apply` every record from these offsets on, until cancelled; `caught_up` once, at all ends."""
        behind, topic = set(starts), _only_topic(starts)
        async with self._consumer() as consumer:
            await _assign(consumer, starts)
            while True:
                for arrival in await in_thread(_round, consumer, topic):
                    place = (arrival.topic, arrival.partition)
                    for start in range(0, len(arrival.records), SLICE_RECORDS):
                        apply(place, arrival.records[start : start + SLICE_RECORDS])
                        await asyncio.sleep(0)
                    if arrival.end_offset is not None and place in behind:
                        behind.discard(place)
                        if not behind:
                            caught_up()

    async def _check_complete(self, place: Partition, committed: int) -> None:
        """What was committed is there, if only in a transaction whose end is not marked yet."""
        async with self._consumer(**{"isolation.level": "read_uncommitted"}) as consumer:
            _check_end(place, committed, (await _span(consumer, place))[1])

    @asynccontextmanager
    async def _consumer(self, **settings: str) -> AsyncIterator[Consumer]:
        consumer = Consumer({**self._conf, **settings}, logger=log)
        try:
            yield consumer
        finally:
            await in_thread(consumer.close)

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
            _check_end(place, end, arrival.end_offset)
            del remaining[place]
        for start in range(0, len(records), SLICE_RECORDS):
            apply(place, records[start : start + SLICE_RECORDS])
            await asyncio.sleep(0)


async def _span(consumer: Consumer, place: Partition) -> Span:
    missing_since: float | None = None
    while True:
        try:
            marks = await in_thread(consumer.get_watermark_offsets, TopicPartition(*place), REQUEST_S)
            return int(marks[0]), int(marks[1])
        except KafkaException as error:
            reason: KafkaError = error.args[0]
        if reason.code() not in MISSING:
            missing_since = None
        elif missing_since is None:
            missing_since = monotonic()
        elif monotonic() - missing_since > MISSING_S:
            raise RefusedError(
                f"the changelog {place[0]}-{place[1]} does not exist: {reason.str()}",
                hint="start the worker again to create it; what it held is lost",
            )
        log.warning("the end of %s-%d is not known yet: %s", *place, reason.str())
        await asyncio.sleep(RETRY_S)


async def _assign(consumer: Consumer, starts: Mapping[Partition, int]) -> None:
    """Offset 0 stands for the first that is left. librdkafka looks for that half a second later where it
    does not know the leader, so it is asked to learn about each topic first.
    """
    for place in {place[0]: place for place, start in starts.items() if not start}.values():
        with suppress(KafkaException):
            await in_thread(consumer.get_watermark_offsets, TopicPartition(*place), REQUEST_S)
    consumer.assign([TopicPartition(*place, start or OFFSET_BEGINNING) for place, start in starts.items()])


def _only_topic(places: Iterable[Partition]) -> str | None:
    """None: there are several."""
    topics = {topic for topic, _ in places}
    return topics.pop() if len(topics) == 1 else None


def _round(consumer: Consumer, topic: str | None) -> list[Arrival]:
    first = consumer.poll(POLL_S)
    if first is None:
        return []
    return by_partition([first, *consumer.consume(ROUND_RECORDS - 1, 0)], topic=topic)


def _check_end(place: Partition, committed: int, end: int) -> None:
    """The partition ends here. Compaction leaves gaps below the end but never lowers it."""
    if end < committed:
        raise RefusedError(
            f"the changelog {place[0]}-{place[1]} ends at {end}, but {committed} is committed: state is lost",
            hint="give the app another name to build its state anew from the input",
        )
