"""One broker process: every part of it made, joined and ended here, and nowhere else.

The order of a start is the order in which the parts need each other: bind the ports (a taken one fails
before anything is touched), open the data directory, talk to the other controllers until one of them decides,
replay the metadata, register, open the partitions, load what coordinates groups, and only then accept
clients. Their requests wait until the cluster may use this broker and it knows so itself: to the first answer
it is a part of the cluster, and who hears of it a moment earlier finds its port open.

A directory that can no longer be written ends the node: nothing is acknowledged from then on, and what is
really there is found out by the next start.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import structlog

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import Endpoint, MetadataChanges, MetadataImage
from streamkit.broker.listeners import Listener as ListenerAddress
from streamkit.broker.raft.voters import Endpoint as VoterEndpoint
from streamkit.broker.server.broker_metrics import BrokerMetrics
from streamkit.broker.server.client_telemetry import ClientTelemetry
from streamkit.broker.server.cluster.broker_lifecycle import BrokerLifecycle
from streamkit.broker.server.cluster.broker_links import BrokerLinks
from streamkit.broker.server.cluster.controller_channel import ControllerChannel, NoControllerError
from streamkit.broker.server.cluster.controller_client import ControllerClient
from streamkit.broker.server.cluster.departed_brokers import DepartedBrokers
from streamkit.broker.server.cluster.lost_leaders import LostLeaders
from streamkit.broker.server.cluster.metadata_answers import MetadataAnswers
from streamkit.broker.server.cluster.producer_ids import ProducerIds
from streamkit.broker.server.controller.active_controller import ActiveController
from streamkit.broker.server.controller.cluster_identity import cluster_id_from
from streamkit.broker.server.controller.duties import ControllerDuties
from streamkit.broker.server.controller.metadata_publisher import MetadataPublisher
from streamkit.broker.server.controller.quorum import Quorum
from streamkit.broker.server.controller.quorum_opening import open_quorum
from streamkit.broker.server.coordinators.group_cluster import GroupCluster
from streamkit.broker.server.coordinators.group_gauges import GroupGauges
from streamkit.broker.server.coordinators.group_host import GroupHost
from streamkit.broker.server.coordinators.marker_sender import MarkerSender
from streamkit.broker.server.coordinators.marker_writer import MarkerWriter
from streamkit.broker.server.coordinators.transaction_gate import TransactionGate
from streamkit.broker.server.coordinators.transaction_host import TransactionHost
from streamkit.broker.server.dispatch import Dispatcher, Metrics
from streamkit.broker.server.dynamic_config import DynamicConfig
from streamkit.broker.server.handlers.cluster import CONTROLLERS
from streamkit.broker.server.replicas.damaged_replicas import ATTEND_MS, DamagedReplicas
from streamkit.broker.server.replicas.fetch_sessions import FetchSessions
from streamkit.broker.server.replicas.isr_changes import IsrChanges
from streamkit.broker.server.replicas.partitions import Partitions
from streamkit.broker.server.replicas.replica_fetcher import ReplicaFetchers
from streamkit.broker.server.replicas.replication_throttles import ReplicationThrottles
from streamkit.broker.server.routes import CONTROLLER_ROUTES, ROUTES
from streamkit.broker.server.share.coordinator_host import ShareCoordinatorHost
from streamkit.broker.server.share.persister import SharePersister
from streamkit.broker.server.share.service import ShareService
from streamkit.broker.server.timers import Timers
from streamkit.broker.storage.cleaner import Cleaner, CleanerLimits
from streamkit.broker.storage.errors import LogOfflineError
from streamkit.broker.storage.log_directory import LogDirectory
from streamkit.errors import RefusedError, StreamkitError
from streamkit.net.budget import Budget
from streamkit.net.connection import Limits
from streamkit.net.listener import Listener
from streamkit.net.peer import Link, PeerError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from streamkit.runtime.contracts.ports import Ports
from streamkit.runtime.contracts.spawn import TaskHandle
from streamkit.telemetry.instruments import Registry

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

SWEEP_MS = 1000
CLUSTER_ID_RETRY_S = 0.05
SOON_MS = 3_000
"""How long a start looks for a quorum before it says that it waits for one."""
NO_LIMIT_BYTES = 2**63


class CurrentLeader(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads a partition, and where a client of some listener reaches it."""

    node_id: int
    epoch: int
    host: str
    port: int
    rack: str | None


