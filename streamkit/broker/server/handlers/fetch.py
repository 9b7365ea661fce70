"""Fetch (1): record batches from many partitions, now or as soon as there are enough of them.

One look at the partitions decides: enough bytes, an error, or no time to wait answer at once; otherwise the
fetch is parked. It then watches its partitions and one timer, and looks again when the high watermark of
one has moved over enough bytes, when one of them ends, or when its time is over. Nothing read is kept while
it waits.

What a response may hold is shared out in the request's order (a session turns its order, KIP-227): the
first partition that has records gives at least one whole batch, however large, the others what still fits.
Bytes that are not in the page cache are read by the disk's own threads while the fetch waits for them.

A follower's fetch (it names its broker) says what the follower has on disk, reads to the log's end, and wakes
up for every append, and when it can learn of a higher high watermark. While replication is throttled, it
gets nothing of the throttled partitions in which it is not in sync (KIP-73). A consumer that names its rack
may be sent to a replica there (KIP-392), which serves it below its own high watermark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from streamkit.broker.replication.leader import FollowerFetch
from streamkit.broker.server.dispatch import LATER, Later, RequestContext, Route, reply_when_done
from streamkit.broker.server.replicas.fetch_sessions import FetchContext, PartitionKey, TopicKey, Wanted
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.storage.errors import LogOfflineError, OffsetOutOfRangeError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)
from streamkit.protocol.records.batch import Buffer, batches

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from streamkit.broker.server.node import Broker
    from streamkit.broker.server.timers import Timer

FIRST_VERSION_BY_ID = 13
FIRST_VERSION_WITH_REPLICA_STATE = 15
READ_COMMITTED = 1
CONSUMER = -1
DEBUGGER = -2
NO_EPOCH = -1
NO_OFFSET = -1
NO_REPLICA = -1
FIRST_VERSION_WITH_RACKS = 11
FIRST_VERSION_WITH_LEADERS = 16
"""From which version on a consumer is told who leads instead (KIP-951)."""


def fetch(
    broker: Broker, request: RequestContext, message: FetchRequest
) -> FetchResponse | Awaitable[FetchResponse] | Later:
    by_id = request.version >= FIRST_VERSION_BY_ID
    context = broker.fetch_sessions.open(
        session_id=message.session_id,
        session_epoch=message.session_epoch,
        wanted=list(wanted_partitions(message, by_id=by_id)),
        forgotten=list(forgotten_partitions(message, by_id=by_id)),
        by_id=by_id,
    )
    if context.error is not ErrorCode.NONE:
        broker.count_failure(ApiKey.FETCH, context.error)
        return FetchResponse(error_code=context.error)
    return PendingFetch(broker, request, message, context).start()


def wanted_partitions(message: FetchRequest, *, by_id: bool) -> Iterator[Wanted]:
    for topic in message.topics:
        key: TopicKey = topic.topic_id if by_id else topic.topic
        for one in topic.partitions:
            yield Wanted(
                topic=key,
                partition=one.partition,
                fetch_offset=one.fetch_offset,
                max_bytes=one.partition_max_bytes,
                current_leader_epoch=max(one.current_leader_epoch, NO_EPOCH),
                last_fetched_epoch=max(one.last_fetched_epoch, NO_EPOCH),
                log_start_offset=one.log_start_offset,
                high_watermark=one.high_watermark,
            )


def forgotten_partitions(message: FetchRequest, *, by_id: bool) -> Iterator[PartitionKey]:
    for topic in message.forgotten_topics_data:
        key: TopicKey = topic.topic_id if by_id else topic.topic
        for partition in topic.partitions:
            yield key, partition


class Read(msgspec.Struct):
    """What one look at a partition found; up to `cold_bytes` are still to be read from the device."""

    wanted: Wanted
    actor: PartitionActor | None = None
    error: ErrorCode = ErrorCode.NONE
    high_watermark: int = -1
    last_stable: int = -1
    log_start: int = -1
    records: Buffer = b""
    diverging: EpochEndOffset | None = None
    cold_bytes: int = 0
    at_least_one: bool = False
    preferred_replica: int = NO_REPLICA
    leader_epoch: int = NO_EPOCH
    is_held_back: bool = False

    def fail(self, error: ErrorCode) -> None:
        self.error = error
        self.high_watermark = self.last_stable = self.log_start = -1
        self.records, self.cold_bytes = b"", 0

    @property
    def is_readable(self) -> bool:
        return self.error is ErrorCode.NONE and self.diverging is None and not self.is_held_back

    @property
    def size(self) -> int:
        return self.cold_bytes or len(self.records)

    @property
    def useful_high_watermark(self) -> int:
        """A follower's is never beyond its log's end."""
        return min(self.high_watermark, self.wanted.fetch_offset)


class PendingFetch:
    """One fetch, from its first look to its answer."""

    def __init__(
        self, broker: Broker, request: RequestContext, message: FetchRequest, context: FetchContext
    ) -> None:
        self._broker = broker
        self._request = request
        self._context = context
        self._min_bytes = message.min_bytes
        self._max_bytes = min(message.max_bytes, broker.config.fetch_max_bytes)
        self._max_wait_ms = message.max_wait_ms
        late = request.version >= FIRST_VERSION_WITH_REPLICA_STATE
        self._replica_id = message.replica_state.replica_id if late else message.replica_id
        self._replica_epoch = message.replica_state.replica_epoch if late else NO_EPOCH
        self._is_follower = self._replica_id >= 0
        self._may_read_followers = request.version >= FIRST_VERSION_WITH_RACKS
        self._rack = message.rack_id if broker.config.replica_selector_class else ""
        self._read_committed = message.isolation_level == READ_COMMITTED
        self._watched: list[PartitionActor] = []
        self._timer: Timer | None = None
        self._seen_bytes = 0
        self._found: list[Read] | None = None
        """What the first look found, while it is nothing and nothing has happened since."""

    def start(self) -> FetchResponse | Awaitable[FetchResponse] | Later:
        if self._is_follower:
            self._note_progress()
        reads = self._look()
        if self._is_enough(reads):
            return self._answer(reads)
        self._park(reads)
        return LATER

    # -- waiting ---------------------------------------------------------------------------------------------

    def _is_enough(self, reads: list[Read]) -> bool:
        self._seen_bytes = sum(read.size for read in reads)
        return (
            self._max_wait_ms <= 0
            or not reads
            or self._seen_bytes >= self._min_bytes
            or any(self._is_urgent(read) for read in reads)
        )

    def _is_urgent(self, read: Read) -> bool:
        return (
            read.error is not ErrorCode.NONE
            or read.diverging is not None
            or read.preferred_replica != NO_REPLICA
            or (self._is_follower and read.useful_high_watermark > read.wanted.high_watermark)
        )

    def _park(self, reads: list[Read]) -> None:
        self._watched = [read.actor for read in reads if read.actor is not None]
        for actor in self._watched:
            actor.watch(self, is_follower=self._is_follower)
        wait_ms = self._max_wait_ms
        if any(read.is_held_back for read in reads):
            wait_ms = min(wait_ms, max(1, self._broker.throttles.leader.wait_ms()))
        elif not self._seen_bytes:
            self._found = reads
        self._timer = self._broker.timers.after(wait_ms, self._time_is_over)
        self._request.on_abandoned = self._unpark

    def _unpark(self) -> None:
        for actor in self._watched:
            actor.unwatch(self)
        self._watched = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def more(self, bytes_: int) -> None:
        """A watched partition has more to read; about so many bytes, which a second look makes exact."""
        self._found = None
        self._seen_bytes += bytes_
        if self._seen_bytes >= self._min_bytes or self._is_follower:
            self._look_again(at_last=False)

    def ended(self) -> None:
        """A watched partition serves nobody any more."""
        self._found = None
        self._look_again(at_last=True)

    def _time_is_over(self) -> None:
        self._look_again(at_last=True)

    def _look_again(self, *, at_last: bool) -> None:
        """Answer if there is enough now, or whatever there is; no error of ours reaches who woke us up."""
        try:
            reads = self._look() if self._found is None else self._found
            if at_last or self._is_enough(reads):
                self._unpark()
                self._reply(reads)
        except Exception:
            self._unpark()
            self._request.failed()

    def _reply(self, reads: list[Read]) -> None:
        if any(read.cold_bytes for read in reads):
            self._broker.spawn.start(reply_when_done(self._request, self._read_cold(reads)), name="fetch")
        else:
            self._request.reply(self._response(reads))

    def _answer(self, reads: list[Read]) -> FetchResponse | Awaitable[FetchResponse]:
        return self._read_cold(reads) if any(read.cold_bytes for read in reads) else self._response(reads)

    # -- reading ---------------------------------------------------------------------------------------------

    def _look(self) -> list[Read]:
        """Read every partition, as far as the bytes of the response go."""
        left, nothing_yet, reads = min(self._max_bytes, self._broker.budget.answer_room), True, []
        is_throttled = self._is_follower and self._broker.throttles.leader.is_exceeded
        for wanted in self._context.wanted:
            read = self._check(wanted)
            if is_throttled and read.actor is not None:
                read.is_held_back = self._is_catching_up_throttled(read.actor)
            if read.is_readable and read.actor is not None:
                self._read(read, read.actor, max(0, min(wanted.max_bytes, left)), at_least_one=nothing_yet)
                if read.size:
                    nothing_yet = False
                    left -= read.size
            reads.append(read)
        return reads

    def _check(self, wanted: Wanted) -> Read:
        """Whether this partition can be read at that offset by this client."""
        name = wanted.topic if isinstance(wanted.topic, str) else self._broker.topic_name(wanted.topic)
        if name is None:
            return Read(wanted, error=ErrorCode.UNKNOWN_TOPIC_ID)
        actor = self._broker.partitions.get(name, wanted.partition)
        if actor is None:
            return Read(wanted, error=self._broker.why_missing(name, wanted.partition))
        if isinstance(wanted.topic, bytes) and actor.log.topic_id != wanted.topic:
            return Read(wanted, error=ErrorCode.UNKNOWN_TOPIC_ID)  # the earlier topic of that name is going
        actor.drain()
        error = self._refusal(actor, wanted)
        if error is not ErrorCode.NONE:
            return Read(wanted, actor, error)
        log = actor.log
        read = Read(
            wanted,
            actor,
            ErrorCode.NONE,
            actor.high_watermark,
            actor.last_stable_offset,
            log.log_start_offset,
        )
        read.leader_epoch = actor.leader_epoch
        if wanted.last_fetched_epoch != NO_EPOCH:
            epoch, end_offset = log.epochs.end_offset_for(wanted.last_fetched_epoch, log.log_end_offset)
            if end_offset == NO_OFFSET and not self._is_follower:
                return Read(wanted, actor, ErrorCode.OFFSET_OUT_OF_RANGE)  # an epoch that has not begun
            if epoch != wanted.last_fetched_epoch or end_offset < wanted.fetch_offset:
                read.diverging = EpochEndOffset(epoch=epoch, end_offset=end_offset)
                return read
        if not log.log_start_offset <= wanted.fetch_offset <= log.log_end_offset:
            return Read(wanted, actor, ErrorCode.OFFSET_OUT_OF_RANGE)
        if self._rack and actor.leader is not None and not self._is_follower:
            read.preferred_replica = self._preferred_replica(actor, wanted)
        return read

    def _refusal(self, actor: PartitionActor, wanted: Wanted) -> ErrorCode:
        error = actor.refusal(wanted.current_leader_epoch)
        if error is not ErrorCode.NONE:
            return error
        if actor.leader is not None:
            stranger = self._is_follower and self._replica_id not in actor.leader.followers
            return self._refusal_of_a_stranger(wanted) if stranger else ErrorCode.NONE
        if self._replica_id == CONSUMER and self._may_read_followers and actor.follower is not None:
            return ErrorCode.NONE
        return ErrorCode.NOT_LEADER_OR_FOLLOWER

    def _refusal_of_a_stranger(self, wanted: Wanted) -> ErrorCode:
        """One side has not heard of a reassignment yet; a follower that knows its epoch will ask again."""
        knows_epoch = wanted.current_leader_epoch != NO_EPOCH
        return ErrorCode.UNKNOWN_LEADER_EPOCH if knows_epoch else ErrorCode.NOT_LEADER_OR_FOLLOWER

    def _preferred_replica(self, actor: PartitionActor, wanted: Wanted) -> int:
        """An in-sync replica in the consumer's rack that has what it fetches; none if that is the leader."""
        leader, brokers = actor.leader, self._broker.metadata.brokers
        assert leader is not None, "only a leader knows its followers"

        def is_near(broker_id: int) -> bool:
            broker = brokers.get(broker_id)
            return broker is not None and not broker.fenced and broker.rack == self._rack

        if is_near(leader.node_id):
            return NO_REPLICA
        fit = [
            (follower.end_offset, follower.caught_up_ms, -follower.broker_id)
            for follower in leader.followers.values()
            if follower.broker_id in leader.isr
            and is_near(follower.broker_id)
            and follower.log_start_offset <= wanted.fetch_offset <= follower.end_offset
        ]
        return -max(fit)[2] if fit else NO_REPLICA

    # -- following -------------------------------------------------------------------------------------------

    def _is_catching_up_throttled(self, actor: PartitionActor) -> bool:
        """Whoever the high watermark waits for is never held back: with it would be every producer."""
        leader = actor.leader
        return actor.throttled_as.leader and leader is not None and not leader.waits_for(self._replica_id)

    def _note_progress(self) -> None:
        """Everything below the offsets that a follower fetches from is on its disk."""
        now_ms = self._broker.clock.monotonic_ms()
        for wanted in self._context.wanted:
            read = self._check(wanted)
            if read.actor is None or read.error is not ErrorCode.NONE or read.diverging is not None:
                continue
            read.actor.fetched(
                FollowerFetch(
                    broker_id=self._replica_id,
                    broker_epoch=self._replica_epoch,
                    offset=wanted.fetch_offset,
                    log_start_offset=wanted.log_start_offset,
                    leader_end_offset=read.actor.log.log_end_offset,
                    now_ms=now_ms,
                )
            )

    def _read(self, read: Read, actor: PartitionActor, max_bytes: int, *, at_least_one: bool) -> None:
        offset, end = read.wanted.fetch_offset, self._end_offset(actor)
        if read.preferred_replica != NO_REPLICA or offset >= end or not (max_bytes or at_least_one):
            return
        try:
            records = actor.log.read(offset, max_bytes=max_bytes, end_offset=end, at_least_one=at_least_one)
        except LogOfflineError:
            read.fail(ErrorCode.KAFKA_STORAGE_ERROR)
            return
        if records is None:
            read.cold_bytes, read.at_least_one = max(1, max_bytes), at_least_one
        else:
            read.records = records

    async def _read_cold(self, reads: list[Read]) -> FetchResponse:
        for read in reads:
            if read.cold_bytes and read.actor is not None:
                await self._read_one_cold(read, read.actor)
        return self._response(reads)

    async def _read_one_cold(self, read: Read, actor: PartitionActor) -> None:
        """Read from the device; meanwhile the log may lose these offsets, or go offline."""
        max_bytes, read.cold_bytes = read.cold_bytes, 0
        try:
            read.records = await actor.log.read_cold(
                read.wanted.fetch_offset,
                max_bytes=max_bytes,
                end_offset=self._end_offset(actor),
                at_least_one=read.at_least_one,
            )
        except OffsetOutOfRangeError:
            read.fail(ErrorCode.OFFSET_OUT_OF_RANGE)
        except LogOfflineError:
            read.fail(ErrorCode.KAFKA_STORAGE_ERROR)
        if actor.leader_epoch != read.leader_epoch and read.error is not ErrorCode.KAFKA_STORAGE_ERROR:
            read.fail(ErrorCode.NOT_LEADER_OR_FOLLOWER)  # what was read may have been truncated meanwhile

    def _end_offset(self, actor: PartitionActor) -> int:
        if self._replica_id != CONSUMER:
            return actor.log.log_end_offset
        return actor.last_stable_offset if self._read_committed else actor.high_watermark

    # -- answering -------------------------------------------------------------------------------------------

    def _response(self, reads: list[Read]) -> FetchResponse:
        session = self._context.session
        topics: dict[TopicKey, list[PartitionData]] = {}
        endpoints: dict[int, NodeEndpoint] = {}
        for read in reads:
            wanted = read.wanted
            if session is not None:
                if read.size:
                    session.move_to_end((wanted.topic, wanted.partition))
                news = wanted.is_news(
                    error=read.error,
                    high_watermark=read.high_watermark,
                    log_start=read.log_start,
                    has_records=read.size > 0
                    or read.diverging is not None
                    or read.preferred_replica != NO_REPLICA,
                )
                if self._context.incremental and not news:
                    continue
            topics.setdefault(wanted.topic, []).append(self._partition(read, endpoints))
        by_id = self._request.version >= FIRST_VERSION_BY_ID
        responses = [
            FetchableTopicResponse(topic_id=key, partitions=partitions)
            if by_id and isinstance(key, bytes)
            else FetchableTopicResponse(topic=str(key), partitions=partitions)
            for key, partitions in topics.items()
        ]
        return FetchResponse(
            session_id=self._context.session_id,
            responses=responses,
            node_endpoints=list(endpoints.values()),
        )

    def _partition(self, read: Read, endpoints: dict[int, NodeEndpoint]) -> PartitionData:
        if read.error is not ErrorCode.NONE:
            return self._failed_partition(read, endpoints)
        actor = read.actor
        if actor is not None:
            actor.traffic.bytes_out.value += len(read.records)
            if self._is_follower and actor.throttled_as.leader:
                self._broker.throttles.leader.record(len(read.records))
        return PartitionData(
            partition_index=read.wanted.partition,
            high_watermark=read.high_watermark,
            last_stable_offset=read.last_stable,
            log_start_offset=read.log_start,
            aborted_transactions=self._aborted(read),
            preferred_read_replica=read.preferred_replica,
            diverging_epoch=NOT_DIVERGING if read.diverging is None else read.diverging,
            records=read.records,
        )

    def _aborted(self, read: Read) -> list[AbortedTransaction] | None:
        """Of the records in the answer, those to leave out; None for who reads everything."""
        if not self._read_committed:
            return None
        if read.actor is None or not len(read.records):
            return []
        log, offset = read.actor.log, read.wanted.fetch_offset
        if next(log.aborted_transactions(offset, read.last_stable), None) is None:
            return []
        *_, (last, _) = batches(read.records)
        return [
            AbortedTransaction(producer_id=one.producer_id, first_offset=one.first_offset)
            for one in log.aborted_transactions(offset, last.next_offset)
        ]

    def _failed_partition(self, read: Read, endpoints: dict[int, NodeEndpoint]) -> PartitionData:
        self._broker.count_failure(ApiKey.FETCH, read.error)
        leader = LeaderIdAndEpoch()
        topic = read.wanted.topic
        if read.error in LEADER_ERRORS and self._request.version >= FIRST_VERSION_WITH_LEADERS:
            name = topic if isinstance(topic, str) else self._broker.topic_name(topic)
            now = self._broker.current_leader(name, read.wanted.partition, self._request.listener)
            if now is not None:
                leader = LeaderIdAndEpoch(leader_id=now.node_id, leader_epoch=now.epoch)
                endpoints[now.node_id] = NodeEndpoint(
                    node_id=now.node_id, host=now.host, port=now.port, rack=now.rack
                )
        return PartitionData(
            partition_index=read.wanted.partition,
            error_code=read.error,
            high_watermark=-1,
            current_leader=leader,
            aborted_transactions=[] if read.actor is None else None,
            records=b"",
        )


NOT_DIVERGING = EpochEndOffset()
LEADER_ERRORS = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)

ROUTES = (Route(ApiKey.FETCH, 4, 18, fetch),)
