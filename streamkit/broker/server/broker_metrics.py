"""Gauges that nobody keeps up to date: set from the node's state when somebody looks."""

from __future__ import annotations

import platform
from collections import defaultdict
from typing import TYPE_CHECKING

from streamkit import __version__
from streamkit.broker.controller.leadership import imbalanced, leaderless
from streamkit.protocol.error_codes import ErrorCode

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


class BrokerMetrics:
    """Registers itself with the broker's registry."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        registry = broker.metrics
        registry.gauge("build_info", "Always 1; the labels say what runs", ("version", "python")).labels(
            __version__, platform.python_version()
        ).value = 1
        self._connections = registry.gauge("connections", "Open connections", ("listener",))
        self._partitions = registry.gauge("partitions", "Partitions on this broker, by role", ("role",))
        self._under_replicated = registry.gauge(
            "under_replicated_partitions", "Led partitions with replicas that are not in sync"
        ).labels()
        self._under_min_isr = registry.gauge(
            "under_min_isr_partitions", "Led partitions that refuse acks=all for want of in-sync replicas"
        ).labels()
        self._at_min_isr = registry.gauge(
            "at_min_isr_partitions", "Led partitions that can lose no in-sync replica"
        ).labels()
        self._offline = registry.gauge(
            "offline_partitions",
            "Partitions on this broker that cannot be served; at the active controller, all without leader",
        ).labels()
        self._non_preferred = registry.gauge(
            "non_preferred_partitions",
            "Partitions whose leader is not the preferred one, as the active controller sees them",
        ).labels()
        self._log_size = registry.gauge(
            "log_size_bytes", "Bytes of a topic's logs on this broker", ("topic",)
        )
        self._log_segments = registry.gauge("log_segments", "Segments of all logs").labels()
        self._budget = registry.gauge(
            "inflight_bytes", "Bytes of requests and answers that connections hold"
        ).labels()
        registry.on_scrape.append(self._set)

    def _set(self) -> None:
        for name, listener in self._broker.listeners.items():
            self._connections.labels(name).value = len(listener.connections)
            self._budget.value = listener.budget.used
        self._set_partitions()
        self._set_logs()

    def _set_partitions(self) -> None:
        under_replicated = under_min = at_min = offline = leaders = 0
        for actor in self._broker.partitions:
            offline += actor.refusal(-1) is ErrorCode.KAFKA_STORAGE_ERROR
            leader = actor.leader
            if leader is None:
                continue
            leaders += 1
            in_sync, wanted = len(leader.isr), leader.effective_min_isr
            under_replicated += in_sync <= len(leader.followers)
            under_min += in_sync < wanted
            at_min += in_sync == wanted
        self._partitions.labels("leader").value = leaders
        self._partitions.labels("follower").value = len(self._broker.partitions) - leaders
        self._under_replicated.value = under_replicated
        self._under_min_isr.value = under_min
        self._at_min_isr.value = at_min
        image, decides = self._broker.metadata, self._broker.controller.is_active
        self._offline.value = offline + (leaderless(image) if decides else 0)
        self._non_preferred.value = imbalanced(image) if decides else 0

    def _set_logs(self) -> None:
        sizes: dict[str, int] = defaultdict(int)
        segments = 0
        for actor in self._broker.partitions:
            sizes[actor.log.topic] += actor.log.size_bytes
            segments += len(actor.log.segments)
        for (topic,) in tuple(self._log_size.children):
            if topic not in sizes:
                self._log_size.forget(topic)
        for topic, size in sizes.items():
            self._log_size.labels(topic).value = size
        self._log_segments.value = segments
