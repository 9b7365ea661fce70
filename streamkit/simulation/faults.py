"""The menu of what may go wrong. Each entry begins a fault, and says how it is put right.

A fault that makes no sense when its time has come (its victim is down already, or it would destroy the last
copy of something) is skipped, and counted as skipped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random

import msgspec

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.log.checkpoint import decode_offsets
from streamkit.broker.log.segment import LOG_SUFFIX
from streamkit.broker.storage.log_directory import RECOVERY_POINTS_FILE
from streamkit.simulation.atlas import Atlas, Rot
from streamkit.simulation.cluster import Cluster
from streamkit.simulation.disk import Inode
from streamkit.simulation.machine import Machine
from streamkit.simulation.owner import Life
from streamkit.simulation.tape import Fault

Undo = Callable[[], None]
HOUR_MS = 3_600_000
LONGEST_CLOG_S = 5.0
LONGEST_STALL_S = 10.0
RECOVERY_S = 0.05
WORST_LOSS = 0.3
WORST_TAIL_S = 0.05


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault may touch."""

    cluster: Cluster
    atlas: Atlas
    random: Random
    fault: Fault

    @property
    def amount(self) -> float:
        return self.fault.amount

    def machine(self) -> Machine:
        return self.cluster.target(self.fault.target, self.random)

    def others(self, machine: Machine) -> list[Machine]:
        return [one for one in self.cluster.machines.values() if one is not machine]


Begin = Callable[[Scene], Undo | None]


def imposed(effects: list[float], value: float) -> Undo:
    """One more of effects of which the worst counts."""
    effects.append(value)
    return lambda: effects.remove(value)


def undo_all(undos: Iterable[Undo]) -> Undo:
    kept = list(undos)

    def undo() -> None:
        for one in kept:
            one()

    return undo


def nothing() -> None:
    """What is done is done."""


# -- the network


def loss(scene: Scene) -> Undo:
    return imposed(scene.cluster.network.conditions.losses, WORST_LOSS * scene.amount)


def split(scene: Scene) -> Undo:
    return imposed(scene.cluster.network.conditions.splits, scene.amount)


def reorder(scene: Scene) -> Undo:
    return imposed(scene.cluster.network.conditions.tails_s, WORST_TAIL_S * scene.amount)


def clog(scene: Scene) -> Undo:
    """What leaves one node takes very long."""
    machine, delays_s = scene.machine(), scene.cluster.network.delays_s
    return undo_all(
        imposed(delays_s.setdefault((machine.host, other.host), []), LONGEST_CLOG_S * scene.amount)
        for other in scene.others(machine)
    )


def blocked(scene: Scene, links: Iterable[tuple[str, str]]) -> Undo:
    network, cut = scene.cluster.network, list(links)
    for link in cut:
        network.block(*link)

    def heal() -> None:
        for link in cut:
            network.unblock(*link)

    return heal


def isolate(scene: Scene) -> Undo:
    """A node and the other nodes do not hear each other; clients still reach both sides."""
    machine = scene.machine()
    hosts = [other.host for other in scene.others(machine)]
    return blocked(scene, [link for host in hosts for link in ((host, machine.host), (machine.host, host))])


def deafen(scene: Scene) -> Undo:
    """A node is heard by the others and hears nothing from them, or the other way round."""
    machine = scene.machine()
    hosts = [other.host for other in scene.others(machine)]
    inward = scene.amount < 0.5
    return blocked(scene, [(host, machine.host) if inward else (machine.host, host) for host in hosts])


def bridge(scene: Scene) -> Undo:
    """One node reaches everybody; the rest are two halves that do not reach each other."""
    machine = scene.machine()
    hosts = [other.host for other in scene.others(machine)]
    middle = len(hosts) // 2
    return blocked(
        scene,
        [link for a in hosts[:middle] for b in hosts[middle:] for link in ((a, b), (b, a))],
    )


def reset(scene: Scene) -> Undo:
    scene.cluster.network.reset_some(scene.amount)
    return nothing


# -- disks


def stall(scene: Scene) -> Undo:
    return imposed(scene.machine().image.conditions.stalls_s, LONGEST_STALL_S * scene.amount**2)


