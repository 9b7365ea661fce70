"""The share-partition states that this broker coordinates: the shards of `__share_group_state`.

That topic is not compacted, for its updates build on one another. What the snapshots have made redundant is
deleted from its start, every `share.coordinator.state.topic.prune.interval.ms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.topic_names import SHARE_GROUP_STATE
from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.broker.coordination.share.coordinator import ShareCoordinator
from streamkit.broker.server.coordinators.coordinator_host import Cluster, CoordinatorHost, InternalTopic
from streamkit.broker.server.coordinators.hosted_shard import LoadMetrics, OwnLog, World
from streamkit.broker.server.timers import Timers
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry

KEPT_UNTIL_PRUNED: Final[Mapping[str, str]] = {"cleanup.policy": "delete", "retention.ms": "-1"}


class ShareCoordinatorHost(CoordinatorHost[ShareCoordinator]):
    """`prune_log` begins the log of a partition led here at an offset, unless it begins there already."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        cluster: Cluster,
        leads: Callable[[str, int], OwnLog | None],
        prune_log: Callable[[str, int, int], None],
        clock: Clock,
        timers: Timers,
        spawn: Spawn,
        metrics: Registry,
    ) -> None:
        topic = InternalTopic(
            SHARE_GROUP_STATE,
            config.share_coordinator_state_topic_num_partitions,
            config.share_coordinator_state_topic_replication_factor,
            config.share_coordinator_state_topic_segment_bytes,
            config.share_coordinator_state_topic_min_isr,
            KEPT_UNTIL_PRUNED,
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
                    metrics,
                    "share_state_load_seconds",
                    "Replaying one partition of the share-group state topic",
                ),
            ),
        )
        self._config = config
        self._prune_log = prune_log
        timers.every(config.share_coordinator_state_topic_prune_interval_ms, self.prune)

    def make_shard(self) -> ShareCoordinator:
        return ShareCoordinator(self._config, self._exists)

    def stored(self, shard: ShareCoordinator, record: CoordinatorRecord, offset: int) -> None:
        shard.stored(record, offset)

    def refresh(self, deleted_topics: Iterable[bytes] = ()) -> None:
        """The metadata changed; topics of these ids are gone."""
        super().refresh()
        deleted = frozenset(deleted_topics)
        for shard in self.shards.values() if deleted else ():
            shard.tell(lambda coordinator, decision: coordinator.forget_topics(deleted, decision))

    def prune(self) -> None:
        for partition, shard in self.shards.items():
            if shard.coordinator is not None:
                self._prune_log(SHARE_GROUP_STATE, partition, shard.coordinator.redundant_below())

    def _exists(self, topic_id: bytes, partition: int) -> bool:
        topic = self._cluster.image.topics_by_id.get(topic_id)
        return topic is not None and partition < len(topic.partitions)
