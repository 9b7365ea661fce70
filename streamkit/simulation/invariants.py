"""What must be true at any moment, found out by looking into the live nodes from outside.

Each look counts what it evaluated: an invariant that was never evaluated proves nothing, and fails the whole
run. The letters are those of the specification.

    R1  one leader of the quorum in an epoch
    R4  what two nodes have replayed up to the same offset is the same
    R5  the epoch of a node's quorum never goes back, not even over its death
    R6  a majority of the voters holds on disk what is below the highest high watermark
    L1  the true high watermark of a partition (the highest that any leader showed) never goes back: a leader
        that is established begins at it or above
    L2  every running member of the ISR holds on disk what is below it
    L3  the leader's maximal ISR holds the controller's ISR of that leader epoch
    L4  two replicas' logs are the same, byte for byte, below the lower of their high watermarks
    L7  a partition has one leader in a leader epoch
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.server.node import Broker
from streamkit.broker.server.partition_actor import PartitionActor
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.simulation.cluster import TOPIC, Cluster
from streamkit.simulation.machine import Machine

Partition = tuple[str, int]
COMPARED_EVERY = 5
"""Looks; comparing logs is what costs most."""
COMPARED_BYTES = 64 * 1024


class Invariants:
    def __init__(self, cluster: Cluster, violated: Callable[[str], None]) -> None:
        self.evaluations: Counter[str] = Counter()
        self._cluster = cluster
        self._violated = violated
        self._looks = 0
        self._quorum_leaders: dict[int, int] = {}
        self._quorum_epochs: dict[str, int] = {}
        self._leaders: dict[tuple[Partition, int], int] = {}
        self._high_watermarks: dict[Partition, int] = {}

    @property
    def elections(self) -> int:
        """How often a leader came into office, of the quorum or of a partition."""
        return len(self._quorum_leaders) + len(self._leaders)

    async def watch(self, every_s: float) -> None:
        while True:
            self.look()
            await asyncio.sleep(every_s)

    def look(self) -> None:
        """Evaluate everything once."""
        self._looks += 1
        live = list(self._live())
        for machine, broker in live:
            self._look_at_quorum(machine, broker)
        self._look_at_metadata([broker for _, broker in live])
        self._look_at_majority([broker for _, broker in live])
        replicas: dict[Partition, list[tuple[Broker, PartitionActor]]] = {}
        for _, broker in live:
            for actor in broker.partitions:
                if not actor.log.offline_reason:
                    replicas.setdefault((actor.log.topic, actor.log.partition), []).append((broker, actor))
        for partition, holders in replicas.items():
            self._look_at_partition(partition, holders)
            if self._looks % COMPARED_EVERY == 0:
                self._compare_logs(partition, [actor.log for _, actor in holders])

    def _live(self) -> Iterator[tuple[Machine, Broker]]:
        for machine in self._cluster.machines.values():
            broker = machine.broker
            if broker is not None and broker.is_ready and broker.failure is None:
                yield machine, broker

    # -- the quorum

    def _look_at_quorum(self, machine: Machine, broker: Broker) -> None:
        quorum = broker.quorum
        self._hold("R5", quorum.epoch >= self._quorum_epochs.get(machine.host, 0), lambda: (
            f"{machine.host} went back from epoch {self._quorum_epochs[machine.host]} to {quorum.epoch}"
        ))  # fmt: skip
        self._quorum_epochs[machine.host] = quorum.epoch
        if quorum.is_active:
            first = self._quorum_leaders.setdefault(quorum.epoch, quorum.node_id)
            self._hold("R1", first == quorum.node_id, lambda: (
                f"nodes {first} and {quorum.node_id} both lead epoch {quorum.epoch}"
            ))  # fmt: skip

    def _look_at_metadata(self, brokers: list[Broker]) -> None:
        """Nodes that have replayed the same offset know the same partitions."""
        by_offset = sorted(brokers, key=lambda broker: broker.metadata.offset)
        for one, other in pairwise(by_offset):
            if one.metadata.offset == other.metadata.offset:
                who = f"nodes {one.config.node_id} and {other.config.node_id}"
                what = f"{who} disagree at offset {one.metadata.offset}"
                self._hold("R4", told(one) == told(other), lambda: what)  # noqa: B023

    def _look_at_majority(self, brokers: list[Broker]) -> None:
        """Of the voters that run at least so many hold it that with those that are down it is a majority."""
        committed = max((broker.quorum.high_watermark for broker in brokers), default=0)
        voters = self._cluster.shape.voters
        without = sum(
            1
            for broker in brokers
            if broker.config.node_id <= voters and metadata_log(broker).flushed_offset < committed
        )
        self._hold("R6", without <= (voters - 1) // 2, lambda: (
            f"{without} of {voters} voters lack a part of what is committed up to {committed}"
        ))  # fmt: skip

    # -- partitions

    def _look_at_partition(self, partition: Partition, holders: list[tuple[Broker, PartitionActor]]) -> None:
        for broker, actor in holders:
            if actor.leader is not None:
                self._look_at_leader(partition, broker, actor, holders)

    def _look_at_leader(
        self,
        partition: Partition,
        broker: Broker,
        actor: PartitionActor,
        holders: list[tuple[Broker, PartitionActor]],
    ) -> None:
        leader, name = actor.leader, f"{partition[0]}-{partition[1]}"
        assert leader is not None
        node = leader.node_id
        first = self._leaders.setdefault((partition, leader.leader_epoch), node)
        self._hold("L7", first == node, lambda: (
            f"nodes {first} and {node} both lead epoch {leader.leader_epoch} of {name}"
        ))  # fmt: skip
        registration = broker.metadata.partition(*partition)
        if registration is None or registration.leader_epoch != leader.leader_epoch:
            return
        self._hold("L3", set(leader.maximal_isr) >= set(registration.isr), lambda: (
            f"the leader of {name} counts on {leader.maximal_isr}, and {registration.isr} are in sync"
        ))  # fmt: skip
        newest = self._cluster.image
        current = None if newest is None else newest.partition(*partition)
        if current is None or current.leader_epoch != leader.leader_epoch or not actor.is_established:
            return  # another leads already, or this one does not know yet what is committed
        before = self._high_watermarks.get(partition, 0)
        self._hold("L1", actor.high_watermark >= before, lambda: (
            f"the high watermark of {name} was {before}, and is {actor.high_watermark} at node {node}"
        ))  # fmt: skip
        self._high_watermarks[partition] = max(before, actor.high_watermark)
        for holder, replica in holders:
            if holder.config.node_id in current.isr:
                self._hold("L2", replica.log.flushed_offset >= actor.high_watermark, lambda: (
                    f"{name} is committed up to {actor.high_watermark}, and node {holder.config.node_id} "  # noqa: B023
                    f"in its ISR has {replica.log.flushed_offset} on disk"  # noqa: B023
                ))  # fmt: skip

    def _compare_logs(self, partition: Partition, logs: list[PartitionLog]) -> None:
        """The last part of what both have committed: what lies before was compared before."""
        for one, other in pairwise(logs):
            end = min(one.high_watermark, other.high_watermark)
            begin = max(one.log_start_offset, other.log_start_offset, end - 20)
            if begin >= end:
                continue
            both = [log.read(begin, max_bytes=COMPARED_BYTES, end_offset=end) for log in (one, other)]
            if None in both:
                continue  # not in the page cache now
            size = min(len(data) for data in both if data is not None)
            parts = [bytes(data[:size]) for data in both if data is not None]
            self._hold("L4", parts[0] == parts[1], lambda: (
                f"two logs of {partition[0]}-{partition[1]} differ between {begin} and {end}"  # noqa: B023
            ))  # fmt: skip

    def _hold(self, name: str, holds: bool, what: Callable[[], str]) -> None:
        self.evaluations[name] += 1
        if not holds:
            self._violated(f"{name}: {what()}")

    # -- the end

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


def metadata_log(broker: Broker) -> PartitionLog:
    return broker.directory.logs[CLUSTER_METADATA, 0]


def told(broker: Broker) -> list[tuple[str, int, int, tuple[int, ...]]]:
    """What a node knows of all partitions: leader, leader epoch, ISR."""
    return [
        (topic.name, partition.leader, partition.leader_epoch, tuple(partition.isr))
        for topic in broker.metadata.topics.values()
        for partition in topic.partitions
    ]