def flush_error(scene: Scene) -> Undo | None:
    machine = scene.machine()
    if not machine.is_ready or not scene.atlas.may_lose_cache(machine):
        return None
    scene.atlas.lost_cache(machine)
    machine.image.conditions.failing_flushes += 1
    return nothing


def write_error(scene: Scene) -> Undo | None:
    machine = scene.machine()
    if not machine.is_ready:
        return None
    machine.image.conditions.failing_writes += 1
    return nothing


def full_disk(scene: Scene) -> Undo:
    conditions = scene.machine().image.conditions
    conditions.full += 1

    def make_room() -> None:
        conditions.full -= 1

    return make_room


def bit_rot(scene: Scene) -> Undo | None:
    """A machine is off for a moment, and meanwhile a bit of a closed segment flips on its disk."""
    machine = scene.machine()
    if not machine.is_up or not scene.atlas.may_lose(machine):
        return None
    segments = closed_segments(machine)
    if not segments:
        return None
    path, inode = scene.random.choice(segments)
    machine.kill()
    position, bit = scene.random.randrange(len(inode.durable)), scene.random.randrange(8)
    machine.image.flip_bit(inode, position, bit)
    scene.atlas.rotted(machine, Rot(path, inode, position, inode.durable[position]))
    return down(machine)


def closed_segments(machine: Machine) -> list[tuple[str, Inode]]:
    """The segments of partitions that end below what is written down as durable.

    Above that a start cannot tell what rotted from the torn end of a write, and cuts it off.
    """
    written = machine.image.durable_file(f"/data/{RECOVERY_POINTS_FILE}")
    if written is None:
        return []
    durable = {f"{topic}-{one}": end for (topic, one), end in decode_offsets(written).items()}
    segments: dict[str, list[tuple[int, str, Inode]]] = {}
    for path, inode in machine.image.walk():
        directory, name = os.path.split(path)
        base, suffix = os.path.splitext(name)
        if suffix == LOG_SUFFIX and base.isdecimal():
            segments.setdefault(os.path.basename(directory), []).append((int(base), path, inode))
    found = []
    for log, some in segments.items():
        some.sort(key=lambda one: one[0])
        for (_, path, inode), (following, _, _) in pairwise(some):
            if inode.durable and following <= durable.get(log, 0) and not log.startswith(CLUSTER_METADATA):
                found.append((path, inode))
    return found


# -- processes and machines


def down(machine: Machine) -> Undo:
    """Keep the machine down until this is undone."""
    machine.held_down += 1

    def start() -> None:
        machine.held_down -= 1
        if not machine.is_up and not machine.held_down:
            machine.start()

    return start


def kill(scene: Scene) -> Undo | None:
    machine = scene.machine()
    if not machine.is_up:
        return None
    machine.kill()
    return down(machine)


def power(scene: Scene) -> Undo | None:
    machine = scene.machine()
    if not machine.is_up or not scene.atlas.may_lose_cache(machine):
        return None
    machine.lose_power()
    scene.atlas.lost_cache(machine)
    return down(machine)


def blackout(scene: Scene) -> Undo | None:
    """All machines lose power at once."""
    machines = [machine for machine in scene.cluster.machines.values() if machine.is_up]
    if not machines or not scene.atlas.may_lose_cache(*machines):
        return None
    for machine in machines:
        machine.lose_power()
    return undo_all(down(machine) for machine in machines)


def crash_again(scene: Scene) -> Undo | None:
    """A machine loses power, and loses it again while it recovers."""
    machine = scene.machine()
    if not machine.is_up or not scene.atlas.may_lose_cache(machine):
        return None
    machine.lose_power()
    scene.atlas.lost_cache(machine)
    machine.start()
    scene.cluster.loop.call_later(RECOVERY_S * scene.amount, machine.lose_power)
    return down(machine)


def pause(scene: Scene) -> Undo | None:
    machine = scene.machine()
    if machine.owner is None or machine.owner.life is not Life.RUNNING:
        return None
    owner = machine.owner
    machine.pause()

    def go_on() -> None:
        if machine.owner is owner:
            machine.resume()

    return go_on


def restart(scene: Scene) -> Undo | None:
    """SIGTERM, and the same command again."""
    machine = scene.machine()
    if not machine.is_ready:
        return None
    machine.stop()
    return nothing


