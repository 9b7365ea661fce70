"""Followers' fetching: one task for each leader and number, over its own connection, one fetch at a time.

A round is: fetch → append everything that came → one flush round → the next fetch. So the offset that a
follower fetches from says what it has on disk, and needs no acknowledgement of its own. More overlap comes
from more fetchers (`num.replica.fetchers`).

Fetches are incremental (KIP-227): a session with the leader remembers what is followed, and a request names
only what changed: an offset, an epoch, the high watermark that is known here. A partition that failed is
left out for a while; for a moment only if its leader has yet to hear that it leads. What an answer asks of
a log is decided by `replication.follower`; an answer to another leader epoch, or for another place in the
log than the present one, is void.

A leader holds a fetch that finds nothing for up to half a second. When partitions are added meanwhile the
connection is given up for a new one: after a failover their new leader commits nothing before they fetch.

While replication is throttled (`replication.throttle`), the throttled partitions that are not in sync here
are left out of the fetches.

A log that is fetched is written here and nowhere else. `let_go` waits for what is under way, so that
whoever gives a log another role finds it at rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.replication.follower import (
    AskBounds,
    FetchOn,
    FetchPosition,
    PartitionFollower,
    RestartAt,
    Step,
    Truncate,
    WaitForLeader,
    WaitForMetadata,
    diverged,
    failed,
    out_of_range,
)
from streamkit.broker.replication.throttle import Throttle
from streamkit.broker.server.cluster.knocking import nobody_listens
from streamkit.broker.server.cluster.lost_leaders import LostLeaders
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.net.peer import Link, PeerError, PeerLostError, PeerRefusedError
from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from streamkit.protocol.records.batch import Buffer, CorruptBatchError, batches
from streamkit.protocol.records.crc import crc32c
from streamkit.runtime.contracts.network import Network
from streamkit.runtime.contracts.spawn import Spawn, TaskHandle
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.storage.flusher import Flusher

log_line = structlog.get_logger(__name__)

FETCH_VERSION: Final = APIS[ApiKey.FETCH].max_version
LIST_OFFSETS_VERSION: Final = 7
LATEST, EARLIEST = -1, -2
ADDED_WITHIN_S: Final = 0.02
"""How long a fetch that was under way when a partition was added is let be."""
ASK_AGAIN_S: Final = 0.01
"""Metadata comes to all nodes within a few milliseconds; twice as long after each time in vain."""
FOR_EVER_S: Final = float("inf")
UNTOLD: Final = 2**63 - 1
NOT_DIVERGING: Final = EpochEndOffset()

Key = tuple[bytes, int]


class Followed(msgspec.Struct):
    """A partition of a fetcher: what the leader was last told, and until when it is left alone."""

    actor: PartitionActor
    told: FetchPosition | None = None
    not_before_s: float = 0
    refusals: int = 0
    """How often in a row the leader did not know yet that it leads."""
    leaders_high_watermark: int = UNTOLD
    """As of the last answer."""


class ReplicaFetcher:
    """Fetches from one leader, over one connection."""

    def __init__(self, leader_id: int, number: int, shared: ReplicaFetchers) -> None:
        self.leader_id = leader_id
        self.at_rest = asyncio.Lock()
        """Held while answers are applied; hold it to find no log in the middle of something."""
        self._shared = shared
        self._name = f"replica fetcher {leader_id}-{number}"
        self._followed: dict[Key, Followed] = {}
        self._session_id = 0
        self._session_epoch = 0
        self._told: dict[Key, None] = {}
        """What the session holds."""
        self._link: Link | None = None
        self._is_fetching = False
        self._interruption: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._task: TaskHandle | None = None

    # -- what is followed ------------------------------------------------------------------------------------

    def add(self, actor: PartitionActor) -> None:
        self._followed[_key(actor)] = Followed(actor)
        self._changed.set()
        if self._task is None:
            self._task = self._shared.spawn.start(self._run(), name=self._name)
        if self._is_fetching and self._interruption is None:
            loop = asyncio.get_running_loop()
            self._interruption = loop.call_later(ADDED_WITHIN_S, self._interrupt)

    def remove(self, actor: PartitionActor) -> None:
        """It is forgotten at the leader with the next fetch."""
        self._followed.pop(_key(actor), None)

    def retry(self) -> None:
        """The leader may be back: leave nothing alone any more."""
        for followed in self._followed.values():
            followed.not_before_s = 0
        self._changed.set()

    def throttle_changed(self) -> None:
        """Look again at what is held back."""
        self._changed.set()

    def _interrupt(self) -> None:
        self._interruption = None
        if self._is_fetching and self._link is not None:
            self._link.close()

    def _is_current(self, followed: Followed) -> bool:
        return self._followed.get(_key(followed.actor)) is followed

    # -- rounds ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            now_s = asyncio.get_running_loop().time()
            # one that is offline would go on saying that it has everything
            alive = [one for one in self._followed.values() if not one.actor.log.offline_reason]
            due = [one for one in alive if one.not_before_s <= now_s]
            throttled_ms = self._shared.throttle.wait_ms()
            ready = [one for one in due if not self._is_held_back(one)] if throttled_ms else due
            held_back_s = throttled_ms / 1000 if len(ready) < len(due) else FOR_EVER_S
            later_s = (one.not_before_s - now_s for one in alive if one.not_before_s > now_s)
            held_back_s = min(held_back_s, min(later_s, default=FOR_EVER_S))
            if not ready:
                await self._wait(held_back_s)
                continue
            try:
                await self._round(ready, held_back_s)
            except PeerError as error:
                self._end_session()
                if not self._changed.is_set():
                    log_line.info("leader cannot be reached", leader=self.leader_id, reason=str(error))
                    await self._look_for_leader(error)

    async def _look_for_leader(self, error: PeerError) -> None:
        """Say so if it seems to be gone, and leave it alone for a while."""
        lost_leaders, link = self._shared.lost_leaders, self._link
        if link is not None and isinstance(error, PeerLostError | PeerRefusedError):
            lost_leaders.lost(self.leader_id)
            if isinstance(error, PeerLostError) and not await nobody_listens(
                self._shared.network, link.host, link.port, timeout_ms=self._timeout_ms
            ):
                lost_leaders.heard(self.leader_id)  # of its listener, at least
        await self._wait(self._shared.config.replica_fetch_backoff_ms / 1000)

    async def _wait(self, seconds: float) -> None:
        """Until something changes, for at most so long."""
        try:
            async with asyncio.timeout(None if seconds == FOR_EVER_S else max(0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _is_held_back(self, followed: Followed) -> bool:
        """Who is in sync is never held back, or the throttle would push it out of the ISR."""
        actor = followed.actor
        return (
            actor.throttled_as.follower
            and actor.log.log_end_offset < followed.leaders_high_watermark
            and not self._shared.is_in_sync(actor)
        )

    async def _round(self, ready: Sequence[Followed], held_back_s: float) -> None:
        """One fetch, which the leader may hold until those that are held back here may be fetched again."""
        link = self._linked()
        request = self._request(ready, held_back_s)
        self._is_fetching = True
        try:
            response: FetchResponse = await link.call(request, FETCH_VERSION, self._timeout_ms)
        finally:
            self._is_fetching = False
            if self._interruption is not None:
                self._interruption.cancel()
                self._interruption = None
        self._shared.lost_leaders.heard(self.leader_id)
        if response.error_code != ErrorCode.NONE:
            self._end_session(keep_link=True)
            if response.error_code not in SESSION_ERRORS:
                await self._wait(self._shared.config.replica_fetch_backoff_ms / 1000)
            return
        self._session_id = response.session_id
        self._session_epoch = self._session_epoch + 1 if response.session_id else 0
        bounds = await self._apply(response.responses)
        for followed in bounds:
            await self._fit_into_bounds(followed)
        await self._shared.flusher.flushed()

    def _linked(self) -> Link:
        """A way to where the leader is now. Another one than before begins without a session.

        Raises PeerError if nobody knows where that is.
        """
        host, port = self._shared.address_of(self.leader_id)
        if self._link is None or (self._link.host, self._link.port) != (host, port):
            self._end_session()
            self._link = Link(self._shared.network, host, port, client_id=self._shared.client_id)
        return self._link

    @property
    def _timeout_ms(self) -> int:
        return self._shared.config.replica_socket_timeout_ms

    def _end_session(self, *, keep_link: bool = False) -> None:
        self._session_id = self._session_epoch = 0
        for followed in self._followed.values():
            followed.told = None
        self._told = {}
        if self._link is not None and not keep_link:
            self._link.close()

    def _request(self, ready: Sequence[Followed], held_back_s: float) -> FetchRequest:
        config = self._shared.config
        if not self._session_id:
            self._end_session(keep_link=True)
        wanted: dict[bytes, list[FetchPartition]] = {}
        keys: dict[Key, None] = {}
        for followed in ready:
            key = _key(followed.actor)
            keys[key] = None
            position = _position(followed.actor)
            if position is not None and position != followed.told:
                wanted.setdefault(key[0], []).append(
                    _partition(key[1], position, config.replica_fetch_max_bytes)
                )
                followed.told = position
        forgotten: dict[bytes, list[int]] = {}
        for key in self._told:
            if key not in keys:
                forgotten.setdefault(key[0], []).append(key[1])
                if key in self._followed:
                    self._followed[key].told = None  # the session will have to be told again
        self._told = keys
        return FetchRequest(
            replica_state=ReplicaState(replica_id=config.node_id, replica_epoch=self._shared.broker_epoch()),
            max_wait_ms=int(min(config.replica_fetch_wait_max_ms, held_back_s * 1000)),
            min_bytes=1,
            max_bytes=config.replica_fetch_response_max_bytes,
            session_id=self._session_id,
            session_epoch=self._session_epoch,
            topics=[FetchTopic(topic_id=topic, partitions=some) for topic, some in wanted.items()],
            forgotten_topics_data=[
                ForgottenTopic(topic_id=topic, partitions=some) for topic, some in forgotten.items()
            ],
        )

    # -- answers ---------------------------------------------------------------------------------------------

    async def _apply(self, topics: Sequence[FetchableTopicResponse]) -> list[Followed]:
        """Do what the answer asks for; those that must know the leader's bounds first are returned."""
        bounds = []
        async with self.at_rest:
            for topic in topics:
                for data in topic.partitions:
                    followed = self._followed.get((topic.topic_id, data.partition_index))
                    if followed is None or not _is_answer_for(followed):
                        continue
                    step = self._judge(followed, data)
                    if isinstance(step, AskBounds):
                        bounds.append(followed)
                    else:
                        await self._take(followed, step)
        return bounds

    def _judge(self, followed: Followed, data: PartitionData) -> Step:
        """Append what came, or say what is to be done instead."""
        actor = followed.actor
        error = ErrorCode(data.error_code)  # type: ignore[call-arg]  # looked up by value
        if error is not ErrorCode.NONE:
            return failed(error)
        log = actor.log
        if data.diverging_epoch != NOT_DIVERGING:
            return diverged(
                leaders_epoch=data.diverging_epoch.epoch,
                leaders_end=data.diverging_epoch.end_offset,
                epochs=log.epochs,
                log_end_offset=log.log_end_offset,
                high_watermark=log.high_watermark,
            )
        try:
            size = append(actor, data.records)
        except (CorruptBatchError, LogOfflineError) as problem:
            log_line.error("cannot replicate", log=log.name, leader=self.leader_id, reason=problem.message)
            return failed(ErrorCode.UNKNOWN_SERVER_ERROR)
        actor.replicated(size, data.high_watermark)
        log.follow_log_start(data.log_start_offset)
        followed.leaders_high_watermark = data.high_watermark
        self._shared.bytes_in.value += size
        if actor.throttled_as.follower:
            self._shared.throttle.record(size)
        return FetchOn()

    async def _take(self, followed: Followed, step: Step) -> None:
        """Truncate, start again, or leave the partition alone for a while."""
        log = followed.actor.log
        before = log.log_end_offset, log.epochs.entries
        try:
            match step:
                case FetchOn():
                    followed.refusals = 0
                    return
                case WaitForLeader():
                    self._ask_again_soon(followed)
                    return
                case Truncate(offset):
                    log_line.info("truncates", log=log.name, end=log.log_end_offset, to=offset)
                    await log.truncate_to(offset)
                case RestartAt(offset):
                    log_line.info("starts again", log=log.name, end=log.log_end_offset, at=offset)
                    await log.restart_at(offset)
                case WaitForMetadata():
                    followed.not_before_s = FOR_EVER_S
                    return
        except LogOfflineError as problem:
            log_line.error("cannot truncate", log=log.name, reason=problem.message)
        if (log.log_end_offset, log.epochs.entries) == before:
            self._leave_alone(followed)

    def _leave_alone(self, followed: Followed) -> None:
        backoff_s = self._shared.config.replica_fetch_backoff_ms / 1000
        followed.not_before_s = asyncio.get_running_loop().time() + backoff_s

    def _ask_again_soon(self, followed: Followed) -> None:
        backoff_s = self._shared.config.replica_fetch_backoff_ms / 1000
        wait_s = min(ASK_AGAIN_S * 2 ** min(followed.refusals, 16), backoff_s)
        followed.refusals += 1
        followed.not_before_s = asyncio.get_running_loop().time() + wait_s

    async def _fit_into_bounds(self, followed: Followed) -> None:
        start, end = await self._bound(followed, EARLIEST), await self._bound(followed, LATEST)
        async with self.at_rest:
            if not self._is_current(followed) or not _is_answer_for(followed):
                return
            if start is None or end is None:
                self._leave_alone(followed)
                return
            log_end = followed.actor.log.log_end_offset
            await self._take(
                followed, out_of_range(leaders_start=start, leaders_end=end, log_end_offset=log_end)
            )

    async def _bound(self, followed: Followed, which: int) -> int | None:
        log, follower = followed.actor.log, followed.actor.follower
        if follower is None:
            return None
        wanted = ListOffsetsPartition(
            partition_index=log.partition, current_leader_epoch=follower.leader_epoch, timestamp=which
        )
        request = ListOffsetsRequest(
            replica_id=self._shared.config.node_id,
            topics=[ListOffsetsTopic(name=log.topic, partitions=[wanted])],
        )
        response: ListOffsetsResponse = await self._linked().call(
            request, LIST_OFFSETS_VERSION, self._timeout_ms
        )
        found = response.topics[0].partitions[0]
        return found.offset if found.error_code == ErrorCode.NONE else None

    def close(self) -> None:
        if self._link is not None:
            self._link.close()


