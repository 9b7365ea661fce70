"""What this broker is to share groups: their members' sessions, and the share-partitions that it leads."""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.coordinators.group_cluster import GroupCluster
from streamkit.broker.server.share.metrics import ShareMetrics
from streamkit.broker.server.share.partitions import SharePartitions, World
from streamkit.broker.server.share.persister import SharePersister
from streamkit.broker.server.share.sessions import SessionKey, ShareSessions
from streamkit.broker.server.share.settings import ShareGroupSettings
from streamkit.broker.server.timers import Timers
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.spawn import Spawn
from streamkit.telemetry.instruments import Registry


class ShareService:
    def __init__(
        self,
        config: BrokerConfig,
        cluster: GroupCluster,
        persister: SharePersister,
        *,
        clock: Clock,
        timers: Timers,
        spawn: Spawn,
        metrics: Registry,
    ) -> None:
        self.settings = ShareGroupSettings(cluster.group_config)
        self.partitions = SharePartitions(
            World(clock, timers, spawn, persister, ShareMetrics(metrics), self.settings.of)
        )
        self.sessions = ShareSessions(config.group_share_max_share_sessions, self._session_ended)
        self._spawn = spawn
        gauge = metrics.gauge("share_sessions", "Open share sessions of this broker").labels()

        def set_sessions() -> None:
            gauge.value = len(self.sessions)

        metrics.on_scrape.append(set_sessions)

    def refresh(self) -> None:
        """The metadata changed."""
        self.settings.refresh()
        self.partitions.refresh()

    def close(self) -> None:
        self.partitions.close()

    def _session_ended(self, key: SessionKey) -> None:
        self._spawn.start(self._let_go(key), name="share session ended")

    async def _let_go(self, key: SessionKey) -> None:
        """Others get what the member held. What nobody of a group fetches here needs no memory."""
        await self.partitions.release(key.group_id, key.member_id)
        if not self.sessions.has_group(key.group_id):
            self.partitions.forget(key.group_id)
