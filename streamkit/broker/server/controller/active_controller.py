"""The active controller: one decision at a time, and only on the node that leads the quorum.

A decision: wait until everything committed is replayed here → decide on that image → append the records to
the quorum → wait until they are committed, and replayed and known to the subscribers here → reply. So a
decision sees every earlier one, whoever decided it, and whoever gets a reply from this node finds it true on
this node.

A node that begins to lead has committed the record of its own election before it is active, and with it
everything that its predecessors wrote; it decides once that is replayed. What a controller knows beside the
image is gone with its leadership: each epoch begins with a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.controller import Controller
from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.image import BrokerRegistration
from streamkit.broker.controller.records import (
    RECOVERING,
    MetadataRecord,
    PartitionChangeRecord,
    encode_record,
)
from streamkit.broker.server.controller.metadata_publisher import MetadataPublisher
from streamkit.errors import StreamkitError
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.rng import Rng
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry

Reply = TypeVar("Reply")


class NotLeaderError(StreamkitError):
    """This node does not lead the quorum; what it had appended may or may not be committed by another."""


class NotControllerError(StreamkitError):
    """This node does not decide (any more); whether it carried out what was asked is unknown."""


class MetadataLogError(NotControllerError):
    """The log's directory failed: this node ends, and what it had appended may be committed by another."""


class Quorum(Protocol):
    """What is needed of the quorum here."""

    @property
    def epoch(self) -> int: ...

    @property
    def leader_id(self) -> int | None:
        """None while nobody is known to lead."""
        ...

    @property
    def former_leader_id(self) -> int | None: ...

    @property
    def is_active(self) -> bool:
        """This node leads, and the record of its election is committed."""
        ...

    @property
    def high_watermark(self) -> int: ...

    def append(self, values: Sequence[bytes]) -> Awaitable[int]:
        """The offset of the first once all are committed, as one unit; raises NotLeaderError."""
        ...


