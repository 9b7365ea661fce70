"""What this node knows of the cluster: the committed records of the metadata log, replayed in order.

Every node has one, whether it decides or not. Records are replayed as soon as the quorum has committed them,
all of one turn at once, so nobody sees half of a decision; then each subscriber is awaited, in the order in
which they subscribed, and only then does `caught_up_to` advance. So whoever waits for an offset finds the
image, the partitions and the groups of this node as the records below it say.

A node that was away until the log began behind what it knows takes the newest snapshot in place of the
records between, and makes one itself whenever the log has grown by enough.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

from streamkit.broker.client_metrics_config import CLIENT_METRICS_KEYS
from streamkit.broker.config import DYNAMIC_KEYS
from streamkit.broker.config_key import InvalidValueError, Key
from streamkit.broker.controller.image import MetadataChanges, MetadataImage, ResourceType
from streamkit.broker.controller.image_changes import changes_between
from streamkit.broker.controller.records import (
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    decode_record,
    encode_record,
)
from streamkit.broker.controller.snapshot import restored
from streamkit.broker.controller.snapshot import snapshot as make_snapshot
from streamkit.broker.group_config import GROUP_KEYS
from streamkit.broker.topic_config import TOPIC_KEYS
from streamkit.errors import RefusedError, StreamkitError
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.records.batch import Buffer
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry

_KEYS: Final[Mapping[int, Mapping[str, Key]]] = {
    ResourceType.TOPIC: TOPIC_KEYS,
    ResourceType.GROUP: GROUP_KEYS,
    ResourceType.CLIENT_METRICS: CLIENT_METRICS_KEYS,
}

Subscriber: TypeAlias = Callable[[MetadataImage, MetadataChanges], Awaitable[None]]


RECORDS_PER_TURN: Final = 2_000
"""Of a snapshot that is being made: what else the node does goes on between two turns."""


class OffsetTrimmedError(Exception):
    """The log begins later: what was there is in the newest snapshot."""


class MetadataUnreadableError(StreamkitError):
    """The log's directory failed, and with it the node."""


class Snapshot(Protocol):
    @property
    def end_offset(self) -> int: ...

    @property
    def values(self) -> Sequence[Buffer]: ...


class CommittedLog(Protocol):
    """What is needed of the quorum here."""

    @property
    def high_watermark(self) -> int:
        """Everything below it is committed."""
        ...

    def committed(self, from_offset: int) -> AsyncIterator[tuple[int, Buffer]]:
        """(offset, value) of the metadata's records from there up to the high watermark.

        Raises OffsetTrimmedError, MetadataUnreadableError.
        """
        ...

    async def load_snapshot(self) -> Snapshot:
        """The newest one."""
        ...

    @property
    def wants_snapshot(self) -> bool:
        """The log has grown by enough since the newest."""
        ...

    async def take_snapshot(self, end_offset: int, values: Sequence[bytes]) -> None:
        """Keep these records for all below `end_offset`."""
        ...


