"""Where an intact copy of every acknowledged record is, so that no fault destroys the last one.

Most faults lose nothing that was acknowledged: a crash, a loss of power and a failed flush take only what
nobody was told of. Three are *lossy*: a wiped disk, bit-rot, and in relaxed mode a loss of power or a failed
flush. A replica set promises to survive those while fewer than `min.insync.replicas` of its members are
affected at a time, and the quorum while a majority is whole. A machine counts as damaged until it is in sync
again wherever it is a replica, and has no file any more in which something has rotted.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamkit.simulation.cluster import Cluster
from streamkit.simulation.disk import Inode
from streamkit.simulation.machine import Machine


class Rot(msgspec.Struct, frozen=True):
    """A byte that is not what was written."""

    path: str
    inode: Inode
    position: int
    value: int

    def is_in(self, files: Mapping[str, Inode]) -> bool:
        content = self.inode.durable
        return (
            files.get(self.path) is self.inode
            and self.position < len(content)
            and content[self.position] == self.value
        )


class Atlas:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._damaged: dict[str, int] = {}
        """Host → the incarnation that was, or will be, the first after the damage."""
        self._rotten: dict[str, list[Rot]] = {}

    def may_lose(self, machine: Machine) -> bool:
        """Whether what is on this machine's disk may be destroyed now."""
        self._forget_the_healed()
        shape = self._cluster.shape
        others = [host for host in self._damaged if host != machine.host]
        if not shape.nodes > 1 or len(others) + 1 >= shape.min_insync_replicas:
            return False
        return self._is_spare(machine)

    def may_lose_disk(self, machine: Machine) -> bool:
        """Whether all of it may be lost, with the votes that this machine gave."""
        if not self.may_lose(machine):
            return False
        rafts = [one.broker.quorum.raft for one in self._others(machine) if one.broker is not None]
        known, others = [raft.voters for raft in rafts], [raft.key for raft in rafts]
        return self._cluster.quorum_risk.may_lose(machine.config.node_id, known, others)

    def may_lose_cache(self, *machines: Machine) -> bool:
        """Whether what was not flushed may be lost, on all of these at once: in relaxed mode somebody may
        have been told of it.
        """
        if machines[0].config.flush_mode != "relaxed":
            return True
        return len(machines) == 1 and self.may_lose(machines[0])

    def lost_cache(self, *machines: Machine) -> None:
        for machine in machines:
            if machine.config.flush_mode == "relaxed":
                self.damaged(machine)

    def rotted(self, machine: Machine, rot: Rot) -> None:
        self.damaged(machine)
        self._rotten.setdefault(machine.host, []).append(rot)

    def rot_of(self, machine: Machine) -> list[Rot]:
        """What is still rotten on its disk, in files that are still in use."""
        found = self._rotten.get(machine.host)
        if found:
            files = dict(machine.image.walk())
            found = self._rotten[machine.host] = [rot for rot in found if rot.is_in(files)]
        return found or []

    def damaged(self, machine: Machine) -> None:
        self._damaged[machine.host] = machine.incarnation + (0 if machine.is_up else 1)

    def _is_spare(self, machine: Machine) -> bool:
        """Everybody else is up and in sync, so that what this machine has is elsewhere too."""
        return all(other.is_ready and self._is_in_sync(other) for other in self._others(machine))

    def _others(self, machine: Machine) -> list[Machine]:
        return [one for one in self._cluster.machines.values() if one is not machine]

    def _forget_the_healed(self) -> None:
        for host, incarnation in list(self._damaged.items()):
            machine = next(one for one in self._cluster.machines.values() if one.host == host)
            if (
                machine.is_ready
                and machine.incarnation >= incarnation
                and self._is_in_sync(machine)
                and not self.rot_of(machine)
            ):
                del self._damaged[host]

    def _is_in_sync(self, machine: Machine) -> bool:
        """Whether the machine is in the ISR of all its partitions, as far as the metadata knows, and votes.

        A voter that lost its disk votes again only once somebody admits it under its new directory id.
        """
        image = self._cluster.image
        node_id = machine.config.node_id
        if node_id <= self._cluster.shape.voters and (
            machine.broker is None or not machine.broker.quorum.raft.is_voter
        ):
            return False
        return image is not None and all(
            node_id in partition.isr
            for topic in image.topics.values()
            for partition in topic.partitions
            if node_id in partition.replicas
        )
