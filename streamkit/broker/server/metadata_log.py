"""The metadata log's driver: a quorum of one on `__cluster_metadata-0`, in Kafka's record-batch format.

One decision at a time: decide → append as one batch → wait until it is on disk → replay → tell the
subscribers → reply. So a decision sees everything decided before it, a torn write loses it whole, and
whoever gets a reply finds the cluster as the reply says. At start, what is in the log is replayed the same
way.

The callers know `submit`, the image and the subscriptions; a quorum of several nodes takes this file's
place without changing any of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from streamkit.broker.config import DYNAMIC_KEYS, TOPIC_KEYS, BrokerConfig, TopicConfig
from streamkit.broker.config_key import INT_MAX, LONG_MAX, InvalidValueError
from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.image import MetadataChanges, MetadataImage, ResourceType
from streamkit.broker.controller.records import (
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    MetadataRecord,
    decode_record,
    encode_record,
)
from streamkit.broker.controller.registration import Registration
from streamkit.broker.controller.topic_decisions import DEFAULT
from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.log.append import Origin
from streamkit.errors import RefusedError, StreamkitError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.rng import Rng
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory
    from streamkit.broker.storage.partition_log import PartitionLog

Reply = TypeVar("Reply")
Subscriber: TypeAlias = Callable[[MetadataImage, MetadataChanges], Awaitable[None]]

METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
LEADER_EPOCH: Final = 1  # a quorum of one holds its first election by itself and never another
READ_BYTES: Final = 1024 * 1024
# `flush.messages=1` keeps every append durable also where `streamkit.flush.mode=relaxed`.
LOG_CONFIG: Final = TopicConfig(
    flush_messages=1,
    max_message_bytes=INT_MAX,
    message_timestamp_after_max_ms=LONG_MAX,
    retention_ms=-1,
)


class MetadataLogError(StreamkitError):
    """A decision did not reach the disk, so nothing of it is true."""


class MetadataLog:
    """The active controller of this node, and the image that everybody on it reads."""

    def __init__(
        self,
        log: PartitionLog,
        config: BrokerConfig,
        *,
        clock: Clock,
        rng: Rng,
        spawn: Spawn,
        metrics: Registry,
    ) -> None:
        self.image = MetadataImage()
        self.node_id: Final = config.node_id
        self.broker_epoch = -1
        self._log = log
        self._clock = clock
        self._spawn = spawn
        self._controller = Controller(self.image, config, rng)
        self._subscribers: list[Subscriber] = []
        self._mailbox: list[Callable[[], Awaitable[None]]] = []
        self._draining = False
        self._durable = asyncio.Event()
        self._failure = ""
        self._declare_metrics(metrics)

    @classmethod
    async def open(
        cls,
        directory: LogDirectory,
        config: BrokerConfig,
        *,
        clock: Clock,
        rng: Rng,
        spawn: Spawn,
        metrics: Registry,
    ) -> MetadataLog:
        """Open the log in `directory`, make it if it is new, and replay it; raises RefusedError."""
        log = await directory.open_partition(CLUSTER_METADATA, METADATA_TOPIC_ID, 0, LOG_CONFIG)
        if log.offline_reason:
            raise RefusedError(
                f"the metadata log in {log.path} is damaged: {log.offline_reason}",
                hint="restore the directory from a copy, or start with an empty --data-dir",
            )
        opened = cls(log, config, clock=clock, rng=rng, spawn=spawn, metrics=metrics)
        await opened._replay_from_disk()
        log.on_flushed = opened._durable.set
        return opened

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` awaited after every change, before the reply to whoever asked for it."""
        self._subscribers.append(subscriber)

    async def submit(self, decide: Callable[[Controller], Decision[Reply]]) -> Reply:
        """What `decide` answers, once it is durable and known to the subscribers; raises MetadataLogError.

        It is carried out even if the caller is cancelled meanwhile.
        """
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        async def perform() -> None:
            try:
                result = await self._perform(decide)
            except Exception as error:
                if not reply.done():
                    reply.set_exception(error)
            else:
                if not reply.done():
                    reply.set_result(result)

        self._mailbox.append(perform)
        if not self._draining:
            self._draining = True
            self._spawn.start(self._drain(), name="metadata log")
        return await reply

    def failed(self, reason: str) -> None:
        """The directory can no longer be written: nothing more is decided here."""
        self._failure = reason
        self._durable.set()

    # --- what this node asks of its controller ------------------------------------------------------

    async def register(self, registration: Registration) -> None:
        """Make this process the one that the cluster knows as this broker."""
        self.broker_epoch = await self.submit(lambda controller: controller.register_broker(registration))

    async def allocate_producer_ids(self) -> range:
        """Producer ids that nobody else has or will have."""
        block = await self.submit(
            lambda controller: controller.allocate_producer_ids(self.node_id, self.broker_epoch)
        )
        return range(block.first, block.first + block.size)

    async def create_missing(self, names: Sequence[str]) -> dict[str, int]:
        """Make these topics with the broker's defaults; NONE for each that exists afterwards."""
        return await self._create(
            [CreatableTopic(name=name, num_partitions=DEFAULT, replication_factor=DEFAULT) for name in names]
        )

    async def create_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> ErrorCode:
        """Make a topic of our own; NONE if it exists afterwards."""
        wanted = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=[CreatableTopicConfig(name=key, value=text) for key, text in configs.items()],
        )
        code = (await self._create([wanted]))[name]
        return ErrorCode(code)  # type: ignore[call-arg]  # looked up by value

    async def _create(self, topics: list[CreatableTopic]) -> dict[str, int]:
        if not topics:
            return {}
        request = CreateTopicsRequest(topics=topics)
        response = await self.submit(lambda controller: controller.create_topics(request))
        return {
            result.name: ErrorCode.NONE if result.name in self.image.topics else result.error_code
            for result in response.topics
        }

    # --- one decision ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        try:
            while self._mailbox:
                await self._mailbox.pop(0)()
        finally:
            self._draining = False

    async def _perform(self, decide: Callable[[Controller], Decision[Reply]]) -> Reply:
        if self._failure:
            raise MetadataLogError(f"the metadata log failed: {self._failure}")
        decision = decide(self._controller)
        if decision.records:
            first_offset = await self._append(decision.records)
            changes = MetadataChanges()
            for offset, record in enumerate(decision.records, first_offset):
                self.image.replay(record, offset, changes)
            for subscriber in self._subscribers:
                await subscriber(self.image, changes)
        return decision.reply

    async def _append(self, records: Sequence[MetadataRecord]) -> int:
        """Write the records as one batch and wait until it is on disk; the offset of the first."""
        now_ms, began_s = self._clock.now_ms(), self._clock.monotonic_s()
        batch = encode_batch([Record(timestamp=now_ms, value=encode_record(record)) for record in records])
        self._durable.clear()
        (result,) = self._log.append([batch], leader_epoch=LEADER_EPOCH, origin=Origin.COORDINATOR)
        if result.error is not ErrorCode.NONE:
            self.failed(result.message or result.error.name)
        while not self._failure and self._log.flushed_offset <= result.last_offset:
            await self._durable.wait()
            self._durable.clear()
        if self._failure:
            raise MetadataLogError(f"the metadata log failed: {self._failure}")
        self._commit_seconds.observe(self._clock.monotonic_s() - began_s)
        return result.base_offset

    def _declare_metrics(self, metrics: Registry) -> None:
        self._commit_seconds = metrics.histogram(
            "quorum_commit_seconds", "From deciding to having it on disk"
        ).labels()
        metrics.gauge("quorum_epoch", "Epoch of the metadata log").labels().value = LEADER_EPOCH
        metrics.gauge("quorum_leader_id", "Node that decides").labels().value = self.node_id
        active = metrics.gauge("controller_active", "1 on the node that decides, if it still can").labels()
        brokers = metrics.gauge("brokers", "Registered brokers, by state", ("state",))

        def observe() -> None:
            active.value = 0 if self._failure else 1
            live = sum(1 for _ in self.image.live_brokers())
            brokers.labels("live").value = live
            brokers.labels("fenced").value = len(self.image.brokers) - live

        metrics.on_scrape.append(observe)

    # --- start --------------------------------------------------------------------------------------

    async def _replay_from_disk(self) -> None:
        changes = MetadataChanges()
        try:
            async for record in self._records():
                self.image.replay(decode_record(record.value or b""), record.offset, changes)
        except MalformedMessageError as error:
            raise self._unreadable(str(error)) from None
        except (KeyError, IndexError, AssertionError) as error:
            raise self._unreadable(f"what follows offset {self.image.offset} does not fit") from error
        unknown = beyond_this_version(self.image)
        if unknown:
            raise self._unreadable(unknown)

    def _unreadable(self, reason: str) -> RefusedError:
        return RefusedError(
            f"the metadata log in {self._log.path} cannot be read: {reason}",
            hint="it was written by a newer version, or by Kafka; start with the version that wrote it",
        )

    async def _records(self) -> AsyncIterator[Record]:
        log = self._log
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            data = await log.read_cold(offset, max_bytes=READ_BYTES, end_offset=log.log_end_offset)
            for header, batch in batches(data):
                offset = header.next_offset
                for record in () if header.is_control else decode_records(batch):
                    yield record


def beyond_this_version(image: MetadataImage) -> str:
    """What the cluster has been told that this version cannot keep; empty if there is nothing."""
    level = image.features.get(METADATA_VERSION_FEATURE, 0)
    if level > METADATA_VERSION:
        return f"{METADATA_VERSION_FEATURE} is {level}, and this version knows up to {METADATA_VERSION}"
    for resource, values in image.configs.items():
        known = TOPIC_KEYS if resource.type == ResourceType.TOPIC else DYNAMIC_KEYS
        for name, text in values.items():
            if name not in known:
                return f"the configuration {name} of {resource.name or 'all brokers'} is not known"
            try:
                known[name].parse(text)
            except InvalidValueError as error:
                return str(error)
    return ""
