"""This broker's two replication throttles, bounded as the cluster's metadata says at any time."""

from __future__ import annotations

from collections.abc import Callable

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataChanges
from streamkit.broker.replication.throttle import UNBOUNDED, Throttle
from streamkit.runtime.contracts.clock import Clock
from streamkit.telemetry.instruments import Registry


class ReplicationThrottles:
    """`leader` counts what is sent to followers, `follower` what is fetched from leaders."""

    def __init__(self, config: BrokerConfig, *, clock: Clock, metrics: Registry) -> None:
        windows, window_ms = (
            config.replication_quota_window_num,
            config.replication_quota_window_size_seconds * 1000,
        )
        self.leader = Throttle(clock, windows=windows, window_ms=window_ms)
        self.follower = Throttle(clock, windows=windows, window_ms=window_ms)
        self.on_change: Callable[[], None] = _nobody_waits
        """Called after bounds, or what is held to them, may have changed."""
        self.heed(config)
        self._declare_metrics(metrics)

    def heed(self, config: BrokerConfig) -> None:
        """This is the broker's configuration from now on."""
        self.leader.bound = config.leader_replication_throttled_rate
        self.follower.bound = config.follower_replication_throttled_rate

    def apply(self, changes: MetadataChanges) -> None:
        """Look anew at what waits; altered configurations are in force here already."""
        if changes.configs:
            self.on_change()

    def _declare_metrics(self, metrics: Registry) -> None:
        counted = metrics.counter(
            "replication_throttled_bytes_total",
            "Bytes of replicas named for throttling, sent as a leader and fetched as a follower",
            ("role",),
        )
        rate = metrics.gauge(
            "replication_throttle_bytes_per_second", "The measured rate of those bytes", ("role",)
        )
        bound = metrics.gauge(
            "replication_throttle_limit_bytes_per_second", "The bound of that rate; +Inf is none", ("role",)
        )

        def observe() -> None:
            for role, throttle in (("leader", self.leader), ("follower", self.follower)):
                counted.labels(role).value = throttle.total_bytes
                rate.labels(role).value = throttle.rate()
                bound.labels(role).value = float("inf") if throttle.bound == UNBOUNDED else throttle.bound

        metrics.on_scrape.append(observe)


def _nobody_waits() -> None:
    """Before the fetchers are there."""
