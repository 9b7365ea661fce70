"""What must be true of the quorum at any moment (the letters of `simulation.invariants`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.raft.node import RaftNode
from streamkit.broker.raft.roles import Role
from streamkit.broker.server.controller.quorum_state import STATE_FILE
from streamkit.broker.server.node import Broker
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.simulation.cluster import Cluster
from streamkit.simulation.machine import Machine

Hold = Callable[[str, bool, Callable[[], str]], None]
Live = Sequence[tuple[Machine, Broker]]
COMPARED_OFFSETS = 20
COMPARED_BYTES = 64 * 1024
ISOLATED_LOOKS = 20
"""So long after it heard from others for the last time, a node has ended every election that it had won
pre-votes for."""


class Committed(msgspec.Struct, frozen=True):
    """The highest high watermark that anybody showed, and the epoch of the last record below it."""

    offset: int = 0
    epoch: int = -1


class Isolation(msgspec.Struct):
    looks: int = 0
    epoch: int = -1
    """When it had lasted for `ISOLATED_LOOKS`."""


class QuorumInvariants:
    def __init__(self, cluster: Cluster, hold: Hold) -> None:
        self.leaders: dict[int, int] = {}
        """Epoch → who led it."""
        self._cluster = cluster
        self._hold = hold
        self._epochs: dict[str, int] = {}
        self._directories: dict[tuple[str, int], bytes] = {}
        self._isolations: dict[str, Isolation] = {}
        self._committed = Committed()
        self._ends: dict[str, int] = {}
        """Where each node's log ended when it was looked at last."""
        self.effects: Counter[str] = Counter()

    def look(self, live: Live) -> None:
        self._look_at_completeness(live)
        for machine, broker in live:
            self._look_at_node(machine, broker)
            self._look_at_isolation(machine, broker)
        logs = [metadata_log(broker) for _, broker in live]
        for one, other in pairwise(logs):
            self._look_at_matching(one, other)
        self._look_at_majority([broker for _, broker in live])

    def _look_at_node(self, machine: Machine, broker: Broker) -> None:
        quorum, raft, host = broker.quorum, broker.quorum.raft, machine.host
        self._hold("R5", quorum.epoch >= self._epochs.get(host, 0), lambda: (
            f"{host} went back from epoch {self._epochs[host]} to {quorum.epoch}"
        ))  # fmt: skip
        self._epochs[host] = quorum.epoch
        if quorum.is_active:
            if quorum.epoch not in self.leaders:
                self._look_at_votes(quorum.epoch, broker)
            first = self.leaders.setdefault(quorum.epoch, quorum.node_id)
            self._hold("R1", first == quorum.node_id, lambda: (
                f"nodes {first} and {quorum.node_id} both lead epoch {quorum.epoch}"
            ))  # fmt: skip
        log = raft.log
        is_covered = not log.start_offset or (
            log.snapshot is not None and log.snapshot.end_offset >= log.start_offset
        )
        self._hold("R7", is_covered and not (raft.role is Role.LEADER and raft._installing), lambda: (
            f"{host} starts at {log.start_offset} behind {log.snapshot}, or loads a snapshot and leads"
        ))  # fmt: skip
        if log.start_offset > self._ends.get(host, 0):
            self.effects["snapshots fetched"] += 1  # its log began anew behind what it had
        self._ends[host] = log.end_offset
        newest = log.voters
        if newest is not None:
            before, committed = log.voters_below(newest.offset), log.voters_below(raft.high_watermark)
            is_single = newest.offset < raft.high_watermark or before == committed
            self._hold("R8", is_single, lambda: f"{host} has several voter changes that are not committed")
        place = host, machine.image.wipes
        directory = self._directories.setdefault(place, raft.key.directory_id)
        earlier = [self._directories.get((host, wipe)) for wipe in range(machine.image.wipes)]
        self._hold("R10", directory == raft.key.directory_id and directory not in earlier, lambda: (
            f"{host} is known by another directory than the one on its disk"
        ))  # fmt: skip
        if machine.image.wipes:
            self._hold("R10", may_have_its_role(raft), lambda: (
                f"{host} stands for election or leads, and under its present directory it is no voter"
            ))  # fmt: skip

    def _voters(self, broker: Broker) -> list[tuple[int, ...]]:
        """The voters that this node knows of: those that are committed, and those of a change that is not."""
        raft = broker.quorum.raft
        committed, newest = raft.log.voters_below(raft.high_watermark), raft.log.voters
        first = tuple(range(1, self._cluster.shape.voters + 1))
        known = [first if committed is None else committed.ids]
        return known if newest is None else [*known, newest.voters.ids]

    def _look_at_votes(self, epoch: int, broker: Broker) -> None:
        """Who leads has the votes of a majority, and a vote is on disk before it is given."""
        machines = self._cluster.machines
        holds, what = False, ""
        for voters in self._voters(broker):
            without = [
                one
                for one in voters
                if not machines[one].image.wipes and durable_epoch(machines[one]) < epoch
            ]
            holds |= len(without) <= (len(voters) - 1) // 2
            what = f"epoch {epoch} has a leader, and {without} of {voters} do not have it on disk"
        self._hold("R5", holds, lambda: what)

    def _look_at_isolation(self, machine: Machine, broker: Broker) -> None:
        """Whoever hears nobody raises no epoch (pre-vote)."""
        network, host = self._cluster.network, machine.host
        others = [one.host for one in self._cluster.machines.values() if one.host != host]
        isolation = self._isolations.setdefault(host, Isolation())
        if not others or not all(network.is_blocked(other, host) for other in others):
            self._isolations[host] = Isolation()
            return
        isolation.looks += 1
        if isolation.looks <= ISOLATED_LOOKS:
            isolation.epoch = broker.quorum.epoch
            return
        self._hold("R9", broker.quorum.epoch <= isolation.epoch, lambda: (
            f"{host} hears nobody, and went from epoch {isolation.epoch} to {broker.quorum.epoch}"
        ))  # fmt: skip

    def _look_at_completeness(self, live: Live) -> None:
        """The leader of the newest epoch has everything that is committed, as it was committed."""
        newest = max((broker.quorum.epoch for _, broker in live), default=0)
        committed = self._committed
        for _, broker in live:
            log = metadata_log(broker)
            if broker.quorum.is_active and broker.quorum.epoch == newest and committed.offset:
                epoch = log.epochs.epoch_at(committed.offset - 1)
                has_it = log.log_end_offset >= committed.offset and epoch in (-1, committed.epoch)
                self._hold("R3", has_it, lambda: (
                    f"node {broker.config.node_id} leads epoch {newest} and lacks what was committed up to "  # noqa: B023
                    f"{committed.offset}"
                ))  # fmt: skip
        for _, broker in live:
            offset = broker.quorum.high_watermark
            if offset > self._committed.offset:
                self._committed = Committed(offset, metadata_log(broker).epochs.epoch_at(offset - 1))

    def _look_at_matching(self, one: PartitionLog, other: PartitionLog) -> None:
        """Logs with a record of the same offset and epoch are the same up to it."""
        end = min(one.log_end_offset, other.log_end_offset)
        start = max(one.log_start_offset, other.log_start_offset, end - COMPARED_OFFSETS)
        while end > start and one.epochs.epoch_at(end - 1) != other.epochs.epoch_at(end - 1):
            end -= 1
        if end > start:
            both = [log.read(start, max_bytes=COMPARED_BYTES, end_offset=end) for log in (one, other)]
            if None not in both:
                self._hold("R2", is_prefix(both), lambda: (
                    f"two logs of the quorum have the same epoch below {end}, and differ from {start} on"
                ))  # fmt: skip

    def _look_at_majority(self, brokers: list[Broker]) -> None:
        """Of the voters that run at least so many hold it that with those that are down it is a majority."""
        knowing = max(brokers, key=lambda broker: broker.quorum.high_watermark, default=None)
        if knowing is None:
            return
        committed = knowing.quorum.high_watermark
        lacking = [one.config.node_id for one in brokers if metadata_log(one).flushed_offset < committed]
        holds, what = False, ""
        for voters in self._voters(knowing):
            without = [one for one in voters if one in lacking]
            holds |= len(without) <= (len(voters) - 1) // 2
            what = f"{without} of {voters} lack a part of what is committed up to {committed}"
        self._hold("R6", holds, lambda: what)


def may_have_its_role(raft: RaftNode) -> bool:
    """Only voters stand and lead; a leader that is taken out leads until that is committed (KIP-853)."""
    if raft.role is Role.LEADER and not raft.is_voter:
        committed = raft.log.voters_below(raft.high_watermark)
        return committed is not None and committed.has(raft.key)
    return raft.is_voter or raft.role is not Role.CANDIDATE


def metadata_log(broker: Broker) -> PartitionLog:
    return broker.directory.logs[CLUSTER_METADATA, 0]


def is_prefix(parts: Sequence[memoryview | None]) -> bool:
    """Whether all of them are the same, as far as the shortest goes."""
    found = [part for part in parts if part is not None]
    size = min(map(len, found))
    return len({bytes(part[:size]) for part in found}) == 1


def durable_epoch(machine: Machine) -> int:
    """The epoch of the quorum that this machine would find after a loss of power."""
    data = machine.image.durable_file(f"/data/{CLUSTER_METADATA}-0/{STATE_FILE}")
    if data is None:
        return -1
    try:
        return int(json.loads(data)["leaderEpoch"])
    except ValueError:
        return -1
