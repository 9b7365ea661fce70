"""ShareFetch (78): records of share-partitions, handed out to one member of a group (KIP-932).

A look at the session's partitions reads what could be handed out: from each share-partition's first free
record, or from its window's end. Enough bytes, an error, or no time to wait decide that the request is
answered; only then are records acquired, as many as the request may have in all. Otherwise it is parked,
watching the partitions and the share-partitions, and looks again when something was written, released or
loaded, or when its time is over. Acknowledgements that came along are begun first; the answer waits for them.

What was read goes out as it is in the log: whole batches, from the first one with an acquired record to the
last. The answer says which records in them are acquired. No batch is opened: that there is no record at some
offset, or none for consumers, is seen between batches and in their headers, and in batches by consumers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from streamkit.broker.coordination.shard import Refusal
from streamkit.broker.coordination.share.share_partition import Acquired, Fetched, Wish
from streamkit.broker.coordination.share.states import SharePartitionKey
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.broker.server.handlers.share_acknowledge import (
    DONE,
    Outcomes,
    acknowledge,
    check_renewal,
    session_key,
)
from streamkit.broker.server.replicas.leaders import Leaders
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.server.share.partitions import HostedSharePartition
from streamkit.broker.server.share.sessions import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    Place,
    SessionKey,
    ShareSession,
)
from streamkit.broker.storage.errors import LogOfflineError, OffsetOutOfRangeError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.share_fetch import (
    AcquiredRecords,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
    ShareFetchableTopicResponse,
    ShareFetchRequest,
    ShareFetchResponse,
)
from streamkit.protocol.records.batch import BatchHeader, Buffer, batches

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker
    from streamkit.broker.server.timers import Timer

RECORD_LIMIT: Final = 1
LONGEST_WAIT_S: Final = 1.0
READ_BYTES: Final = 256 * 1024
"""What is read at once of one partition: most requests want a few hundred records."""


async def share_fetch(
    broker: Broker, request: RequestContext, message: ShareFetchRequest
) -> ShareFetchResponse:
    try:
        member = session_key(message.group_id, message.member_id)
        check_renewal(broker, member, renews=message.is_renew_ack)
        _check_renew_only(message)
        session = _session(broker, request, member, message)
    except Refusal as refusal:
        broker.count_failure(ApiKey.SHARE_FETCH, refusal.code)
        if refusal.code is ErrorCode.SHARE_SESSION_LIMIT_REACHED:
            await asyncio.sleep(min(message.max_wait_ms / 1000, LONGEST_WAIT_S))  # it will ask again
        return ShareFetchResponse(error_code=refusal.code, error_message=refusal.message)
    wanted = {
        (topic.topic_id, one.partition_index): one.acknowledgement_batches
        for topic in message.topics
        for one in topic.partitions
    }
    answered = acknowledge(broker, member, wanted, renews=message.is_renew_ack)
    if message.share_session_epoch == FINAL_EPOCH:
        outcomes = await answered
        await broker.shares.partitions.release(member.group_id, member.member_id)
        broker.shares.sessions.close(session)
        return _response(broker, request, member, [], outcomes)
    pending = PendingShareFetch(broker, request, message, session)
    outcomes, reads = await asyncio.gather(answered, pending.done())
    return _response(broker, request, member, reads, outcomes)


def _session(
    broker: Broker, request: RequestContext, member: SessionKey, message: ShareFetchRequest
) -> ShareSession:
    """The session that the request opens, or goes on with. Raises Refusal."""
    named = [(topic.topic_id, one.partition_index) for topic in message.topics for one in topic.partitions]
    epoch = message.share_session_epoch
    if epoch == INITIAL_EPOCH:
        if any(one.acknowledgement_batches for topic in message.topics for one in topic.partitions):
            raise Refusal(ErrorCode.INVALID_REQUEST, "A session begins without acknowledgements.")
        if request.answer is not None:
            raise Refusal(ErrorCode.SHARE_SESSION_NOT_FOUND, "The connection is gone.")
        return broker.shares.sessions.open(member, named, request.connection)
    session = broker.shares.sessions.use(member, epoch)
    if epoch != FINAL_EPOCH:
        forgotten = [
            (topic.topic_id, partition)
            for topic in message.forgotten_topics_data
            for partition in topic.partitions
        ]
        broker.shares.sessions.change(session, named, forgotten)
    return session


def _check_renew_only(message: ShareFetchRequest) -> None:
    """A request that renews locks fetches nothing (KIP-1222)."""
    fetches = message.max_bytes or message.min_bytes or message.max_records or message.max_wait_ms
    if message.is_renew_ack and fetches:
        raise Refusal(ErrorCode.INVALID_REQUEST, "A request that renews locks must not fetch records.")


class Chunk(msgspec.Struct, gc=False):
    """Whole batches, read from `offset` on."""

    offset: int
    data: memoryview


class ShareRead(msgspec.Struct):
    """What one look at a share-partition found, and what was then acquired of it."""

    place: Place
    actor: PartitionActor | None = None
    hosted: HostedSharePartition | None = None
    error: ErrorCode = ErrorCode.NONE
    offset: int | None = None
    """From where to read; None if nothing can be handed out."""
    chunk: Chunk | None = None
    """What is there to read; None until it was read from the device, if `offset` is known."""
    acquired: list[Acquired] = []
    records: list[Buffer] = []
    is_past: bool = False
    """What was read turned out to be for nobody, and reading goes on behind it."""

    @property
    def size(self) -> int:
        if self.offset is None:
            return 0
        return 1 if self.chunk is None else len(self.chunk.data)

    @property
    def end_offset(self) -> int:
        """Where readers of this share-partition end."""
        actor, hosted = self.actor, self.hosted
        assert actor is not None and hosted is not None, "what is read has a partition"
        return actor.last_stable_offset if hosted.read_committed else actor.high_watermark


class PendingShareFetch:
    """One fetch, from its first look until records are acquired or its time is over."""

    def __init__(
        self, broker: Broker, request: RequestContext, message: ShareFetchRequest, session: ShareSession
    ) -> None:
        self._broker = broker
        self._request = request
        self._session = session
        self._member = session.key
        self._max_wait_ms = message.max_wait_ms
        self._min_bytes = min(message.min_bytes, READ_BYTES)
        self._max_bytes = min(message.max_bytes, broker.config.fetch_max_bytes)
        self._max_records = message.max_records
        self._batch_size = message.batch_size
        self._exact = message.share_acquire_mode == RECORD_LIMIT
        self._news = asyncio.Event()
        self._watched: list[PartitionActor | HostedSharePartition] = []
        self._met: dict[Place, HostedSharePartition] = {}
        """Share-partitions that were asked for; one that cannot be loaded is told of once."""
        self._timer: Timer | None = None
        self._is_over = message.max_wait_ms <= 0 or message.max_records <= 0 or message.max_bytes <= 0

    async def done(self) -> list[ShareRead]:
        """What to answer of each share-partition."""
        try:
            while True:
                reads = await self._attempt()
                if self._is_over or any(read.error or read.acquired for read in reads):
                    return reads
                self._park(reads)
                await self._news.wait()
        finally:
            self._unpark()

    async def _attempt(self) -> list[ShareRead]:
        """Look, and acquire if there is enough; again while what there is turns out to be for nobody."""
        while True:
            self._news.clear()
            reads = self._look()
            size = sum(read.size for read in reads)
            if not size or (size < self._min_bytes and not self._is_over) or self._request.answer is not None:
                return reads
            await self._acquire(reads)
            if _any_acquired(reads) or not any(read.is_past for read in reads):
                return reads
            await asyncio.sleep(0)

    # ── waiting ────────────────────────────────────────────────────────────────────────────────────────

    def _park(self, reads: Sequence[ShareRead]) -> None:
        if self._timer is None:
            self._timer = self._broker.timers.after(self._max_wait_ms, self._time_is_over)
            self._request.on_abandoned = self._time_is_over
        self._unwatch()
        for read in reads:
            if read.actor is not None:
                read.actor.watch(self)
                self._watched.append(read.actor)
            if read.hosted is not None:
                read.hosted.watch(self)
                self._watched.append(read.hosted)

    def _unpark(self) -> None:
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()

    def _unwatch(self) -> None:
        for one in self._watched:
            one.unwatch(self)
        self._watched.clear()

    def more(self, bytes_: int) -> None:
        """A watched partition has more to read."""
        self._news.set()

    def ended(self) -> None:
        """A watched partition serves nobody any more."""
        self._news.set()

    def more_is_free(self) -> None:
        self._news.set()

    def _time_is_over(self) -> None:
        self._is_over = True
        self._news.set()

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> list[ShareRead]:
        if self._max_records <= 0 or self._max_bytes <= 0:
            return []
        return [self._look_at(place) for place in self._session.turned()]

    def _look_at(self, place: Place) -> ShareRead:
        broker, (topic_id, partition) = self._broker, place
        name = broker.topic_name(topic_id)
        if name is None:
            return ShareRead(place, error=ErrorCode.UNKNOWN_TOPIC_ID)
        actor = broker.partitions.led(name, partition)
        if actor is None:
            return ShareRead(place, error=broker.why_missing(name, partition))
        if actor.log.topic_id != topic_id:
            return ShareRead(place, error=ErrorCode.UNKNOWN_TOPIC_ID)  # the earlier topic of that name
        actor.drain()
        met = self._met.get(place)
        if met is not None and met.ended_by:
            return ShareRead(place, error=met.ended_by)
        key = SharePartitionKey(self._member.group_id, topic_id, partition)
        hosted = self._met[place] = broker.shares.partitions.load(key, actor)
        read = ShareRead(place, actor, hosted)
        offset = hosted.next_fetch_offset()
        if offset is None or offset >= read.end_offset:
            return read
        read.offset = offset
        try:
            found = actor.log.read(
                offset, max_bytes=READ_BYTES, end_offset=read.end_offset, at_least_one=True
            )
        except (LogOfflineError, OffsetOutOfRangeError):
            return ShareRead(place, error=ErrorCode.KAFKA_STORAGE_ERROR)
        if found is not None:
            read.chunk = Chunk(offset, found)
        return read

    # ── acquiring ──────────────────────────────────────────────────────────────────────────────────────

    async def _acquire(self, reads: Sequence[ShareRead]) -> None:
        """Hand out what was read, and more of the same, as far as the request's records and bytes go."""
        records, room = self._max_records, min(self._max_bytes, self._broker.budget.answer_room)
        for read in reads:
            while read.offset is not None and records > 0 and (room > 0 or not _any_acquired(reads)):
                if read.chunk is None and not await self._read_cold(read):
                    break
                taken, size = self._take(read, records)
                records, room = records - taken, room - size
                if not taken or not self._read_on(read):
                    break

    async def _read_cold(self, read: ShareRead) -> bool:
        """Read from the device; whether there is something to take then."""
        actor, offset = read.actor, read.offset
        assert actor is not None and offset is not None
        try:
            found = await actor.log.read_cold(
                offset, max_bytes=READ_BYTES, end_offset=read.end_offset, at_least_one=True
            )
        except (LogOfflineError, OffsetOutOfRangeError):
            if not read.acquired:
                read.error = ErrorCode.KAFKA_STORAGE_ERROR
            return False
        if read.hosted is None or not read.hosted.is_current:
            return False  # what was read may have been truncated meanwhile
        read.chunk = Chunk(offset, found)
        return True

    def _take(self, read: ShareRead, records: int) -> tuple[int, int]:
        """Acquire of the chunk; how many records and bytes that are."""
        chunk, hosted, actor = read.chunk, read.hosted, read.actor
        assert chunk is not None and hosted is not None and actor is not None
        read.chunk = None
        found = list(batches(chunk.data))
        if not found:
            return 0, 0
        end = found[-1][0].next_offset
        fetched = list(_judged(actor, hosted, [header for header, _ in found], chunk.offset, end))
        wish = Wish(self._member.member_id, records, max(self._batch_size, 1), self._exact)
        acquired = hosted.acquire(wish, fetched, chunk.offset)
        read.offset = end
        if not acquired:
            read.is_past = (hosted.next_fetch_offset() or 0) > chunk.offset
            return 0, 0
        first, last = acquired[0].first, acquired[-1].last
        data = [
            batch for header, batch in found if header.last_offset >= first and header.base_offset <= last
        ]
        read.acquired = [*read.acquired, *acquired]
        read.records = [*read.records, *data]
        size = sum(map(len, data))
        actor.traffic.bytes_out.value += size
        return sum(one.last - one.first + 1 for one in acquired), size

    def _read_on(self, read: ShareRead) -> bool:
        """Look whether the next chunk follows on the one before; whether there is one."""
        hosted, actor = read.hosted, read.actor
        assert hosted is not None and actor is not None
        if hosted.next_fetch_offset() != read.offset or read.offset is None or read.offset >= read.end_offset:
            return False
        try:
            found = actor.log.read(
                read.offset, max_bytes=READ_BYTES, end_offset=read.end_offset, at_least_one=True
            )
        except (LogOfflineError, OffsetOutOfRangeError):
            return False
        if found is not None:
            read.chunk = Chunk(read.offset, found)
        return True