def wipe(scene: Scene) -> Undo | None:
    """The disk is replaced by an empty one."""
    machine = scene.machine()
    if not machine.is_up or not scene.atlas.may_lose_disk(machine):
        return None
    machine.lose_power()
    machine.image.wipe()
    scene.atlas.damaged(machine)
    scene.cluster.quorum_risk.disk_lost()
    return down(machine)


def clock_jump(scene: Scene) -> Undo:
    """The wall clock is wrong by up to an hour, and set right later."""
    clock = scene.machine().clock
    by_ms = int((2 * scene.amount - 1) * HOUR_MS)
    clock.offset_ms += by_ms

    def set_right() -> None:
        clock.offset_ms -= by_ms

    return set_right


class Kind(msgspec.Struct, frozen=True):
    begin: Begin
    lasts_ms: tuple[int, int]
    nodes: int = 1
    """How many nodes there must be for it to make sense."""


MENU = {
    "loss": Kind(loss, (500, 6000)),
    "split": Kind(split, (500, 6000)),
    "reorder": Kind(reorder, (500, 6000)),
    "clog": Kind(clog, (200, 5000), nodes=2),
    "isolate": Kind(isolate, (500, 8000), nodes=2),
    "deafen": Kind(deafen, (500, 8000), nodes=2),
    "bridge": Kind(bridge, (500, 8000), nodes=3),
    "reset": Kind(reset, (0, 0)),
    "stall": Kind(stall, (200, 4000)),
    "flush-error": Kind(flush_error, (0, 0)),
    "write-error": Kind(write_error, (0, 0)),
    "full-disk": Kind(full_disk, (200, 3000)),
    "bit-rot": Kind(bit_rot, (10, 3000), nodes=3),
    "kill": Kind(kill, (10, 5000)),
    "power": Kind(power, (10, 5000)),
    "blackout": Kind(blackout, (10, 3000)),
    "crash-again": Kind(crash_again, (100, 3000)),
    "pause": Kind(pause, (200, 8000)),
    "restart": Kind(restart, (0, 0)),
    "wipe": Kind(wipe, (10, 3000), nodes=3),
    "clock-jump": Kind(clock_jump, (500, 20_000)),
}


class Faults:
    """Everything that goes wrong in one run, at its time; and the end of all of it."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self.happened: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._cluster = cluster
        self._random = random
        self._atlas = Atlas(cluster)
        self._undo: dict[int, Undo] = {}

    def schedule(self, faults: Iterable[Fault], began_s: float) -> None:
        for number, fault in enumerate(faults):
            self._cluster.loop.call_at(began_s + fault.at_ms / 1000, self._begin, number, fault)

    def why_rotten(self) -> str:
        """Where something that rotted is still in use; empty if nowhere."""
        return ", ".join(
            f"{machine.host} still has rot in {rot.path}"
            for machine in self._cluster.machines.values()
            for rot in self._atlas.rot_of(machine)
        )

    @property
    def is_any(self) -> bool:
        """Whether something is wrong now."""
        return bool(self._undo)

    def _begin(self, number: int, fault: Fault) -> None:
        trace = self._cluster.trace
        undo = MENU[fault.kind].begin(
            Scene(cluster=self._cluster, atlas=self._atlas, random=self._random, fault=fault)
        )
        if undo is None:
            self.skipped[fault.kind] += 1
            trace.say("fault", f"{fault.kind} of {fault.target} makes no sense now")
            return
        self.happened[fault.kind] += 1
        trace.say("fault", f"{fault.kind} of {fault.target}, {fault.amount:.2f}, for {fault.lasts_ms} ms")
        self._undo[number] = undo
        self._cluster.loop.call_later(fault.lasts_ms / 1000, self._end, number, fault.kind)

    def _end(self, number: int, kind: str) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()
            self._cluster.trace.say("fault", f"{kind} is over")

    def heal(self) -> None:
        """Put right whatever is still wrong, and have every machine up."""
        undos, self._undo = self._undo, {}
        for undo in undos.values():
            undo()
        for machine in self._cluster.machines.values():
            machine.image.conditions.failing_flushes = 0
            machine.image.conditions.failing_writes = 0
            if not machine.is_up:
                machine.start()
