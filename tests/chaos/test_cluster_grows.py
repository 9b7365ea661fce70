"""A cluster grows and shrinks under load, and no client notices.

A fourth broker joins three and takes part of what they hold; then it is emptied, stopped and forgotten. In
the full form everything also wanders among five brokers, three of which vote; a voter and another leave for
good. Idempotent producers of librdkafka and aiokafka and a committing group member run all the while: no
error, nothing lost, written twice or out of order.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamkit.cli.asking import ask
from streamkit.client.cluster import Partition, Place, move, moving, partitions
from tests.chaos.load import PARTITIONS, wait_for
from tests.chaos.test_cluster_kills import FAST, Scene, is_healthy, under_load
from tests.support.broker_cluster import BrokerCluster
from tests.support.command_line import Cli

FEW_GROUPS = ("--set", "offsets.topic.num.partitions=5")


def held(cluster: BrokerCluster, topic: str | None = None) -> list[Partition]:
    return ask(cluster.bootstrap, lambda node: partitions(node, None if topic is None else [topic]))


def move_all(cluster: BrokerCluster, plan: dict[Place, list[int]]) -> None:
    ask(cluster.bootstrap, lambda node: move(node, plan))
    wait_for(lambda: not ask(cluster.bootstrap, moving), "everything has moved")


def turn_to(cluster: BrokerCluster, broker_id: int) -> dict[Place, list[int]]:
    """A third of all replicas go to this broker, every other time as the preferred leader."""
    plan = {}
    for number, one in enumerate(held(cluster)):
        replicas = list(one.replicas)
        replicas[number % len(replicas)] = broker_id
        plan[one.place] = replicas
    return plan


def goes_on(scene: Scene) -> None:
    """Every partition is written, and the group reads."""
    scene.wait_until_written(list(range(PARTITIONS)))
    seen = len(scene.group.times_s)
    wait_for(lambda: len(scene.group.times_s) > seen, "the group reads")


def decommission(cluster: BrokerCluster, broker_id: int) -> None:
    cli = Cli(cluster.bootstrap)
    done = cli.run("partition", "move", "--off", str(broker_id), "--yes")
    assert done.returncode == 0, done.stderr
    assert all(broker_id not in one.replicas for one in held(cluster))
    assert cluster[broker_id].stop() == 0
    cli = Cli(cluster.bootstrap)
    wait_for(
        lambda: cli.run("cluster", "forget", str(broker_id)).returncode == 0, "it is fenced and forgotten"
    )
    assert cli.run("cluster", "health").returncode == 0


@pytest.mark.parametrize(
    "turns", [pytest.param(1, id="once"), pytest.param(5, id="5-times", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(900)
def test_four_brokers_out_of_three_and_three_again(
    new_cluster: Callable[..., BrokerCluster], name: str, turns: int
) -> None:
    cluster = new_cluster(3, *FAST, *FEW_GROUPS).start()
    with under_load(cluster, name) as scene:
        goes_on(scene)
        for turn in range(turns):
            newcomer = 4 + turn
            cluster.broker_only(newcomer).start()
            move_all(cluster, turn_to(cluster, newcomer))
            assert sum(newcomer in one.replicas for one in held(cluster, name)) == PARTITIONS
            goes_on(scene)
            decommission(cluster, newcomer)
            goes_on(scene)
        scene.judge(f"grown and shrunk {turns} times")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_brokers_three_of_which_vote(new_cluster: Callable[..., BrokerCluster], name: str) -> None:
    """Every partition wanders through all five; a voter and a broker that is none leave."""
    cluster = new_cluster(3, *FAST, *FEW_GROUPS)
    cluster.broker_only(4)
    cluster.broker_only(5)
    cluster.start()
    wait_for(lambda: is_healthy(cluster.bootstrap), "each knows that all are there")
    with under_load(cluster, name) as scene:
        goes_on(scene)
        for step in range(10):
            plan = {
                one.place: [(one.partition + step + n) % 5 + 1 for n in range(3)] for one in held(cluster)
            }
            move_all(cluster, plan)
            goes_on(scene)
        decommission(cluster, 5)
        assert Cli(cluster.bootstrap).run("cluster", "dismiss", "2").returncode == 0
        decommission(cluster, 2)
        goes_on(scene)
        scene.judge("10 moves of everything among 5 brokers, two of which left")