def _any_acquired(reads: Sequence[ShareRead]) -> bool:
    return any(read.acquired for read in reads)


def _judged(
    actor: PartitionActor,
    hosted: HostedSharePartition,
    headers: Sequence[BatchHeader],
    offset: int,
    end_offset: int,
) -> Iterator[Fetched]:
    """Which batches are for consumers: no control batches, and of aborted transactions none if they read only
    what is committed.
    """
    aborted = list(actor.log.aborted_transactions(offset, end_offset)) if hosted.read_committed else []
    for header in headers:
        is_aborted = header.is_transactional and any(
            one.producer_id == header.producer_id
            and one.first_offset <= header.base_offset <= one.last_offset
            for one in aborted
        )
        yield Fetched(header.base_offset, header.last_offset, not (header.is_control or is_aborted))


# ── answering ───────────────────────────────────────────────────────────────────────────────────────────


def _response(
    broker: Broker,
    request: RequestContext,
    member: SessionKey,
    reads: Sequence[ShareRead],
    outcomes: Outcomes,
) -> ShareFetchResponse:
    """Of each share-partition that has records, an error, or was acknowledged."""
    leaders = Leaders(broker, request.listener)
    by_place = {read.place: read for read in reads if read.acquired or read.error}
    topics: dict[bytes, list[PartitionData]] = {}
    for place in dict.fromkeys((*by_place, *outcomes)):
        read, outcome = by_place.get(place, ShareRead(place)), outcomes.get(place, DONE)
        leader = leaders.of(*place, read.error) or leaders.of(*place, outcome.code)
        one = PartitionData(
            partition_index=place[1],
            error_code=read.error,
            error_message=read.error.name if read.error else None,
            acknowledge_error_code=outcome.code,
            acknowledge_error_message=outcome.message,
            current_leader=LeaderIdAndEpoch(leader_id=leader.node_id, leader_epoch=leader.epoch)
            if leader
            else LeaderIdAndEpoch(),
            records=read.records or b"",
            acquired_records=[
                AcquiredRecords(
                    first_offset=each.first, last_offset=each.last, delivery_count=each.delivery_count
                )
                for each in read.acquired
            ],
        )
        topics.setdefault(place[0], []).append(one)
        broker.count_failures(ApiKey.SHARE_FETCH, (read.error, outcome.code))
    return ShareFetchResponse(
        acquisition_lock_timeout_ms=broker.shares.settings.of(member.group_id).limits.lock_ms,
        responses=[
            ShareFetchableTopicResponse(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in topics.items()
        ],
        node_endpoints=[
            NodeEndpoint(node_id=one.node_id, host=one.host, port=one.port, rack=one.rack)
            for one in leaders.told
        ],
    )


ROUTES = (Route(ApiKey.SHARE_FETCH, 1, 2, share_fetch),)
