"""kill -9 and SIGSTOP of brokers in a cluster under load: nothing acknowledged is lost, written twice or
out of order, and writes go on at once.

Three brokers, every partition on all of them, acks=all. Producers of librdkafka and aiokafka, idempotent, and
a committing group member run through every fault. Measured are the gap of each partition that the victim led,
for each of the producers, from the kill to the next acknowledgement, with the part of it that the cluster
took to have a new leader, and the group's gap to the next delivered record. A broker leads a third of the
partitions on average, so fifty kills make some two hundred gaps for each producer.

A killed broker's connections are closed; a stopped one's stay open, and clients wait for its answers for as
long as they are told to, a minute by default. Where brokers are stopped they are told SILENCE_MS.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streamkit.cli.asking import ask
from streamkit.client.cluster import health
from streamkit.errors import StreamkitError
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.chaos.load import (
    PARTITIONS,
    SOCKET_TIMEOUT_MS,
    AiokafkaLoad,
    Group,
    Load,
    nothing_lost_or_doubled,
    read_all,
    wait_for,
)
from tests.support.broker_cluster import BrokerCluster, Node

MANY_PARTITIONS = 12
FAST = ("--set", "broker.heartbeat.interval.ms=200", "--set", "broker.session.timeout.ms=1000")
WRITES_P99_S = 1.5
REPLACED_S = 5.0
GROUP_S = 10.0
AGREEMENT_S = 1.0
SILENCE_MS = 1_000
IN_FLIGHT_S = 0.1
"""What the victim answered before the fault may reach the client's callbacks a moment later."""


class Gap(msgspec.Struct, frozen=True):
    """How long a partition took nothing of a producer, from the fault on."""

    client: str
    partition: int
    moved_s: float
    """When a survivor's metadata named another leader; what is left is the client's."""
    written_s: float
    of_controller: bool
    """Whether the same fault hit the active controller."""

    def __str__(self) -> str:
        who = "a leader and active controller" if self.of_controller else "a leader"
        return f"{self.written_s:.2f} s ({self.client}; {who}: moved after {self.moved_s:.2f} s)"


