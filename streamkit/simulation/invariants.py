"""What must be true at any moment, found out by looking into the live nodes from outside.

Each look counts what it evaluated: an invariant that was never evaluated proves nothing, and fails the whole
run. The letters are those of the specification.

    R1  one leader of the quorum in an epoch
    R2  two logs of the quorum with the same epoch at an offset are the same up to there
    R3  who leads the newest epoch of the quorum has whatever was committed
    R4  what two nodes have replayed up to the same offset is the same
    R5  the epoch of a node's quorum never goes back, not even over its death; a majority has an epoch on disk
        when somebody leads it
    R6  a majority of the voters holds on disk what is below the highest high watermark
    R7  a log that does not start at 0 starts behind a snapshot; a leader loads none
    R8  at most one change of the voters is not committed
    R9  a node that hears nobody raises no epoch
    R10 a node whose disk was lost has another directory id, and does not stand for election as a voter
    L1  the true high watermark of a partition (the highest that any leader showed) never goes back: a leader
        that is established begins at it or above
    L2  every running member of the ISR holds on disk what is below it
    L3  the leader's maximal ISR holds the controller's ISR of that leader epoch; nobody in an ISR is fenced
    L4  two replicas' logs are the same, byte for byte, below the lower of their high watermarks
    L7  a partition has one leader in a leader epoch, who counts on a follower only from a fetch in that epoch
    L8  every running eligible leader (ELR) holds on disk what is below the true high watermark
    L9  whoever leads on in an epoch that is over commits nothing that the present leader does not have

Those of transactions stand in `transaction_invariants`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.log.producers import marker_in
from streamkit.broker.replication.leader import PartitionLeader
from streamkit.broker.server.node import Broker
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.record import Record, decode_records
from streamkit.simulation.cluster import TOPIC, Cluster
from streamkit.simulation.machine import Machine
from streamkit.simulation.quorum_invariants import QuorumInvariants, is_prefix
from streamkit.simulation.transaction_invariants import TransactionInvariants

Partition = tuple[str, int]
COMPARED_EVERY = 5
"""Looks; comparing logs is what costs most."""
COMPARED_BYTES = 64 * 1024
READ_TRIES = 50
COMPARED_AGAIN = 20
"""Offsets that the next comparison looks at once more."""


class Invariants:
    def __init__(
        self, cluster: Cluster, violated: Callable[[str], None], is_undisturbed: Callable[[], bool]
    ) -> None:
        """`is_undisturbed` says whether no fault is in effect."""
        self.evaluations: Counter[str] = Counter()
        self._cluster = cluster
        self._violated = violated
        self._looks = 0
        self._quorum = QuorumInvariants(cluster, self._hold)
        self._transactions = TransactionInvariants(
            self._hold, lambda: is_undisturbed() and not self.why_not_whole()
        )
        self._leaders: dict[tuple[Partition, int], int] = {}
        self._high_watermarks: dict[Partition, int] = {}
        self._compared: dict[Partition, int] = {}
        self._effects: Counter[str] = Counter()
        self._cleaned: dict[PartitionLog, int] = {}
        """Up to where each log was compacted when it was looked at last."""

    @property
    def effects(self) -> Counter[str]:
        """What was seen to happen that nobody had to be told of."""
        return self._effects + self._quorum.effects

    @property
    def elections(self) -> int:
        """How often a leader came into office, of the quorum or of a partition."""
        return len(self._quorum.leaders) + len(self._leaders)

    async def watch(self, every_s: float) -> None:
        while True:
            self.look()
            await asyncio.sleep(every_s)

    def look(self) -> None:
        """Evaluate everything once."""
        self._looks += 1
        live = list(self._live())
        self._quorum.look(live)
        self._look_at_metadata([broker for _, broker in live])
        replicas: dict[Partition, list[tuple[Broker, PartitionActor]]] = {}
        for _, broker in live:
            for actor in broker.partitions:
                self._look_at_cleaning(actor.log)
                if not actor.log.offline_reason:
                    replicas.setdefault((actor.log.topic, actor.log.partition), []).append((broker, actor))
        for partition, holders in replicas.items():
            self._look_at_partition(partition, holders)
            if self._looks % COMPARED_EVERY == 0:
                self._compare_logs(partition, [actor.log for _, actor in holders])
        self._transactions.look_at_time(self._cluster.loop.now_s)

    def _live(self) -> Iterator[tuple[Machine, Broker]]:
        for machine in self._cluster.machines.values():
            broker = machine.broker
            if broker is not None and broker.is_ready and broker.failure is None:
                yield machine, broker

    def _look_at_metadata(self, brokers: list[Broker]) -> None:
        """Nodes that have replayed the same offset know the same partitions."""
        by_offset = sorted(brokers, key=lambda broker: broker.metadata.offset)
        for one, other in pairwise(by_offset):
            if one.metadata.offset == other.metadata.offset:
                who = f"nodes {one.config.node_id} and {other.config.node_id}"
                what = f"{who} disagree at offset {one.metadata.offset}"
                self._hold("R4", told(one) == told(other), lambda: what)  # noqa: B023
        newest = self._cluster.image
        if newest is not None:
            self._look_for_fenced(newest)

    def _look_for_fenced(self, image: MetadataImage) -> None:
        for topic in image.topics.values():
            for number, partition in enumerate(topic.partitions):
                fenced = [one for one in partition.isr if not image.is_live(one)]
                what = f"{topic.name}-{number} has {fenced} in its ISR, and they are fenced"
                self._hold("L3", not fenced, lambda: what)  # noqa: B023

    # -- partitions

    def _look_at_partition(self, partition: Partition, holders: list[tuple[Broker, PartitionActor]]) -> None:
        for broker, actor in holders:
            if actor.leader is not None:
                self._look_at_leader(partition, broker, actor, holders)
                self._look_at_followers(partition, broker.config.node_id, actor.leader, holders)
        self._look_at_zombies(partition, [actor for _, actor in holders])

    def _look_at_followers(
        self,
        partition: Partition,
        node: int,
        leader: PartitionLeader[Any],
        holders: list[tuple[Broker, PartitionActor]],
    ) -> None:
        """What a leader counts on was told by a follower of its own epoch, which has it."""
        for broker, actor in holders:
            known = leader.followers.get(broker.config.node_id)
            if known is None or known.end_offset < 0 or actor.follower is None:
                continue
            if (
                actor.follower.leader_id != node
                or known.broker_epoch != broker.controller_client.broker_epoch
            ):
                continue
            epoch = actor.follower.leader_epoch
            self._hold("L7", epoch >= leader.leader_epoch, lambda: (
                f"node {node} leads {partition[0]}-{partition[1]} in epoch {leader.leader_epoch} and "
                f"counts on node {broker.config.node_id}, which fetches in epoch {epoch}"  # noqa: B023
            ))  # fmt: skip

    def _look_at_zombies(self, partition: Partition, actors: list[PartitionActor]) -> None:
        """Of several who lead at once only the one of the newest epoch commits anything."""
        leaders = [actor for actor in actors if actor.leader is not None]
        newest = max(leaders, key=lambda actor: actor.leader_epoch, default=None)
        for actor in leaders:
            if newest is not None and actor.leader_epoch < newest.leader_epoch:
                self._hold("L9", actor.high_watermark <= newest.log.log_end_offset, lambda: (
                    f"{partition[0]}-{partition[1]} is led in epoch {newest.leader_epoch} and ends at "
                    f"{newest.log.log_end_offset}, and its leader of epoch {actor.leader_epoch} has "  # noqa: B023
                    f"committed up to {actor.high_watermark}"  # noqa: B023
                ))  # fmt: skip

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
        self._transactions.look(partition, actor, self._cluster.loop.now_s)
        for holder, replica in holders:
            if holder.config.node_id in current.isr:
                self._hold("L2", replica.log.flushed_offset >= actor.high_watermark, lambda: (
                    f"{name} is committed up to {actor.high_watermark}, and node {holder.config.node_id} "  # noqa: B023
                    f"in its ISR has {replica.log.flushed_offset} on disk"  # noqa: B023
                ))  # fmt: skip
            elif holder.config.node_id in current.elr:
                self._hold("L8", replica.log.flushed_offset >= actor.high_watermark, lambda: (
                    f"{name} is committed up to {actor.high_watermark}, and the eligible node "
                    f"{holder.config.node_id} has {replica.log.flushed_offset} on disk"  # noqa: B023
                ))  # fmt: skip

    def _compare_logs(self, partition: Partition, logs: list[PartitionLog]) -> None:
        """What was committed since they were compared last, and at the end everything once more."""
        for one, other in pairwise(logs):
            self._compare(partition, one, other, self._compared.get(partition, 0))
        committed = [log.high_watermark for log in logs]
        self._compared[partition] = max(self._compared.get(partition, 0), min(committed) - COMPARED_AGAIN)

    def _look_at_cleaning(self, log: PartitionLog) -> None:
        if log.config.is_compacted and log.cleaned_offset > self._cleaned.get(log, 0):
            self._effects["compactions"] += log in self._cleaned
            self._cleaned[log] = log.cleaned_offset

    def compare_everything(self) -> None:
        """Nothing happens any more: all logs of a partition, from the beginning; of those that are compacted,
        what is left.
        """
        logs: dict[Partition, list[PartitionLog]] = {}
        for _, broker in self._live():
            for actor in broker.partitions:
                logs.setdefault((actor.log.topic, actor.log.partition), []).append(actor.log)
        for partition, replicas in logs.items():
            for one, other in pairwise(replicas):
                self._compare(partition, one, other, 0)
                if one.config.is_compacted:
                    self._compare_newest(partition, one, other)

    def _compare_newest(self, partition: Partition, one: PartitionLog, other: PartitionLog) -> None:
        """Each replica is compacted on its own; of each key they keep the same record."""
        end = min(one.high_watermark, other.high_watermark)
        first, second = (newest_records(log, end) for log in (one, other))
        differing = [key for key in {**first, **second} if first.get(key) != second.get(key)]
        self._hold("L4", not differing, lambda: (
            f"two replicas of {partition[0]}-{partition[1]} do not keep the same of {differing[:3]}"
        ))  # fmt: skip

    def _compare(self, partition: Partition, one: PartitionLog, other: PartitionLog, begin: int) -> None:
        end = min(one.high_watermark, other.high_watermark)
        begin = max(begin, one.log_start_offset, other.log_start_offset)
        while begin < end:
            both = [log.read(begin, max_bytes=COMPARED_BYTES, end_offset=end) for log in (one, other)]
            if not all(both):
                return  # not in the page cache now
            alike = have_common if one.config.is_compacted else is_prefix
            self._hold("L4", alike(both), lambda: (
                f"two logs of {partition[0]}-{partition[1]} differ between {begin} and {end}"  # noqa: B023
            ))  # fmt: skip
            size = min(len(data) for data in both if data is not None)
            headers = [header for header, _ in batches(both[0][:size] if both[0] is not None else b"")]
            if not headers:
                return
            begin = headers[-1].next_offset

    def _hold(self, name: str, holds: bool, what: Callable[[], str]) -> None:
        self.evaluations[name] += 1
        if not holds:
            self._violated(f"{name}: {what()}")

    # -- the end

    def why_not_converged(self) -> str:
        """What does not work although nothing is wrong; empty if everything does."""
        unfinished = ", ".join(self._transactions.who_is_open())
        return self.why_not_whole() or (unfinished and f"transactions are open in {unfinished}")

    def why_not_whole(self) -> str:
        """Who is down, or not in sync; empty if nobody is."""
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


def have_common(parts: Sequence[memoryview | None]) -> bool:
    """Whether batches that neither replica has compacted are the same in both.

    A replica that fetched from one that was compacted before has gaps, also where nothing is compacted yet.
    """
    first, second = ({h.base_offset: (h, b) for h, b in batches(part)} for part in parts if part is not None)
    return all(
        bytes(batch) == bytes(second[offset][1])
        for offset, (header, batch) in first.items()
        if offset in second
        and header.count == second[offset][0].count
        and not (header.has_delete_horizon or second[offset][0].has_delete_horizon)
    )


def newest_records(log: PartitionLog, end_offset: int) -> dict[bytes, tuple[int, bytes | None]]:
    """(offset, value) of the newest record of each key, as far as its transaction is committed."""
    newest: dict[bytes, tuple[int, bytes | None]] = {}
    open: dict[int, list[Record]] = {}
    offset, patience = log.log_start_offset, READ_TRIES
    while offset < end_offset and patience:
        data = log.read(offset, max_bytes=COMPARED_BYTES, end_offset=end_offset)
        if data is None:
            patience -= 1  # not in the page cache now
            continue
        if not data:
            break
        for header, batch in batches(data):
            offset = header.next_offset
            if header.is_control:
                marker, ended = marker_in(batch), open.pop(header.producer_id, [])
                records = ended if marker is not None and marker.committed else []
            elif header.is_transactional:
                open.setdefault(header.producer_id, []).extend(decode_records(batch))
                continue
            else:
                records = decode_records(batch)
            for record in records:
                key = record.key or b""
                if record.offset >= newest.get(key, (-1, None))[0]:
                    newest[key] = record.offset, record.value
    return newest


def told(broker: Broker) -> list[tuple[str, int, int, tuple[int, ...]]]:
    """What a node knows of all partitions: leader, leader epoch, ISR."""
    return [
        (topic.name, partition.leader, partition.leader_epoch, tuple(partition.isr))
        for topic in broker.metadata.topics.values()
        for partition in topic.partitions
    ]