class MetadataPublisher:
    def __init__(self, quorum: CommittedLog, *, spawn: Spawn, metrics: Registry) -> None:
        self.image = MetadataImage()
        self.caught_up_to = 0
        """Every committed record below this offset is in the image, and the subscribers know."""
        self._quorum = quorum
        self._spawn = spawn
        self._subscribers: list[Subscriber] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0
        self._committed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._declare_metrics(metrics)

    async def subscribe(
        self, subscriber: Subscriber, *, begin: Callable[[MetadataImage], Awaitable[None]] | None = None
    ) -> None:
        """Have `subscriber` awaited after every change, before anybody who waits for its offset goes on.

        `begin` is awaited first, on an image that stands still meanwhile, so that no change is missed.
        """
        async with self._publishing:
            if begin is not None:
                await begin(self.image)
            self._subscribers.append(subscriber)

    def on_committed(self) -> None:
        """The high watermark has advanced."""
        self._committed.set()

    async def catch_up(self) -> None:
        """Replay what is committed now.

        Raises RefusedError if it is not for this version to read, MetadataUnreadableError.
        """
        while self.caught_up_to < self._quorum.high_watermark:
            async with self._publishing:
                await self._publish()

    def follow(self) -> None:
        """Replay from now on whatever is committed, as long as the node runs."""
        self._spawn.start(self._follow(), name="metadata publisher")

    async def reached(self, offset: int) -> None:
        """Return once everything below `offset` is replayed here and known to the subscribers."""
        if self.caught_up_to >= offset:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        insort(self._waiting, (offset, self._arrivals, done))
        await done

    # --- replaying -----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            self._committed.clear()
            try:
                await self.catch_up()
            except MetadataUnreadableError:
                return  # the node ends, and it has been said why
            if self._quorum.wants_snapshot:
                await self._take_snapshot()
            await self._committed.wait()

    async def _publish(self) -> None:
        changes: MetadataChanges | None
        end = self._quorum.high_watermark
        try:
            records = [record async for record in self._quorum.committed(self.caught_up_to)]
        except OffsetTrimmedError:
            snapshot = await self._quorum.load_snapshot()
            changes, end = self._restore(snapshot), snapshot.end_offset
        else:
            changes = self._replay(records)
            end = max(end, self.image.offset + 1)
        if changes is not None:
            unknown = beyond_this_version(self.image, changes)
            if unknown:
                raise unreadable(unknown)
            for subscriber in self._subscribers:
                await subscriber(self.image, changes)
        # The quorum's own records lie between the metadata's; they are replayed as well, and change nothing.
        self.image.offset = max(self.image.offset, end - 1)
        self.caught_up_to = end
        while self._waiting and self._waiting[0][0] <= end:
            _, _, done = self._waiting.pop(0)
            if not done.done():
                done.set_result(None)

    def _replay(self, records: Sequence[tuple[int, Buffer]]) -> MetadataChanges | None:
        """What the records changed; None if there are none."""
        changes = MetadataChanges()
        with refusing_what_does_not_fit(self.image):
            for offset, value in records:
                self.image.replay(decode_record(value), offset, changes)
        return changes if records else None

    def _restore(self, snapshot: Snapshot) -> MetadataChanges:
        """Have the image be the snapshot's; what that changed."""
        with refusing_what_does_not_fit(self.image):
            restored_image = restored(map(decode_record, snapshot.values), snapshot.end_offset - 1)
        changes = changes_between(self.image, restored_image)
        self.image.become(restored_image)
        return changes

    async def _take_snapshot(self) -> None:
        async with self._publishing:
            version, values = self.image.metadata_version, []
            for record in make_snapshot(self.image):
                values.append(encode_record(record, version))
                if len(values) % RECORDS_PER_TURN == 0:
                    await asyncio.sleep(0)
        await self._quorum.take_snapshot(self.caught_up_to, values)

    def _declare_metrics(self, metrics: Registry) -> None:
        brokers = metrics.gauge("brokers", "Registered brokers, by state", ("state",))

        def observe() -> None:
            live = [one.is_active for one in self.image.live_brokers()]
            brokers.labels("live").value = sum(live)
            brokers.labels("shutting_down").value = len(live) - sum(live)
            brokers.labels("fenced").value = len(self.image.brokers) - len(live)

        metrics.on_scrape.append(observe)


@contextmanager
def refusing_what_does_not_fit(image: MetadataImage) -> Iterator[None]:
    try:
        yield
    except MalformedMessageError as error:
        raise unreadable(str(error)) from None
    except (KeyError, IndexError, AssertionError) as error:
        raise unreadable(f"what follows offset {image.offset} does not fit") from error


def unreadable(reason: str) -> RefusedError:
    return RefusedError(
        f"the metadata log cannot be read: {reason}",
        hint="it was written by a newer version, or by Kafka; start with the version that wrote it",
    )


def beyond_this_version(image: MetadataImage, changes: MetadataChanges) -> str:
    """What the cluster has been told that this version cannot keep; empty if there is nothing."""
    level = image.features.get(METADATA_VERSION_FEATURE, 0)
    if level > METADATA_VERSION:
        return f"{METADATA_VERSION_FEATURE} is {level}, and this version knows up to {METADATA_VERSION}"
    for resource in changes.configs:
        known = _KEYS.get(resource.type, DYNAMIC_KEYS)
        for name, text in image.config(resource).items():
            if name not in known:
                return f"the configuration {name} of {resource.name or 'all brokers'} is not known"
            try:
                known[name].parse(text)
            except InvalidValueError as error:
                return str(error)
    return ""