class UnknownAddressError(PeerError):
    """Metadata that says where the leader is has not come here yet."""


class ReplicaFetchers:
    """All fetchers of this broker: which follows which partition."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        throttle: Throttle,
        lost_leaders: LostLeaders,
        network: Network,
        spawn: Spawn,
        flusher: Flusher,
        metrics: Registry,
        image: Callable[[], MetadataImage],
        broker_epoch: Callable[[], int],
    ) -> None:
        self.config = config
        self.throttle = throttle
        self.lost_leaders = lost_leaders
        self.network = network
        self.spawn = spawn
        self.flusher = flusher
        self.broker_epoch = broker_epoch
        self.per_leader = config.num_replica_fetchers
        """Connections to each leader; another number holds for whom `follow` is called from then on."""
        self.client_id = f"broker-{config.node_id}-fetcher"
        self.bytes_in = metrics.counter(
            "replication_bytes_in_total", "Bytes of batches fetched from leaders"
        ).labels()
        self._image = image
        self._listener = config.advertised_endpoints()[0].name
        self._fetchers: dict[tuple[int, int], ReplicaFetcher] = {}
        self._homes: dict[Key, ReplicaFetcher] = {}

    async def follow(self, actor: PartitionActor) -> None:
        """Fetch for this actor from the leader that it follows, from now on."""
        await self.let_go(actor)
        follower = actor.follower
        if follower is None or follower.leader_id < 0 or actor.log.offline_reason:
            return
        number = crc32c(actor.log.name.encode()) % self.per_leader
        place = follower.leader_id, number
        fetcher = self._fetchers.get(place)
        if fetcher is None:
            fetcher = self._fetchers[place] = ReplicaFetcher(follower.leader_id, number, self)
        self._homes[_key(actor)] = fetcher
        fetcher.add(actor)

    async def let_go(self, actor: PartitionActor) -> None:
        """Do not touch its log any more; on return nobody does."""
        fetcher = self._homes.pop(_key(actor), None)
        if fetcher is not None:
            async with fetcher.at_rest:
                fetcher.remove(actor)

    def leader_changed(self, broker_id: int) -> None:
        """A broker has come back, or is found elsewhere: what is followed from it need not wait."""
        for fetcher in self._fetchers.values():
            if fetcher.leader_id == broker_id:
                fetcher.retry()

    def throttle_changed(self) -> None:
        """The bound, or what is held to it, may be another now."""
        for fetcher in self._fetchers.values():
            fetcher.throttle_changed()

    def is_in_sync(self, actor: PartitionActor) -> bool:
        """Whether the controller counts this broker's replica among the in-sync ones."""
        topic = self._image().topics_by_id.get(actor.log.topic_id)
        return topic is not None and self.config.node_id in topic.partitions[actor.log.partition].isr

    def address_of(self, broker_id: int) -> tuple[str, int]:
        broker = self._image().brokers.get(broker_id)
        endpoint = None if broker is None else broker.endpoint(self._listener)
        if endpoint is None:
            raise UnknownAddressError(f"nobody knows where broker {broker_id} is")
        return endpoint.host, endpoint.port

    def close(self) -> None:
        for fetcher in self._fetchers.values():
            fetcher.close()


