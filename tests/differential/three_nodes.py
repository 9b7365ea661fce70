"""Kafka and our broker as clusters of three, of which one node leads and coordinates everything.

So what is asked there is answered there, by both, and each answer waits for copies: acknowledgements, commits
of offsets and transactions count once the others have them. When that node is killed the next in the order of
replicas takes its place in both, and the scenarios are played again over the two that are left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.differential.judge import Judge
from tests.differential.known_differences import KnownDifferences
from tests.differential.scenario import Client
from tests.support.apache_kafka import KafkaCluster
from tests.support.broker_cluster import BrokerCluster

INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state")
TIMEOUT_MS = 20_000
TAKEN_OVER_S = 60
ALL = (1, 2, 3)
SURVIVORS = (2, 3)


class ThreeNodes:
    """Both clusters, and who is asked: at first node 1, and once that is killed node 2."""

    def __init__(self, kafka: KafkaCluster, ours: BrokerCluster) -> None:
        self._kafka = kafka
        self._ours = ours
        self.known = KnownDifferences.read(of_clusters=True)
        self.judge = self._judge_of(ALL)
        self._arrived = asyncio.Barrier(2)

    def _judge_of(self, replicas: tuple[int, ...]) -> Judge:
        return Judge(*self.ports(replicas[0]), self.known, replicas)

    def ports(self, node_id: int) -> tuple[int, int]:
        return self._kafka[node_id].port, self._ours[node_id].port

    async def begin(self) -> None:
        await self._at(ALL[0], _have_internal_topics)
        await self._lead(ALL)
        await self.judge.warm_up()

    async def leader_dies(self, client: Client) -> Client:
        """For a scenario that is played on both: kill both leaders once both plays are here.

        The client of whoever leads from then on.
        """
        async with asyncio.timeout(TAKEN_OVER_S):
            old, new = self.ports(ALL[0]), self.ports(SURVIVORS[0])
            if await self._arrived.wait() == 0:
                await asyncio.to_thread(self._kill, ALL[0])
                self.judge = self._judge_of(SURVIVORS)
                await self._lead(SURVIVORS)
                await self.judge.warm_up()
            await self._arrived.wait()
        return client.at(new[old.index(client.port)])

    def _kill(self, node_id: int) -> None:
        self._kafka[node_id].kill()
        self._ours[node_id].kill()

    async def _lead(self, running: tuple[int, ...]) -> None:
        """Have the first of these nodes lead every partition of the internal topics, the others follow."""
        await self._at(running[0], lambda client: _lead(client, running))

    async def _at(self, node_id: int, act: Callable[[Client], Awaitable[None]]) -> None:
        clients = [Client(port, ApiKey.METADATA, 0, "placement") for port in self.ports(node_id)]
        try:
            await asyncio.gather(*map(act, clients))
        finally:
            for client in clients:
                client.close()


async def _have_internal_topics(client: Client) -> None:
    """The first question for a coordinator of each kind makes its topic."""
    asked = FindCoordinatorRequest(coordinator_keys=[client.name()])
    await client.until_ready(asked, lambda answer: answer.coordinators[0].error_code)
    await client.transactional_id()
    await client.share_partition(client.name())


async def _lead(client: Client, running: tuple[int, ...]) -> None:
    leader, order = running[0], [*running, *(node for node in ALL if node not in running)]
    asked = MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in INTERNAL], allow_auto_topic_creation=False
    )
    await client.until(asked, lambda answer: all(one.leader_id in running for one in _partitions(answer)))
    found = {topic.name: len(topic.partitions) for topic in (await client.quietly(asked)).topics}
    moves = [
        ReassignableTopic(
            name=name,
            partitions=[ReassignablePartition(partition_index=n, replicas=order) for n in range(count)],
        )
        for name, count in found.items()
    ]
    await client.quietly(AlterPartitionReassignmentsRequest(timeout_ms=TIMEOUT_MS, topics=moves))
    await client.until(ListPartitionReassignmentsRequest(topics=None), lambda answer: not answer.topics)
    places = [TopicPartitions(topic=name, partitions=list(range(count))) for name, count in found.items()]
    await client.quietly(ElectLeadersRequest(topic_partitions=places, timeout_ms=TIMEOUT_MS))
    await client.until(
        asked,
        lambda answer: all(
            one.leader_id == leader and len(one.isr_nodes) == len(running) for one in _partitions(answer)
        ),
    )


def _partitions(metadata: Any) -> list[Any]:
    return [one for topic in metadata.topics for one in topic.partitions]