class ActiveController:
    def __init__(
        self,
        quorum: Quorum,
        publisher: MetadataPublisher,
        config: BrokerConfig,
        *,
        clock: Clock,
        rng: Rng,
        spawn: Spawn,
        metrics: Registry,
        cluster_id: Callable[[], str],
    ) -> None:
        """`cluster_id` is empty until it is known; nobody registers before."""
        self._quorum = quorum
        self._publisher = publisher
        self._config = config
        self._clock = clock
        self._rng = rng
        self._spawn = spawn
        self._cluster_id = cluster_id
        self.on_begun: Callable[[], None] = lambda: None
        """Called when this node decides for the first time in an epoch."""
        self._controller: Controller | None = None
        self._epoch = -1
        """The epoch for which `_controller` was made."""
        self._mailbox: list[Callable[[], Awaitable[None]]] = []
        self._draining = False
        self._failure = ""
        self._declare_metrics(metrics)

    @property
    def is_active(self) -> bool:
        """Whether this node decides. It may find out a moment later that it does not."""
        return self._quorum.is_active and not self._failure

    def on_leadership(self, is_active: bool) -> None:
        """This node leads the quorum from now on, or no longer."""
        if is_active:
            self._spawn.start(self._begin(), name="begin to decide")

    async def _begin(self) -> None:
        with suppress(NotControllerError):
            await self.submit(lambda controller: Decision([], None))
            self.on_begun()

    async def submit(self, decide: Callable[[Controller], Decision[Reply]]) -> Reply:
        """What `decide` answers, once it is committed and replayed here.

        Raises NotControllerError, MetadataLogError. It is carried out even if the caller is cancelled
        meanwhile.
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
            self._spawn.start(self._drain(), name="active controller")
        return await reply

    def heard_from(self, broker_id: int, broker_epoch: int) -> None:
        """A broker lives: noted at once, however many decisions are waiting."""
        if self._controller is not None:
            self._controller.heard_from(broker_id, broker_epoch)

    def hung_up(self, broker_id: int, broker_epoch: int) -> None:
        """The connection of a broker's heartbeats is closed."""
        if self._controller is not None:
            self._controller.hung_up(broker_id, broker_epoch)

    def gone(self, broker_id: int, broker_epoch: int) -> None:
        """Nobody listens any more where the broker did."""
        if self._controller is not None:
            self._controller.gone(broker_id, broker_epoch)

    def broker(self, broker_id: int) -> BrokerRegistration | None:
        """The broker as this node knows it."""
        return self._publisher.image.brokers.get(broker_id)

    @property
    def former_leader(self) -> int | None:
        """The other node that decided last."""
        return self._quorum.former_leader_id

    def stalled(self, late_ms: int) -> None:
        """This process did nothing for that long; what brokers said meanwhile is yet to be read."""
        if self._controller is not None:
            self._controller.sessions.extend(late_ms)

    def failed(self, reason: str) -> None:
        """The directory can no longer be written: nothing more is decided here."""
        self._failure = reason

    async def _drain(self) -> None:
        try:
            while self._mailbox:
                await self._mailbox.pop(0)()
        finally:
            self._draining = False

    async def _perform(self, decide: Callable[[Controller], Decision[Reply]]) -> Reply:
        controller = await self._leading()
        decision = decide(controller)
        if decision.records:
            version = controller.image.metadata_version
            values = [encode_record(record, version) for record in decision.records]
            began_s = self._clock.monotonic_s()
            try:
                first_offset = await self._quorum.append(values)
            except NotLeaderError as error:
                raise NotControllerError(error.message) from None
            self._count_elections(decision.records)
            self._commit_seconds.observe(self._clock.monotonic_s() - began_s)
            await self._publisher.reached(first_offset + len(values))
        return decision.reply

    def _count_elections(self, records: Sequence[MetadataRecord]) -> None:
        for record in records:
            if isinstance(record, PartitionChangeRecord) and record.leader >= 0:
                unclean = record.leader_recovery_state == RECOVERING
                self._elections.labels("unclean" if unclean else "clean").value += 1

    async def _leading(self) -> Controller:
        """The controller of this epoch, on an image to which nothing committed is missing."""
        quorum = self._quorum
        self._check()
        epoch = quorum.epoch
        await self._publisher.reached(quorum.high_watermark)
        self._check()
        if epoch != quorum.epoch:
            raise NotControllerError(f"the epoch {epoch} is over")
        cluster_id = self._cluster_id()
        if not cluster_id:
            raise NotControllerError("the id of this new cluster is yet to be worked out")
        if self._controller is None or self._epoch != epoch:
            self._controller = Controller(
                self._publisher.image,
                self._config,
                clock=self._clock,
                rng=self._rng,
                cluster_id=cluster_id,
                lost_leader=self._quorum.former_leader_id,
            )
            self._epoch = epoch
        return self._controller

    def _check(self) -> None:
        if self._failure:
            raise MetadataLogError(f"the metadata log failed: {self._failure}")
        if not self._quorum.is_active:
            raise NotControllerError("this node does not lead the quorum")

    def _declare_metrics(self, metrics: Registry) -> None:
        self._commit_seconds = metrics.histogram(
            "quorum_commit_seconds", "From deciding to having it committed"
        ).labels()
        self._elections = metrics.counter(
            "leader_elections_total",
            "Leaders elected for partitions that existed, by whether records may be lost",
            ("type",),
        )
        epoch = metrics.gauge("quorum_epoch", "Epoch of the metadata log").labels()
        leader = metrics.gauge("quorum_leader_id", "Node that decides; -1 while none is known").labels()
        active = metrics.gauge("controller_active", "1 on the node that decides, if it still can").labels()

        def observe() -> None:
            epoch.value = self._quorum.epoch
            leader.value = -1 if self._quorum.leader_id is None else self._quorum.leader_id
            active.value = int(self.is_active)

        metrics.on_scrape.append(observe)
