"""The figures of a cluster of three that stands still: how soon it is there, and what it costs to keep.

Nobody talks to it while it idles. Heartbeats, the quorum's fetches and those of followers go on; they are
what is measured.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from confluent_kafka.admin import AdminClient, NewTopic

from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.benchmarks.processes import apart, cpu_seconds, resident_bytes
from tests.support.broker_cluster import BrokerCluster

REPLICAS = 3
SETTLE_S = 2.0
"""What a start or a creation leaves to do is over by then."""


class Idle(msgspec.Struct, frozen=True):
    """What one node took while nobody talked to it: the busiest and the largest of the three."""

    cores: float
    resident_bytes: int


@contextmanager
def three() -> Iterator[BrokerCluster]:
    """Three nodes on empty directories, not started yet."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = BrokerCluster(Path(directory), 3)
        try:
            yield cluster
        finally:
            cluster.kill()


def start_s(cluster: BrokerCluster) -> float:
    """From the three commands until each node serves clients."""
    began = time.perf_counter()
    cluster.start()
    return time.perf_counter() - began


def idle(cluster: BrokerCluster, seconds: float) -> Idle:
    time.sleep(SETTLE_S)
    pids = [node.process.pid for node in cluster.running if node.process is not None]
    before = [cpu_seconds(pid) for pid in pids]
    began = time.perf_counter()
    time.sleep(seconds)
    lasted_s = time.perf_counter() - began
    spent = [cpu_seconds(pid) - spent_s for pid, spent_s in zip(pids, before, strict=True)]
    return Idle(max(spent) / lasted_s, max(resident_bytes(pid) for pid in pids))


def create_s(cluster: BrokerCluster, topic: str, partitions: int) -> float:
    """From asking for a topic until every broker tells a leader and three replicas in sync of every one."""
    began = time.perf_counter()
    apart(_create, cluster.bootstrap, topic, partitions)
    asyncio.run(_until_known(cluster, topic, partitions))
    return time.perf_counter() - began


def _create(bootstrap: str, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, REPLICAS)], request_timeout=60)[topic].result(60)


async def _until_known(cluster: BrokerCluster, topic: str, partitions: int) -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
    async with asyncio.timeout(60):
        for node in cluster.running:
            while True:
                told = (await node.ask(request, 12)).topics[0].partitions
                if len(told) == partitions and all(
                    one.leader_id > 0 and len(one.isr_nodes) == REPLICAS for one in told
                ):
                    break
                await asyncio.sleep(0.01)
