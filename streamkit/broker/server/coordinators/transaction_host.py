"""The transactional ids that this broker coordinates: the shards of `__transaction_state`."""

from __future__ import annotations

from collections.abc import Callable

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.topic_names import TRANSACTION_STATE
from streamkit.broker.coordination.transaction.coordinator import SendMarkers, TransactionCoordinator
from streamkit.broker.server.coordinators.coordinator_host import Cluster, CoordinatorHost, InternalTopic
from streamkit.broker.server.coordinators.hosted_shard import HostedShard, LoadMetrics, OwnLog, World
from streamkit.broker.server.coordinators.marker_sender import MarkerSender
from streamkit.broker.server.timers import Timers
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry


class TransactionHost(CoordinatorHost[TransactionCoordinator]):
    def __init__(
        self,
        config: BrokerConfig,
        *,
        cluster: Cluster,
        leads: Callable[[str, int], OwnLog | None],
        sender: MarkerSender,
        clock: Clock,
        timers: Timers,
        spawn: Spawn,
        metrics: Registry,
    ) -> None:
        topic = InternalTopic(
            TRANSACTION_STATE,
            config.transaction_state_log_num_partitions,
            config.transaction_state_log_replication_factor,
            config.transaction_state_log_segment_bytes,
            config.transaction_state_log_min_isr,
        )
        super().__init__(
            topic,
            node_id=config.node_id,
            voters=len(config.voters()),
            cluster=cluster,
            leads=leads,
            world=World(
                clock,
                timers,
                spawn,
                LoadMetrics(
                    metrics, "transaction_load_seconds", "Replaying one partition of the transaction log"
                ),
            ),
        )
        self._config = config
        self._sender = sender

    def make_shard(self) -> TransactionCoordinator:
        return TransactionCoordinator(self._config)

    def carry_out(self, partition: int, shard: HostedShard[TransactionCoordinator], command: object) -> None:
        assert isinstance(command, SendMarkers)
        decided_by = shard.coordinator
        if decided_by is None:
            return
        self._sender.start(
            command,
            shard.leader_epoch,
            is_wanted=lambda: shard.coordinator is decided_by,
            done=lambda: shard.tell(
                lambda coordinator, decision: coordinator.markers_written(
                    command.transactional_id, command.producer, decision
                )
            ),
        )
