"""Replication within a bound: who is catching up waits, who is in sync and who is a client does not."""

from __future__ import annotations

import asyncio
from math import inf
from pathlib import Path

import pytest

from streamkit.broker.controller.image import ResourceType
from streamkit.broker.controller.records import ConfigRecord
from tests.broker.server.replicas.replicas import Cluster, Node, three
from tests.broker.server.wire import batch, connected

BATCH_BYTES = 50_000
SIZE_BYTES = 30 * BATCH_BYTES
RATE = 1_000_000
LISTS = {
    "leader": "leader.replication.throttled.replicas",
    "follower": "follower.replication.throttled.replicas",
}
RATES = {"leader": "leader.replication.throttled.rate", "follower": "follower.replication.throttled.rate"}


def setting(kind: ResourceType, resource: str, name: str, value: str | None) -> ConfigRecord:
    return ConfigRecord(resource_type=kind, resource_name=resource, name=name, value=value)


async def throttle(cluster: Cluster, rate: int, *, sides: tuple[str, ...] = ("leader", "follower")) -> None:
    """Bound every replica of the topic on all brokers."""
    for side in sides:
        await cluster.tell(
            setting(ResourceType.BROKER, "", RATES[side], str(rate)),
            setting(ResourceType.TOPIC, "t", LISTS[side], "*"),
        )