SESSION_ERRORS: Mapping[int, None] = dict.fromkeys(
    (
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
    )
)


def _key(actor: PartitionActor) -> Key:
    return actor.log.topic_id, actor.log.partition


def _position(actor: PartitionActor) -> FetchPosition | None:
    follower: PartitionFollower | None = actor.follower
    if follower is None:
        return None
    log = actor.log
    return follower.position(
        log_start_offset=log.log_start_offset,
        log_end_offset=log.log_end_offset,
        epochs=log.epochs,
        high_watermark=log.high_watermark,
    )


def _partition(index: int, position: FetchPosition, max_bytes: int) -> FetchPartition:
    return FetchPartition(
        partition=index,
        current_leader_epoch=position.leader_epoch,
        fetch_offset=position.offset,
        last_fetched_epoch=position.last_fetched_epoch,
        log_start_offset=position.log_start_offset,
        partition_max_bytes=max_bytes,
        high_watermark=position.high_watermark,
    )


def _is_answer_for(followed: Followed) -> bool:
    """Whether an answer to what the leader was told is one to where the log is now."""
    told, now = followed.told, _position(followed.actor)
    return (
        told is not None
        and now is not None
        and (told.leader_epoch, told.offset) == (now.leader_epoch, now.offset)
    )


def append(actor: PartitionActor, records: Buffer | Sequence[Buffer] | None) -> int:
    """Append the batches in an answer, as far as they are of the follower's leader epoch; how many bytes.

    A later epoch's batches are from a leader that this follower does not know of yet.
    """
    follower = actor.follower
    assert follower is not None, "only a follower replicates"
    if records is None or not len(records):
        return 0
    assert isinstance(records, bytes | bytearray | memoryview), "decoded records are one buffer"
    found = list(_known_batches(records, follower.leader_epoch))
    if found:
        actor.log.append_replicated(found)
    return sum(map(len, found))


def _known_batches(records: Buffer, leader_epoch: int) -> Iterator[memoryview]:
    for header, batch in batches(records):
        if header.leader_epoch > leader_epoch:
            return
        yield batch