class Scene:
    """A cluster under load, and what was measured of it."""

    def __init__(self, cluster: BrokerCluster, topic: str, socket_timeout_ms: int, partitions: int) -> None:
        self.cluster = cluster
        self.topic = topic
        self.partitions = partitions
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
        new = NewTopic(topic, partitions, 3, config={"min.insync.replicas": "2"})
        self.admin.create_topics([new])[topic].result(30)
        self.loads = (
            Load(cluster.bootstrap, topic, socket_timeout_ms, partitions),
            AiokafkaLoad(cluster.bootstrap, topic, socket_timeout_ms, partitions),
        )
        self.group = Group(cluster.bootstrap, topic, f"g-{topic}", socket_timeout_ms)
        self.gaps: list[Gap] = []
        self.group_gaps_s: list[float] = []

    def leaders(self) -> dict[int, int]:
        """Partition → the broker that leads it."""
        found = self.admin.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        return {index: partition.leader for index, partition in found.items()}

    def wait_until_healthy(self) -> None:
        wait_for(lambda: is_healthy(self.cluster.bootstrap), "the cluster is healthy again")

    def wait_until_settled(self) -> None:
        """All replicas are in sync, and the group reads: a fault while it rejoins would measure two."""
        self.wait_until_healthy()
        now = time.monotonic()
        wait_for(lambda: bool(self.group.times_s) and self.group.times_s[-1] > now, "the group reads")

    def wait_until_written(self, partitions: list[int]) -> None:
        """Every one of these partitions acknowledges something from now on."""
        now = time.monotonic()
        wait_for(lambda: self.written_after(partitions, now), "writes go on")

    def written_after(self, partitions: Iterable[int], moment_s: float) -> bool:
        """Whether each producer has had an acknowledgement in each of these partitions since then."""
        return all(load.first_after(p, moment_s) is not None for load in self.loads for p in partitions)

    def measure(self, victim: int, led: list[int], *, of_controller: bool, fault_s: float) -> None:
        """The gaps after a fault at `fault_s` that hit `victim`, which led these partitions."""
        survivor = next(node for node in self.cluster.running if node.node_id != victim)
        moved = self.moved(survivor, victim, led)
        after_s = fault_s + IN_FLIGHT_S
        wait_for(lambda: self.written_after(led, after_s), "writes go on")
        for load, partition in product(self.loads, led):
            first = load.first_after(partition, after_s)
            assert first is not None
            moved_s = moved[partition] - fault_s
            self.gaps.append(Gap(load.client, partition, moved_s, first - fault_s, of_controller))
        # What was fetched before the fault may still be delivered a moment later.
        wait_for(lambda: self.group.times_s[-1] > fault_s + 0.5, "the group goes on")
        times = self.group.times_s
        self.group_gaps_s.append(times[bisect_right(times, fault_s + 0.5)] - fault_s)

    def moved(self, survivor: Node, victim: int, partitions: list[int]) -> dict[int, float]:
        """When the survivor's metadata first named another leader than the victim."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=self.topic)])
        moved: dict[int, float] = {}

        def have_moved() -> bool:
            answer = asyncio.run(survivor.ask(request, 12))
            for one in answer.topics[0].partitions:
                if one.leader_id not in (victim, -1):
                    moved.setdefault(one.partition_index, time.monotonic())
            return moved.keys() >= set(partitions)

        wait_for(have_moved, "others lead what the victim led")
        return moved

    def active_controller(self) -> int:
        return asyncio.run(self.cluster.leader()).node_id

    def judge(self, faults: str) -> None:
        for load in self.loads:
            load.finish()
        self.group.finish()
        self.wait_until_healthy()
        rows = read_all(self.cluster.bootstrap, self.topic, self.partitions)
        stored = nothing_lost_or_doubled(self.loads, rows)
        acknowledged = sum(len(load.acknowledged) for load in self.loads)
        print(f"{faults}: {acknowledged} acknowledged, {stored} stored, 0 lost, 0 duplicated, 0 reordered")
        for load in self.loads:
            print(f"  {load.client}: writes after {spread(self.written_s(load.client))}")
        print(f"  of that, new leaders after {spread([gap.moved_s for gap in self.gaps])}")
        print(f"  group: next record after {spread(self.group_gaps_s)}")
        print(f"  load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
        for gap in sorted(self.gaps, key=lambda gap: -gap.written_s)[:5]:
            print(f"  {gap}")

    def written_s(self, client: str) -> list[float]:
        return [gap.written_s for gap in self.gaps if gap.client == client]


@contextmanager
def under_load(
    cluster: BrokerCluster,
    topic: str,
    socket_timeout_ms: int = SOCKET_TIMEOUT_MS,
    partitions: int = PARTITIONS,
) -> Iterator[Scene]:
    scene = Scene(cluster, topic, socket_timeout_ms, partitions)
    threads = (*(load.thread for load in scene.loads), scene.group.thread)
    for thread in threads:
        thread.start()
    try:
        yield scene
    finally:
        for one in (*scene.loads, scene.group):
            one.stopping.set()


def is_healthy(bootstrap: str) -> bool:
    try:
        return not ask(bootstrap, health).reasons()
    except StreamkitError:
        return False


def p99(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


def spread(gaps_s: list[float]) -> str:
    if not gaps_s:
        return "nothing measured"
    p50, worst = statistics.median(gaps_s), max(gaps_s)
    return f"p50 {p50:.2f} s, p99 {p99(gaps_s):.2f} s, at most {worst:.2f} s ({len(gaps_s)} gaps)"


def seeded() -> random.Random:
    seed = int(os.environ.get("STREAMKIT_CHAOS_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, id="3-kills"), pytest.param(50, id="50-kills", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(1500)
def test_kill_9_of_any_broker(new_cluster: Callable[..., BrokerCluster], name: str, rounds: int) -> None:
    moments = seeded()
    cluster = new_cluster(3, *FAST).start()
    with under_load(cluster, name, partitions=MANY_PARTITIONS) as scene:
        scene.wait_until_written(list(range(MANY_PARTITIONS)))
        for _ in range(rounds):
            scene.wait_until_settled()
            time.sleep(moments.uniform(0, 0.5))
            victim = moments.randint(1, 3)
            led = [p for p, leader in scene.leaders().items() if leader == victim]
            of_controller = victim == scene.active_controller()
            fault_s = time.monotonic()
            cluster[victim].kill()
            scene.measure(victim, led, of_controller=of_controller, fault_s=fault_s)
            cluster[victim].start()
        scene.judge(f"{rounds} kills")
    if rounds >= 50:
        for load in scene.loads:
            assert p99(scene.written_s(load.client)) <= WRITES_P99_S, load.client
        assert max(scene.group_gaps_s) <= GROUP_S


@pytest.mark.parametrize(
    ("rounds", "stopped_s"),
    [pytest.param(1, 3, id="3-s"), pytest.param(10, 10, id="10-times-10-s", marks=pytest.mark.slow)],
)
@pytest.mark.timeout(900)
def test_a_stopped_leader_acknowledges_nothing_once_it_is_fenced(
    new_cluster: Callable[..., BrokerCluster], name: str, rounds: int, stopped_s: float
) -> None:
    """What a zombie acknowledges would be where nobody finds it: `nothing_lost_or_doubled` looks.

    It has such requests: what its clients sent it is in its sockets when it goes on.
    """
    moments = seeded()
    cluster = new_cluster(3, *FAST).start()
    with under_load(cluster, name, SILENCE_MS) as scene:
        scene.wait_until_written(list(range(PARTITIONS)))
        for _ in range(rounds):
            scene.wait_until_settled()
            victim = scene.leaders()[moments.randrange(PARTITIONS)]
            led = [p for p, leader in scene.leaders().items() if leader == victim]
            process = cluster[victim].process
            assert process is not None
            of_controller = victim == scene.active_controller()
            stopped_at_s = time.monotonic()
            process.send_signal(signal.SIGSTOP)
            try:
                scene.measure(victim, led, of_controller=of_controller, fault_s=stopped_at_s)
                time.sleep(max(0.0, stopped_at_s + stopped_s - time.monotonic()))
            finally:
                process.send_signal(signal.SIGCONT)
        scene.judge(f"{rounds} stops of {stopped_s} s")


def test_without_options_a_killed_leader_is_replaced_within_5_s(
    new_cluster: Callable[..., BrokerCluster], name: str
) -> None:
    cluster = new_cluster(3).start()
    with under_load(cluster, name) as scene:
        scene.wait_until_written(list(range(PARTITIONS)))
        scene.wait_until_settled()
        controller = scene.active_controller()
        victim = next(leader for leader in scene.leaders().values() if leader != controller)
        led = [p for p, leader in scene.leaders().items() if leader == victim]
        cluster[victim].kill()
        scene.measure(victim, led, of_controller=False, fault_s=time.monotonic())
        cluster[victim].start()
        scene.judge("a kill without options")
    assert max(gap.moved_s for gap in scene.gaps) <= REPLACED_S


@pytest.mark.parametrize(
    "rounds", [pytest.param(2, id="2-kills"), pytest.param(10, id="10-kills", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_health_agrees_with_what_other_clients_see(
    new_cluster: Callable[..., BrokerCluster], name: str, rounds: int
) -> None:
    """Looked at every 200 ms, both change their mind within a second of each other."""
    cluster = new_cluster(3, *FAST).start()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, PARTITIONS, 3)])[name].result(30)
    wait_for(lambda: is_healthy(cluster.bootstrap), "the cluster is healthy")
    seen: list[tuple[float, bool, bool]] = []
    stopping = threading.Event()

    def look() -> None:
        while not stopping.wait(0.2):
            seen.append((time.monotonic(), is_healthy(cluster.bootstrap), looks_whole(admin, name)))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for round_ in range(rounds):
            victim = round_ % 3 + 1
            cluster[victim].kill()
            wait_for(lambda: not is_healthy(cluster.bootstrap), "the loss is noticed")
            time.sleep(AGREEMENT_S)
            cluster[victim].start()
            wait_for(lambda: is_healthy(cluster.bootstrap), "the cluster is healthy again")
            time.sleep(AGREEMENT_S)
    finally:
        stopping.set()
        looking.join()
    since_s: float | None = None
    for moment_s, healthy, whole in seen:
        since_s = None if healthy == whole else (since_s or moment_s)
        assert since_s is None or moment_s - since_s <= AGREEMENT_S, "health and metadata disagree"
    assert {healthy for _, healthy, _ in seen} == {True, False}


def looks_whole(admin: AdminClient, topic: str) -> bool:
    try:
        found: Any = admin.list_topics(topic, timeout=5)
    except Exception:
        return False
    partitions = found.topics[topic].partitions.values()
    return len(found.brokers) == 3 and all(one.leader > 0 and len(one.isrs) == 3 for one in partitions)
