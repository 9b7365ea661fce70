"""A consumer group member on librdkafka.

**Who distributes what.** The group hands out *tasks*, not single topics: for each subtopology one topic, the
one with the most partitions, is subscribed, and its partitions stand for the tasks. The same partitions of
the subtopology's other topics follow their leader (`companions`), so co-partitioned inputs always meet in one
worker whatever the assignor does. That lets us use the cooperative assignor, under which partitions that
stay are never interrupted (range would co-partition too, but stops everybody at each rebalance).

**When reading starts.** An assignment is accepted at once with nothing in it; partitions are added by
`begin`, after restore. Until then librdkafka does not even fetch them, and the others flow.

**Back-pressure.** At most `ROUNDS` rounds of records are on their way to the loop. With none to give away
the thread takes single records, to keep serving rebalances and `max.poll.interval.ms`, and after half that
interval pauses the partitions (earlier would throw away their prefetched records for nothing).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streamkit.errors import BrokerUnreachableError, RefusedError, StreamkitError
from streamkit.processing.kafka.client_thread import ClientThread
from streamkit.processing.kafka.settings import KafkaSettings, consumer_settings, judged
from streamkit.processing.worker.deleted_topics import deleted
from streamkit.processing.worker.roster import client_id
from streamkit.processing.worker.source import Arrival, Listener, Partition, Position

ROUNDS = 2
ROUND_RECORDS = 10_000
POLL_S = 0.02
FULL_POLL_S = 0.25
REQUEST_S = 10.0

# Answers that say "not now": the next commit carries the same offsets.
COMMIT_LATER = {
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # deleted: its partitions are about to go
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._STATE,
    KafkaError._DESTROY,
}
# What a poll may report while brokers come and go; librdkafka goes on by itself.
PASSING = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._MAX_POLL_EXCEEDED,
}

LATEST = {"latest", "end", "largest"}  # librdkafka's words for it

log = logging.getLogger("worker.source")


class KafkaSource:
    """The `Source` port. `companions[leader topic]` = (other topic, its partition count) pairs. `address`:
    where this worker is asked for rows, for the others to know. `follows`: topics that are read, too, unless
    `follow` says otherwise later; None: there are never others. `whole`: topics that are read from the first
    record on where nothing is committed, whatever the user wants of the others.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        companions: dict[str, Sequence[tuple[str, int]]],
        user: KafkaSettings,
        *,
        pass_over_lost: bool = False,
        address: str | None = None,
        follows: Collection[str] | None = None,
        whole: Collection[str] = (),
    ) -> None:
        self._app_id = group
        conf = consumer_settings(bootstrap, group, user)
        conf["client.id"] = client_id(conf["client.id"], address)
        self._latest = conf["auto.offset.reset"] in LATEST
        self._whole = frozenset(whole)
        # the policy is for partitions without a commit; for the others librdkafka would apply it in silence
        self._conf = {**conf, "auto.offset.reset": "error"}
        self._pass_over_lost = pass_over_lost
        self._overtaken: list[tuple[Partition, int]] = []  # and the offset that is not there
        self._companions = companions
        topics = [*companions, *(topic for following in companions.values() for topic, _ in following)]
        self._follows = list(follows or ())
        self._only_topic = topics[0] if len(topics) == 1 and follows is None else None
        self._max_poll_s = int(self._conf.get("max.poll.interval.ms", 300_000)) / 1000
        self._sent = 0  # written by the client thread only
        self._taken = 0  # written by the loop only
        self._member = False
        self._full_since: float | None = None
        self._paused = False
        self._assigned: set[Partition] = set()
        self._reading: set[Partition] = set()  # of those assigned

    async def start(self, listener: Listener) -> None:
        self._listener = listener
        self._thread = ClientThread(self._idle, listener.failed)
        self._thread.start()
        await self._thread.call(self._join)

    async def follow(self, topics: Collection[str]) -> None:
        """Be given partitions of these topics, instead of the `follows` until now."""
        await self._thread.call(lambda: self._follow(topics))

    async def begin(self, positions: Sequence[Position]) -> None:
        await self._thread.call(lambda: self._begin(positions))

    async def halt(self, partitions: Sequence[Partition]) -> None:
        await self._thread.call(lambda: self._halt(partitions))

    async def committed(self, partitions: Sequence[Partition]) -> list[Position]:
        places = [TopicPartition(*place) for place in partitions]
        return await self._thread.call(lambda: self._committed(places))

    async def member_id(self) -> str:
        return await self._thread.call(lambda: self._consumer.memberid() or "")

    async def group(self) -> Any:
        return await self._thread.call(self._consumer.consumer_group_metadata)

    def taken(self) -> None:
        self._taken += 1
        if self._rounds_left == 1:
            self._thread.wake()

    async def commit(self, positions: Sequence[Position]) -> bool:
        return not positions or await self._thread.call(lambda: self._commit(positions))

    async def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return await self._thread.call(lambda: self._ends(partitions, cached=False))

    async def known_ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return await self._thread.call(lambda: self._ends(partitions, cached=True))

    async def close(self) -> None:
        if self._thread.alive:
            await self._thread.call(self._leave, outermost=True)
        await self._thread.stop()

    @property
    def _rounds_left(self) -> int:
        return ROUNDS + self._taken - self._sent

    # -- on the client thread -------------------------------------------------------------------------

    def _join(self) -> None:
        with judged():
            self._consumer = Consumer(self._conf, logger=log)
        self._subscribe()
        self._member = True

    def _follow(self, topics: Collection[str]) -> None:
        self._follows = list(topics)
        self._subscribe()

    def _subscribe(self) -> None:
        """What is assigned stays so, unless its topic is not among these."""
        topics = [*self._companions, *self._follows]
        if not topics:
            self._consumer.unsubscribe()
            return
        self._consumer.subscribe(
            topics,
            on_assign=self._thread.guarded(self._on_assign),
            on_revoke=self._thread.guarded(self._on_revoke),
            on_lost=self._thread.guarded(self._on_lost),
        )

    def _leave(self) -> None:
        self._member = False
        self._consumer.close()

    def _idle(self) -> None:
        if not self._member:
            self._thread.rest(POLL_S)
        elif self._rounds_left > 0:
            self._full_since = None
            self._set_paused(False)
            self._poll(POLL_S, ROUND_RECORDS)
        else:
            self._poll_full()

    def _poll_full(self) -> None:
        now = time.monotonic()
        self._full_since = self._full_since or now
        if now - self._full_since > self._max_poll_s / 2:
            self._set_paused(True)
        self._thread.rest(FULL_POLL_S)
        if self._member and self._rounds_left <= 0:
            self._poll(0, 1)

    def _poll(self, wait_s: float, limit: int) -> None:
        """One round: wait for a first record, then take what else is there."""
        first = self._consumer.poll(wait_s)
        messages = [] if first is None else [first]
        if first is not None and limit > 1:
            messages += self._consumer.consume(limit - 1, 0)
        self._thread.raise_caught()
        arrivals = by_partition(messages, self._judge, self._only_topic)
        if arrivals:
            self._sent += 1
            self._thread.post(self._listener.received, arrivals)
        while self._overtaken:
            self._pass_over(*self._overtaken.pop())

    def _judge(self, event: Message) -> None:
        error = event.error()
        if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._overtaken.append(((event.topic() or "", event.partition() or 0), event.offset() or 0))
        else:
            _judge(event)

    def _pass_over(self, place: Partition, offset: int) -> None:
        """The records to be read next are not there any more: say so, and end or go on as the app wants. In
        another log there is nothing to go on with: a task takes no records below `offset`.
        """
        if place not in self._reading:
            return
        end = self._ends([place], cached=False).get(place, offset)
        if end < offset:
            self._thread.post(self._listener.failed, _another_log(place, offset, end))
            return
        if self._is_deleted(place[0]):
            if place[0] in self._follows:
                self._read_what_is_left(place)  # until it is not followed any more, or there again
            else:
                self._thread.post(self._listener.failed, deleted([place[0]], self._app_id))
            return
        what = f"{place[0]}-{place[1]}: the records that come next are not there any more (retention?)"
        if not self._pass_over_lost:
            hint = 'to go on at what is left, without them: App(on_lost_records="continue")'
            self._thread.post(self._listener.failed, RefusedError(what, hint=hint))
            return
        log.warning("%s; reading goes on at the first that is left", what)
        self._read_what_is_left(place)

    def _is_deleted(self, topic: str) -> bool:
        try:
            found = self._consumer.list_topics(topic, REQUEST_S).topics[topic]
        except KafkaException:
            return False
        return found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART

    def _read_what_is_left(self, place: Partition) -> None:
        self._consumer.incremental_unassign([TopicPartition(*place)])
        self._consumer.incremental_assign([TopicPartition(*place, OFFSET_BEGINNING)])

    def _set_paused(self, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        partitions = [TopicPartition(*place) for place in self._reading]
        (self._consumer.pause if paused else self._consumer.resume)(partitions)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([])
        if not partitions:
            return
        places = self._with_companions(partitions)
        positions = self._committed(places)
        self._assigned.update((p.topic, p.partition) for p in places)
        self._thread.wait_for(self._listener.assigned(positions))

    def _committed(self, places: list[TopicPartition]) -> list[Position]:
        committed = _retrying(lambda: self._consumer.committed(places, REQUEST_S))
        return [
            Position(p.topic, p.partition, p.offset if p.offset >= 0 else None, p.metadata or "")
            for p in committed
        ]

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_back(consumer, partitions, self._listener.revoked)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_back(consumer, partitions, self._listener.lost)

    def _give_back(
        self, consumer: Consumer, partitions: list[TopicPartition], tell: Callable[..., Any]
    ) -> None:
        leaving = [(p.topic, p.partition) for p in self._with_companions(partitions)]
        if leaving:
            self._thread.wait_for(tell(leaving))
        fetched = [TopicPartition(*place) for place in leaving if place in self._reading]
        self._reading.difference_update(leaving)
        self._assigned.difference_update(leaving)
        consumer.incremental_unassign(fetched)

    def _with_companions(self, leaders: Sequence[TopicPartition]) -> list[TopicPartition]:
        found = list(leaders)
        for leader in leaders:
            for topic, count in self._companions.get(leader.topic, ()):
                if leader.partition < count:
                    found.append(TopicPartition(topic, leader.partition))
        return found

    def _begin(self, positions: Sequence[Position]) -> None:
        # a restore may end just when its partitions are taken away
        ours = [p for p in positions if (p.topic, p.partition) in self._assigned]
        self._consumer.incremental_assign(
            [
                TopicPartition(p.topic, p.partition, self._first(p.topic) if p.offset is None else p.offset)
                for p in ours
            ]
        )
        self._reading.update((p.topic, p.partition) for p in ours)

    def _first(self, topic: str) -> int:
        return OFFSET_END if self._latest and topic not in self._whole else OFFSET_BEGINNING

    def _halt(self, partitions: Sequence[Partition]) -> None:
        reading = [place for place in partitions if place in self._reading]
        self._consumer.incremental_unassign([TopicPartition(*place) for place in reading])
        self._reading.difference_update(reading)

    def _commit(self, positions: Sequence[Position]) -> bool:
        offsets = [TopicPartition(p.topic, p.partition, p.offset or 0, p.metadata) for p in positions]
        try:
            answers = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            return _later(error.args[0])
        return all(_later(answer.error) for answer in answers or () if answer.error is not None)

    def _ends(self, partitions: Sequence[Partition], *, cached: bool) -> dict[Partition, int]:
        found = {}
        for place in partitions:
            try:
                marks = self._consumer.get_watermark_offsets(
                    TopicPartition(*place), timeout=REQUEST_S, cached=cached
                )
            except KafkaException:
                continue
            if marks is not None and marks[1] >= 0:
                found[place] = marks[1]
        return found


def _another_log(place: Partition, offset: int, end: int) -> RefusedError:
    return RefusedError(
        f"{place[0]}-{place[1]} ends at {end}, but {offset} comes next: the topic was made anew, or its last "
        "records are lost",
        hint="to begin anew, without what the app has made of the former records: streamkit app reset",
    )


def _later(error: KafkaError) -> bool:
    """False for "not now"; anything else stops the worker."""
    if error.retriable() or error.code() in COMMIT_LATER:
        log.warning("offsets not committed yet: %s", error.str())
        return False
    raise StreamkitError(f"cannot commit offsets: {error.str()}", hint="see the broker's log") from None


def _retrying(call: Callable[[], Any]) -> Any:
    """A read of the coordinator, repeated while it is moving or away."""
    while True:
        try:
            return call()
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() not in COMMIT_LATER:
                raise
            log.warning("committed offsets not read yet: %s", error.args[0].str())
            time.sleep(FULL_POLL_S)


def _runs(messages: list[Any], attribute: Callable[[Message], Any]) -> Iterator[list[Any]]:
    """Cut where the attribute changes. All records of a worker pass here, so it loops in C."""
    values = [*map(attribute, messages)]
    if values and values.count(values[0]) == len(values):
        yield messages
        return
    start = 0
    for _, same in groupby(values):
        end = start + len(list(same))
        yield messages[start:end]
        start = end


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _judge(event: Message) -> None:
    """Raise for what does not pass by itself."""
    error = event.error()
    if error is None or _is_end(event):
        return
    if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION):
        raise BrokerUnreachableError(error.str(), hint="check the credentials in App(kafka=...)")
    if error.fatal() or not (error.retriable() or error.code() in PASSING):
        raise StreamkitError(f"reading {event.topic() or 'records'}: {error.str()}")
    log.warning("reading %s: %s", event.topic() or "records", error.str())


def by_partition(
    messages: list[Any], judge: Callable[[Message], None] = _judge, topic: str | None = None
) -> list[Arrival]:
    """The records in runs of one partition each, with events (end of partition, errors) taken out.

    `topic`: where all of them are from, if that is known.
    """
    arrivals: list[Arrival] = []
    for same_number in _runs(messages, Message.partition):
        for run in _runs(same_number, Message.topic) if topic is None else (same_number,):
            last, end_offset, records = run[-1], None, run
            if any(map(Message.error, run)):
                for message in run:
                    judge(message)
                end_offset = last.offset() if _is_end(last) else None
                records = [message for message in run if message.error() is None]
            if records or end_offset is not None:
                arrivals.append(Arrival(topic or last.topic(), last.partition(), records, end_offset))
    return arrivals