async def fill(cluster: Cluster) -> None:
    async with connected(cluster.nodes[1]) as wire:
        for _ in range(SIZE_BYTES // BATCH_BYTES):
            assert (await wire.produce(batch(b"x" * BATCH_BYTES), acks=1)).error_code == 0


async def caught_up(cluster: Cluster, *node_ids: int) -> None:
    """Wait until exactly these are in sync, and have everything."""
    await cluster.until(
        lambda: (
            set(cluster.partition.isr) == set(node_ids)
            and len({cluster.actor(node_id).log.log_end_offset for node_id in node_ids}) == 1
        )
    )


@pytest.mark.parametrize("side", ["leader", "follower"])
async def test_a_replica_that_is_added_is_copied_at_the_bound(tmp_path: Path, side: str) -> None:
    """Either side alone keeps it; meanwhile a client and the replica in sync are as fast as ever."""
    settings = {"replica_fetch_max_bytes": "100000"}
    async with three(tmp_path, **settings) as cluster:
        await cluster.create(1, 2)
        loop = asyncio.get_running_loop()
        async with connected(cluster.nodes[1]) as wire:
            await fill(cluster)
            await caught_up(cluster, 1, 2)
            await throttle(cluster, RATE, sides=(side,))
            began_s = loop.time()
            await cluster.change(replicas=[1, 2, 3])
            slowest_s = 0.0
            while 3 not in cluster.partition.isr:
                sent_s = loop.time()
                assert (await wire.produce(batch(b"meanwhile"))).error_code == 0
                slowest_s = max(slowest_s, loop.time() - sent_s)
                assert set(cluster.partition.isr) >= {1, 2}
                await asyncio.sleep(0.01)
            took_s = loop.time() - began_s
        await caught_up(cluster, 1, 2, 3)
        assert 1.2 <= took_s <= 15
        assert slowest_s < took_s / 2
        seen = metrics(cluster.nodes[1 if side == "leader" else 3], side)
        assert seen["replication_throttled_bytes_total"] >= SIZE_BYTES
        assert seen["replication_throttle_limit_bytes_per_second"] == RATE
        assert 0 < seen["replication_throttle_bytes_per_second"] <= 1.5 * RATE
        other = metrics(cluster.nodes[2], "leader")
        assert other["replication_throttled_bytes_total"] == 0
        assert (other["replication_throttle_limit_bytes_per_second"] == inf) is (side == "follower")


async def test_who_is_in_sync_is_never_held_back(tmp_path: Path) -> None:
    async with three(tmp_path, replica_lag_time_max_ms="400") as cluster:
        await cluster.create(1, 2, 3)
        await throttle(cluster, 1)
        epoch = cluster.partition.partition_epoch
        for _ in range(3):
            await fill(cluster)
            async with connected(cluster.nodes[1]) as wire:
                assert (await wire.produce(batch(b"all of them"))).error_code == 0
        await caught_up(cluster, 1, 2, 3)
        assert cluster.nodes[1].throttles.leader.is_exceeded
        assert cluster.nodes[2].throttles.follower.is_exceeded
        assert cluster.partition.partition_epoch == epoch, "nobody left the ISR"


@pytest.mark.parametrize(
    "lifted",
    [
        [setting(ResourceType.BROKER, "", name, None) for name in RATES.values()],
        [setting(ResourceType.TOPIC, "t", name, None) for name in LISTS.values()],
    ],
    ids=["rates", "lists"],
)
@pytest.mark.parametrize("side", ["leader", "follower"])
async def test_a_throttle_that_is_lifted_holds_nobody_any_more(
    tmp_path: Path, side: str, lifted: list[ConfigRecord]
) -> None:
    async with three(tmp_path, replica_fetch_max_bytes="100000") as cluster:
        await cluster.create(1, 2)
        await fill(cluster)
        await throttle(cluster, 1, sides=(side,))
        await cluster.change(replicas=[1, 2, 3])
        throttles = cluster.nodes[1 if side == "leader" else 3].throttles
        await cluster.until(lambda: getattr(throttles, side).is_exceeded)
        assert 3 not in cluster.partition.isr
        await cluster.tell(*lifted)
        await caught_up(cluster, 1, 2, 3)


async def test_who_is_about_to_join_is_not_held_back(tmp_path: Path) -> None:
    """The high watermark waits for it already, and so would every producer for the throttle."""
    async with three(tmp_path) as cluster:
        await cluster.create(1, 2)
        async with connected(cluster.nodes[1]) as wire:
            assert (await wire.produce(batch(b"x" * BATCH_BYTES))).error_code == 0
            await throttle(cluster, 10)
            cluster.answers_alter_partition = False
            await cluster.change(replicas=[1, 2, 3])
            leader = cluster.actor(1).leader
            assert leader is not None
            await cluster.until(lambda: leader.proposal is not None)
            assert cluster.nodes[1].throttles.leader.wait_ms() > 5_000
            for _ in range(5):
                async with asyncio.timeout(4):
                    assert (await wire.produce(batch(b"meanwhile"))).error_code == 0
            assert cluster.partition.isr == (1, 2)
            cluster.answers_alter_partition = True
            await caught_up(cluster, 1, 2, 3)


async def test_a_fetch_that_is_held_back_does_not_come_at_once_again(tmp_path: Path) -> None:
    """The leader's high watermark is ahead of such a follower all the time; that is no news to it."""
    async with three(tmp_path, replica_fetch_max_bytes="100000") as cluster:
        await cluster.create(1, 2)
        await throttle(cluster, 10, sides=("leader",))
        await fill(cluster)
        await caught_up(cluster, 1, 2)
        await cluster.change(replicas=[1, 2, 3])
        await cluster.until(lambda: cluster.nodes[1].throttles.leader.is_exceeded)
        asked, loop = count_of_fetches(cluster), asyncio.get_running_loop()
        began_s = loop.time()
        await cluster.until(lambda: count_of_fetches(cluster) >= asked + 8)
        assert loop.time() - began_s >= 0.2, "two followers, each held for 100 ms"


def metrics(node: Node, role: str) -> dict[str, float]:
    """What a scrape shows of a throttle."""
    for observe in node.metrics.on_scrape:
        observe()
    return {
        name.removeprefix("streamkit_"): one.value  # type: ignore[union-attr]
        for name, family in node.metrics.families.items()
        for labels, one in family.children.items()
        if "throttle" in name and labels == (role,)
    }


def count_of_fetches(cluster: Cluster) -> int:
    family = cluster.nodes[1].metrics.families["streamkit_request_duration_seconds"]
    (fetch,) = (one for labels, one in family.children.items() if labels == ("FETCH",))
    return sum(fetch.counts)  # type: ignore[union-attr]
