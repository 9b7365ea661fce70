"""What must be true at any moment, found out by looking into the live nodes from outside.

Each look counts what it evaluated: an invariant that was never evaluated proves nothing, and fails the
whole run. The letters are those of the specification: R for the quorum, L for logs and replication.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from streamkit.simulation.cluster import TOPIC, Cluster


class Invariants:
    def __init__(self, cluster: Cluster, violated: Callable[[str], None]) -> None:
        self.evaluations: Counter[str] = Counter()
        self.elections = 0
        self._cluster = cluster
        self._violated = violated

    async def watch(self, every_s: float) -> None:
        while True:
            self.look()
            await asyncio.sleep(every_s)

    def look(self) -> None:
        """Evaluate everything once."""

    def is_converged(self) -> bool:
        return not self.why_not_converged()

    def why_not_converged(self) -> str:
        """What does not work although nothing is wrong; empty if everything does."""
        for machine in self._cluster.machines.values():
            if not machine.is_ready:
                return f"{machine.host} is not ready"
        image = self._cluster.image
        if image is None or TOPIC not in image.topics:
            return "nobody knows the topic"
        for topic in image.topics.values():
            for number, partition in enumerate(topic.partitions):
                if partition.leader < 0:
                    return f"{topic.name}-{number} has no leader"
                if set(partition.isr) != set(partition.replicas):
                    return f"{topic.name}-{number} has in sync only {partition.isr} of {partition.replicas}"
        return ""