class Broker:
    """What the handlers know of the node that they serve. Made by `start`, ended by `stop`."""

    directory: LogDirectory
    quorum: Quorum
    publisher: MetadataPublisher
    controller: ActiveController
    channel: ControllerChannel
    controller_client: ControllerClient
    departed: DepartedBrokers
    metadata_answers: MetadataAnswers
    throttles: ReplicationThrottles
    lost_leaders: LostLeaders
    fetchers: ReplicaFetchers
    partitions: Partitions
    damaged: DamagedReplicas
    producer_ids: ProducerIds
    groups: GroupHost
    lifecycle: BrokerLifecycle
    transactions: TransactionHost
    share_states: ShareCoordinatorHost
    share_persister: SharePersister
    shares: ShareService
    gate: TransactionGate
    markers: MarkerWriter
    links: BrokerLinks

    def __init__(
        self, config: BrokerConfig, ports: Ports, metrics: Registry, *, on_end: Callable[[], None]
    ) -> None:
        self.config = config
        self.dynamic = DynamicConfig(config)
        self.clock = ports.clock
        self.rng = ports.rng
        self.spawn = ports.spawn
        self.metrics = metrics
        self.failure: StreamkitError | None = None
        """Why the node can do nothing more; `on_end` is called then."""
        self.is_ready = False
        self._waits_for = ""
        self.timers = Timers(self.clock)
        self.fetch_sessions = FetchSessions(
            clock=self.clock, rng=self.rng, slots=config.max_incremental_fetch_session_cache_slots
        )
        self.client_telemetry = ClientTelemetry(
            max_bytes=config.telemetry_max_bytes,
            clock=self.clock,
            rng=self.rng,
            timers=self.timers,
            metrics=metrics,
        )
        requests = Metrics(metrics)
        self._for_clients = Dispatcher(self, ROUTES, requests)
        self._for_controllers = Dispatcher(self, CONTROLLER_ROUTES, requests)
        most = config.queued_max_request_bytes
        self.budget = Budget(NO_LIMIT_BYTES if most < 0 else most)
        self.listeners: dict[str, Listener] = {}
        self._ports = ports
        self._on_end = on_end
        self._maintenance = asyncio.Lock()
        """Held by whoever writes checkpoints or deletes segments, and for good by the end."""
        self._stopped = False
        self._failed_requests = metrics.counter(
            "broker_failed_requests_total", "Errors answered, by API and error", ("api", "error")
        )

    @property
    def metadata(self) -> MetadataImage:
        return self.publisher.image

    def dispatcher(self, listener: str) -> Dispatcher:
        """What is served at a listener."""
        return self._for_controllers if self.config.is_for_controllers(listener) else self._for_clients

    # -- start -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything up to the first answered request; raises StreamkitError."""
        await self._bind()
        self.directory = await LogDirectory.open(
            self._ports.disk,
            self.config.log_dir,
            node_id=self.config.node_id,
            clock=self.clock,
            rng=self.rng,
            spawn=self.spawn,
            flush_mode=self.config.flush_mode,
            on_failure=self._directory_failed,
            producer_id_expiration_ms=self.config.producer_id_expiration_ms,
            founds=all(voter.node_id == self.config.node_id for voter in self.config.voters()),
        )
        self.quorum = await open_quorum(
            self.directory,
            self.config,
            ports=self._ports,
            timers=self.timers,
            metrics=self.metrics,
            controller_endpoint=self._controller_endpoint(),
        )
        self.publisher = MetadataPublisher(self.quorum, spawn=self.spawn, metrics=self.metrics)
        self.quorum.on_committed = self.publisher.on_committed
        await self.publisher.catch_up()
        self.publisher.follow()
        self.controller = ActiveController(
            self.quorum,
            self.publisher,
            self.config,
            clock=self.clock,
            rng=self.rng,
            spawn=self.spawn,
            metrics=self.metrics,
            cluster_id=lambda: self.directory.cluster_id,
        )
        self.quorum.on_leadership = self.controller.on_leadership
        self.duties = ControllerDuties(
            self.controller,
            self.config,
            clock=self.clock,
            timers=self.timers,
            spawn=self.spawn,
            network=self._ports.network,
        )
        self.channel = ControllerChannel(
            self.quorum,
            self.publisher,
            self._for_controllers,
            self._ports.network,
            node_id=self.config.node_id,
        )
        self.controller_client = ControllerClient(self.channel, self.publisher, self.config.node_id)
        await self._accept(for_controllers=True)
        await self._join()
        self.departed = DepartedBrokers(self.metadata, self.clock)
        self.metadata_answers = MetadataAnswers(
            self.metadata,
            cluster_id=self.directory.cluster_id,
            leader_id=lambda: self.quorum.leader_id,
            departed=self.departed.still_told,
        )
        self.throttles = ReplicationThrottles(self.config, clock=self.clock, metrics=self.metrics)
        self.lost_leaders = LostLeaders(lambda: self.metadata, self.clock)
        self.fetchers = ReplicaFetchers(
            self.config,
            throttle=self.throttles.follower,
            lost_leaders=self.lost_leaders,
            network=self._ports.network,
            spawn=self.spawn,
            flusher=self.directory.flusher,
            metrics=self.metrics,
            image=lambda: self.metadata,
            broker_epoch=lambda: self.controller_client.broker_epoch,
        )
        self.throttles.on_change = self.fetchers.throttle_changed
        self.dynamic.on_change(self.throttles.heed)
        isr_changes = IsrChanges(
            self.channel.ask,
            node_id=self.config.node_id,
            broker_epoch=lambda: self.controller_client.broker_epoch,
            spawn=self.spawn,
        )
        self.dynamic.on_change(self._heed)
        self.partitions = Partitions(
            self.config,
            self.directory,
            self.metrics,
            clock=self.clock,
            fetchers=self.fetchers,
            proposals=isr_changes,
        )
        self.damaged = DamagedReplicas(
            self.partitions,
            self.channel.ask,
            node_id=self.config.node_id,
            broker_epoch=lambda: self.controller_client.broker_epoch,
            image=lambda: self.metadata,
            spawn=self.spawn,
        )
        self.producer_ids = ProducerIds(self.controller_client.allocate_producer_ids)
        self.groups = GroupHost(
            self.config,
            cluster=self.controller_client,
            leads=self.partitions.led,
            persister=lambda: self.share_persister,
            clock=self.clock,
            timers=self.timers,
            spawn=self.spawn,
            metrics=self.metrics,
        )
        self._make_transactions()
        self._make_share_states()
        self.lifecycle = BrokerLifecycle(
            self.config,
            self.controller_client,
            self.channel,
            self.publisher,
            directory=self.directory,
            disk=self._ports.disk,
            spawn=self.spawn,
            incarnation_id=self.rng.bytes("incarnations", 16),
            endpoints=self.endpoints,
        )
        await self.lifecycle.register()
        await self.publisher.subscribe(self._metadata_changed, begin=self._open_partitions)
        self._start_timers()
        BrokerMetrics(self)
        GroupGauges(self)
        await self.groups.settled()
        await self.transactions.settled()
        await self.share_states.settled()
        await self._accept(for_controllers=False)
        await self.damaged.begin()
        await self.lifecycle.go_live()
        for listener in self.listeners.values():
            listener.release()
        self.is_ready = True

    async def _join(self) -> None:
        """Find the quorum, learn which cluster this is, and replay what has been decided in it."""
        try:
            await self.channel.catch_up(SOON_MS)
        except NoControllerError:
            self._waits_for = "the quorum"
            voters = ",".join(map(str, self.config.voters()))
            log.info("waiting for the quorum", node=self.config.node_id, voters=voters)
            await self._warn_of_other_clusters()
            await self._patiently(self.channel.catch_up)
            self._waits_for = ""
        while not self.directory.cluster_id:
            cluster_id = await self._patiently(self._cluster_id)
            if cluster_id:
                await self.directory.join(cluster_id)
                log.info("joined", cluster=cluster_id)
            else:
                await asyncio.sleep(CLUSTER_ID_RETRY_S)

    async def _warn_of_other_clusters(self) -> None:
        """Say so if a voter answers as part of another cluster: it and this node will never agree."""
        own = self.directory.cluster_id
        for voter in self.config.voters():
            link = Link(
                self._ports.network, voter.host, voter.port, client_id=f"broker-{self.config.node_id}"
            )
            with suppress(PeerError):
                theirs: DescribeClusterResponse = await link.call(
                    DescribeClusterRequest(endpoint_type=CONTROLLERS), 1, SOON_MS
                )
                if own and theirs.cluster_id not in ("", own):
                    log.error(
                        "a voter belongs to another cluster; start one of the two with another --data-dir",
                        voter=str(voter),
                        its_cluster=theirs.cluster_id,
                        own_cluster=own,
                        data_dir=self.config.log_dir,
                    )
            link.close()

    async def _cluster_id(self) -> str:
        """As the quorum's leader knows it; empty if that has not worked it out yet."""
        if self.quorum.is_active:
            first_batch = await self.quorum.first_batch()
            return "" if first_batch is None else cluster_id_from(first_batch)
        response: DescribeClusterResponse = await self.channel.ask(
            DescribeClusterRequest(endpoint_type=CONTROLLERS)
        )
        return response.cluster_id

    async def _patiently(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the controller answers, however long there is none: the other nodes may be yet to come."""
        while True:
            try:
                return await ask()
            except NoControllerError as error:
                log.warning("waiting for the quorum", node=self.config.node_id, reason=error.message)

    async def _accept(self, *, for_controllers: bool) -> None:
        for address in self.config.endpoints():
            if self.config.is_for_controllers(address.name) is not for_controllers:
                continue
            try:
                await self.listeners[address.name].accept()
            except OSError as error:
                raise cannot_listen(address, error) from error

    def _make_transactions(self) -> None:
        config, between_brokers = self.config, self.config.endpoints()[0].name
        node_id, network = config.node_id, self._ports.network
        self.links = BrokerLinks(network, lambda: self.metadata, node_id=node_id, listener=between_brokers)
        self.markers = MarkerWriter(self.partitions, self.groups, self.clock)
        self.transactions = TransactionHost(
            config,
            cluster=self.controller_client,
            leads=self.partitions.led,
            sender=MarkerSender(lambda: self.metadata, self.markers, self.links, self.spawn, node_id=node_id),
            clock=self.clock,
            timers=self.timers,
            spawn=self.spawn,
            metrics=self.metrics,
        )
        self.gate = TransactionGate(self.transactions, self.links, node_id=node_id)

    def _make_share_states(self) -> None:
        self.share_states = ShareCoordinatorHost(
            self.config,
            cluster=self.controller_client,
            leads=self.partitions.led,
            prune_log=self.partitions.prune,
            clock=self.clock,
            timers=self.timers,
            spawn=self.spawn,
            metrics=self.metrics,
        )
        self.share_persister = SharePersister(self.share_states, self.links, node_id=self.config.node_id)
        self.shares = ShareService(
            self.config,
            GroupCluster(self.config, lambda: self.metadata),
            self.share_persister,
            clock=self.clock,
            timers=self.timers,
            spawn=self.spawn,
            metrics=self.metrics,
        )

    def unready_because(self) -> list[str]:
        if self.failure is not None:
            return [self.failure.message]
        if self.is_ready:
            return []
        return [f"waiting for {self._waits_for}" if self._waits_for else "starting"]

    def endpoints(self) -> list[Endpoint]:
        """Where clients of each listener find this broker."""
        return [self._endpoint(address) for address in self.config.advertised_endpoints()]

    async def _bind(self) -> None:
        limits = Limits(
            max_frame_bytes=self.config.socket_request_max_bytes,
            idle_timeout_ms=self.config.connections_max_idle_ms,
            max_connections=self.config.max_connections,
            max_connections_per_host=self.config.max_connections_per_ip,
        )
        closed = self.metrics.counter("connections_closed_total", "Closed connections", ("reason",))
        for address in self.config.endpoints():
            listener = Listener(
                name=address.name,
                serve=self.dispatcher(address.name).serve,
                clock=self.clock,
                limits=limits,
                budget=self.budget,
                closed=closed,
                holds=not self.config.is_for_controllers(address.name),
            )
            try:
                await listener.bind(self._ports.network, address.host or "0.0.0.0", address.port)
            except OSError as error:
                raise cannot_listen(address, error) from error
            self.listeners[address.name] = listener

    def _controller_endpoint(self) -> VoterEndpoint | None:
        """Where the other nodes find this one as a controller, if they do."""
        address = self.config.controller_endpoint()
        if address is None:
            return None
        endpoint = self._endpoint(address)
        return VoterEndpoint(endpoint.name, endpoint.host, endpoint.port)

    def _endpoint(self, address: ListenerAddress) -> Endpoint:
        """What clients are told; port 0 stands for the one that the listener was given."""
        port = address.port or self.listeners[address.name].port
        return Endpoint(name=address.name, host=address.host, port=port)

    def _start_timers(self) -> None:
        config, every = self.config, self.timers.every
        every(SWEEP_MS, self._sweep)
        every(config.log_flush_offset_checkpoint_interval_ms, self._in_background(self._checkpoint))
        every(max(config.replica_lag_time_max_ms // 2, 1), self.partitions.tick)
        every(ATTEND_MS, self._in_background(self.damaged.attend))
        every(config.log_retention_check_interval_ms, self._in_background(self._apply_retention))
        if config.log_cleaner_enable:
            cleaner = Cleaner(self._ports.disk, self.directory, self.clock, self._cleaner_limits)
            self.spawn.start(cleaner.run(), name="log cleaner")

    # -- what happens ----------------------------------------------------------------------------------------

    async def _open_partitions(self, image: MetadataImage) -> None:
        self.dynamic.begin(image)
        self.fetchers.per_leader = self.dynamic.now.num_replica_fetchers
        self.client_telemetry.begin(image)
        self.departed.begin()
        await self.partitions.open_all(image)
        self.groups.refresh()
        self.transactions.refresh()
        self.share_states.refresh()

    async def _metadata_changed(self, image: MetadataImage, changes: MetadataChanges) -> None:
        self.dynamic.apply(image, changes)
        self.client_telemetry.apply(image, changes)
        self.departed.changed(changes.brokers)
        if self.dynamic.now.num_replica_fetchers != self.fetchers.per_leader:
            await self.partitions.fetch_over(self.dynamic.now.num_replica_fetchers)
        await self.partitions.apply(image, changes)
        self.lost_leaders.metadata_changed()
        self.throttles.apply(changes)
        self.groups.refresh(
            deleted_topics=[topic.name for topic in changes.deleted],
            changed_topics=[topic.name for topic, _ in changes.new_partitions],
        )
        self.transactions.refresh()
        self.share_states.refresh(topic.topic_id for topic in changes.deleted)
        self.shares.refresh()
        if changes.brokers:
            self.links.refresh()

    def _heed(self, config: BrokerConfig) -> None:
        """What was altered, as far as nobody asks `dynamic` for it."""
        self.directory.remember_producers_for(config.producer_id_expiration_ms)
        for listener in self.listeners.values():
            listener.limits = msgspec.structs.replace(
                listener.limits,
                max_connections=config.max_connections,
                max_connections_per_host=config.max_connections_per_ip,
            )

    def _directory_failed(self, reason: str) -> None:
        hint = "check the disk, then start again"
        self.fail(StreamkitError(f"the data directory failed: {reason}", hint=hint))

    def task_failed(self, name: str, error: BaseException) -> None:
        """Nobody waits for a background task, so a node that went on without it could hang for ever."""
        log.error("background task failed", task=name, exc_info=error)
        self.fail(StreamkitError(f"{name} failed: {type(error).__name__}: {error}"))

    def fail(self, error: StreamkitError) -> None:
        """Answer nothing more and end: what is not on disk by now is never acknowledged."""
        if self.failure is not None:
            return
        self.failure = error
        log.critical("the broker ends", reason=error.message)
        if hasattr(self, "controller"):
            self.controller.failed(error.message)
            self.quorum.failed(error.message)
        if hasattr(self, "partitions"):
            self.partitions.fail(ErrorCode.KAFKA_STORAGE_ERROR)
        self._on_end()

    def _sweep(self) -> None:
        for listener in self.listeners.values():
            listener.sweep()

    def _in_background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """A callback that runs `work`, unless it is still running."""
        running: TaskHandle | None = None

        def begin() -> None:
            nonlocal running
            if running is None or running.done():
                running = self.spawn.start(work(), name=work.__name__)

        return begin

    async def _checkpoint(self) -> None:
        async with self._maintenance:
            await self.directory.checkpoint()

    def _cleaner_limits(self) -> CleanerLimits:
        return CleanerLimits(
            backoff_ms=self.dynamic.now.log_cleaner_backoff_ms,
            buffer_bytes=self.dynamic.now.log_cleaner_dedupe_buffer_size,
            bytes_per_second=self.dynamic.now.log_cleaner_io_max_bytes_per_second,
        )

    async def _apply_retention(self) -> None:
        for actor in self.partitions:
            async with self._maintenance:
                if actor.ended_by is not ErrorCode.NONE:
                    continue
                try:
                    await actor.log.apply_retention()
                    actor.log.expire_producers()
                except (LogOfflineError, OSError) as error:
                    log.warning("retention failed", log=actor.log.name, reason=str(error))

    # -- what handlers ask -----------------------------------------------------------------------------------

    def topic_name(self, topic_id: bytes) -> str | None:
        topic = self.metadata.topics_by_id.get(topic_id)
        return None if topic is None else topic.name

    def why_missing(self, topic: str, partition: int) -> ErrorCode:
        """What to tell a client that asks this broker for a partition which it does not serve."""
        registration = self.metadata.partition(topic, partition)
        if registration is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.NOT_LEADER_OR_FOLLOWER

    def current_leader(self, topic: str | None, partition: int, listener: str) -> CurrentLeader | None:
        registration = None if topic is None else self.metadata.partition(topic, partition)
        broker = None if registration is None else self.metadata.brokers.get(registration.leader)
        endpoint = None if broker is None else broker.endpoint(listener)
        if registration is None or broker is None or endpoint is None:
            return None
        return CurrentLeader(
            node_id=registration.leader,
            epoch=registration.leader_epoch,
            host=endpoint.host,
            port=endpoint.port,
            rack=broker.rack,
        )

    def count_failure(self, api: ApiKey, code: ErrorCode) -> None:
        self._failed_requests.labels(api.name, code.name).value += 1

    def count_failures(self, api: ApiKey, codes: Iterable[int]) -> None:
        """The same for what an answer says of each of its items, successes among them."""
        for code in codes:
            if code != ErrorCode.NONE:
                self.count_failure(api, ErrorCode(code))  # type: ignore[call-arg]  # looked up by value

    # -- stop ------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End in order: nothing new, everything appended made durable and answered, then the directory."""
        if self._stopped:
            return
        self._stopped = True
        if hasattr(self, "lifecycle") and self.failure is None:
            await self.lifecycle.leave()
        if hasattr(self, "quorum"):
            await self.quorum.resign()
        for listener in self.listeners.values():
            listener.stop_serving()
        self.timers.close()
        if hasattr(self, "partitions"):
            self.fetchers.close()
            for actor in self.partitions:
                actor.drain()
            await self.directory.flusher.settle()
        for listener in self.listeners.values():
            await listener.close()
        if hasattr(self, "transactions"):
            self.groups.close()
            self.transactions.close()
            self.shares.close()
            self.share_states.close()
            self.links.close()
        if hasattr(self, "channel"):
            self.channel.close()
        if hasattr(self, "quorum"):
            self.quorum.close()
        async with self._maintenance:
            await self.spawn.close()
            if hasattr(self, "directory"):
                await self.directory.close()


async def start_unless(broker: Broker, ended: asyncio.Event) -> bool:
    """Start the node, unless it is told to end meanwhile, or ends by itself; whether it started."""
    starting = asyncio.ensure_future(broker.start())
    ending = asyncio.ensure_future(ended.wait())
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


def cannot_listen(address: ListenerAddress, error: OSError) -> RefusedError:
    where, hint = f"{address.host}:{address.port}", "choose another address with --listen HOST:PORT"
    if error.errno == errno.EADDRINUSE:
        return RefusedError(f"{where} is taken by another process", hint=hint)
    return RefusedError(f"cannot listen at {where}: {error.strerror or error}", hint=hint)
