"""Kafka's answers from a cluster of three, too: before its leader is killed, over that, and after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from streamkit.protocol.messages.describe_transactions import DescribeTransactionsRequest
from tests.differential.conftest import IN_COMMON, words
from tests.differential.corpus.fetch import READ_COMMITTED, fetch, part
from tests.differential.corpus.group_offsets import commit
from tests.differential.corpus.group_offsets import fetch as committed
from tests.differential.corpus.metadata import described, named
from tests.differential.corpus.offsets import EARLIEST, LATEST, at, end_of
from tests.differential.corpus.produce import produce
from tests.differential.corpus.transactions import ended, init, writing
from tests.differential.known_differences import MAX_ROWS_OF_CLUSTERS, KnownDifferences
from tests.differential.scenario import SCENARIOS, Client, Scenario, batch_of
from tests.differential.three_nodes import ThreeNodes
from tests.support.apache_kafka import KafkaCluster
from tests.support.broker_cluster import BrokerCluster

pytestmark = [pytest.mark.differential_three, pytest.mark.timeout(600)]

SETTINGS = IN_COMMON + words(
    "offsets.topic.replication.factor=3",
    "transaction.state.log.replication.factor=3",
    "transaction.state.log.min.isr=2",
    "share.coordinator.state.topic.replication.factor=3",
    "share.coordinator.state.topic.min.isr=2",
    "default.replication.factor=1",
    "min.insync.replicas=1",
    "broker.heartbeat.interval.ms=500",
    "broker.session.timeout.ms=3000",
    "auto.leader.rebalance.enable=false",
)
UNPLAYED = {
    "partitions_are_reassigned": "moves to other nodes take their time; what is said meanwhile is chance",
    "a_topic_is_created_by_asking": "whoever leads a topic of that kind is chance",
}
UNPLAYED_BY_SURVIVORS = {
    **UNPLAYED,
    "configs_of_brokers": "they are those of node 1, which is dead",
    "configs_of_brokers_are_changed": "they are those of node 1, which is dead",
    "groups_listed": "all are; how far Kafka was with those of other scenarios when node 1 died is chance",
}
APIS = sorted({one.api for one in SCENARIOS})
each_api = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name.lower())


@pytest.fixture(scope="module")
def three(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    kafka = KafkaCluster(tmp_path_factory.mktemp("kafka"), 3, *SETTINGS)
    ours = BrokerCluster(tmp_path_factory.mktemp("ours"), 3, *SETTINGS)
    try:
        kafka.start()
        ours.start()
        both = ThreeNodes(kafka, ours)
        asyncio.run(both.begin())
        yield both
    finally:
        ours.kill()
        kafka.kill()


@each_api
async def test_three_nodes_answer_as_kafkas_do(three: ThreeNodes, api: ApiKey) -> None:
    unlisted = await three.judge.judge_newest(api, UNPLAYED)
    assert not unlisted, f"{len(unlisted)} differences:\n" + "\n".join(map(str, unlisted))


async def test_what_was_acknowledged_is_there_when_the_leader_is_dead(three: ThreeNodes) -> None:
    async def leader_dies(client: Client) -> None:
        """Between the lines of a group, of a producer without transactions, and of two with one open."""
        topic, decided = await client.topic(), await client.topic("decided")
        group = await client.group()
        await client.records(topic, 3)
        await client.records(topic, 2, first=3, producer_id=9_000_000, producer_epoch=0, base_sequence=0)
        await client.setup(commit(group, topic, 4))
        open_one = await writing(client, topic)
        done = await writing(client, decided, "done")
        await client.setup(done.end())
        await ended(client, done)

        client = await three.leader_dies(client)

        for one in (topic, decided):
            await client.ready(one)
        for suffix in ("x", "done"):
            await client.transactional_id(suffix)
        await client.group()
        await client.valid(fetch(part(topic, 0)))
        await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))
        await client.valid(fetch(part(decided, 0), isolation_level=READ_COMMITTED))
        await client.valid(at(topic, LATEST))
        await client.valid(at(topic, LATEST, isolation=1))
        await client.valid(at(topic, EARLIEST))
        await client.valid(end_of(topic, 0))
        await client.valid(end_of(topic, 1))
        await client.valid(named(topic.name, decided.name))
        await client.valid(described(topic.name))
        await client.valid(committed(client, group, topic))
        await client.valid(DescribeTransactionsRequest(transactional_ids=[open_one.name, done.name]))
        asked = TopicRequest(name=topic.name, partition_indexes=[0])
        await client.valid(DescribeProducersRequest(topics=[asked]))
        again = batch_of(2, first=3, producer_id=9_000_000, producer_epoch=0, base_sequence=0)
        await client.boundary(produce(topic, again))
        await client.valid(produce(topic, open_one.batch(sequence=1), transactional_id=open_one.name))
        await client.valid(open_one.end())
        await ended(client, open_one)
        await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))
        await client.valid(commit(group, topic, 6))
        await client.valid(committed(client, group, topic))
        await client.valid(init(open_one.name))

    newest = max(one.last for one in SCENARIOS if one.api == ApiKey.FETCH)
    unlisted = await three.judge.play(Scenario(ApiKey.FETCH, newest, newest, leader_dies), newest)
    assert not unlisted, f"{len(unlisted)} differences:\n" + "\n".join(map(str, unlisted))


@each_api
async def test_two_nodes_that_are_left_answer_as_kafkas_do(three: ThreeNodes, api: ApiKey) -> None:
    unlisted = await three.judge.judge_newest(api, UNPLAYED_BY_SURVIVORS)
    assert not unlisted, f"{len(unlisted)} differences:\n" + "\n".join(map(str, unlisted))


def test_the_list_of_differences_of_clusters_is_short() -> None:
    rows = KnownDifferences.read(of_clusters=True).of_clusters
    assert 0 < len(rows) <= MAX_ROWS_OF_CLUSTERS
    assert all(row.reason for row in rows)
