"""What confluent-kafka's AdminClient and kcat see of three brokers, and can do to them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest
from confluent_kafka import ElectionType, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from streamkit.cli.asking import ask
from streamkit.client.cluster import Place, move, moving
from streamkit.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tests.support.broker_cluster import BrokerCluster


@pytest.fixture(scope="module")
def admin(cluster: BrokerCluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def topic(admin: AdminClient, name: str) -> str:
    """Two partitions at chosen places."""
    admin.create_topics([NewTopic(name, 2, replica_assignment=[[1, 2, 3], [2, 3, 1]])])[name].result(30)
    return name


def eventually(look: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not look():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def places(admin: AdminClient, topic: str) -> list[tuple[int, list[int]]]:
    """The leader and replicas of each partition."""
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(30)
    return [(one.leader.id, [node.id for node in one.replicas]) for one in described.partitions]


def test_describe_cluster(admin: AdminClient, cluster: BrokerCluster) -> None:
    told = admin.describe_cluster(include_authorized_operations=True).result(30)
    assert sorted((one.id, one.port) for one in told.nodes) == [(n, cluster[n].port) for n in (1, 2, 3)]
    assert told.controller.id in (1, 2, 3)
    assert told.cluster_id == admin.list_topics(timeout=10).cluster_id


def test_topics_at_chosen_places_and_more_partitions(admin: AdminClient, topic: str) -> None:
    assert places(admin, topic) == [(1, [1, 2, 3]), (2, [2, 3, 1])]
    more = NewPartitions(topic, 3, replica_assignment=[[3, 1, 2]])
    admin.create_partitions([more])[topic].result(30)
    assert places(admin, topic) == [(1, [1, 2, 3]), (2, [2, 3, 1]), (3, [3, 1, 2])]
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(30)
    eventually(lambda: all(len(one.isr) == 3 for one in described.partitions))
    starts = admin.list_offsets({TopicPartition(topic, n): OffsetSpec.latest() for n in range(3)})
    assert [one.result(30).offset for one in starts.values()] == [0, 0, 0]
    admin.delete_topics([topic])[topic].result(30)
    assert topic not in admin.list_topics(timeout=10).topics


def test_elect_leaders(admin: AdminClient, topic: str, cluster: BrokerCluster) -> None:
    ask(cluster.bootstrap, lambda node: move(node, {Place(topic, 0): [2, 1, 3]}))
    eventually(lambda: not ask(cluster.bootstrap, moving))
    partition = TopicPartition(topic, 0)
    assert admin.elect_leaders(ElectionType.PREFERRED, [partition]).result(30)[partition] is None
    eventually(lambda: places(admin, topic)[0] == (2, [2, 1, 3]))
    error = admin.elect_leaders(ElectionType.PREFERRED, [partition]).result(30)[partition]
    assert error is not None and error.name() == "ELECTION_NOT_NEEDED"


@pytest.mark.parametrize("node", [1, 2, 3])
def test_settings_of_each_broker_and_of_topics(admin: AdminClient, topic: str, node: int) -> None:
    broker = ConfigResource(ResourceType.BROKER, str(node))
    assert admin.describe_configs([broker])[broker].result(30)["node.id"].value == str(node)
    value = str(1_000_000 + node)
    change = ConfigEntry("retention.ms", value, incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([altered])[altered].result(30)
    of_topic = ConfigResource(ResourceType.TOPIC, topic)
    eventually(lambda: admin.describe_configs([of_topic])[of_topic].result(30)["retention.ms"].value == value)


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed (Debian: kcat)")
def test_kcat_lists_the_same(cluster: BrokerCluster, topic: str) -> None:
    said = subprocess.run(
        ["kcat", "-L", "-J", "-b", cluster.bootstrap, "-t", topic],
        capture_output=True,
        timeout=30,
        check=True,
    )
    told = json.loads(said.stdout)
    assert sorted((one["id"], one["name"]) for one in told["brokers"]) == [
        (node, cluster[node].bootstrap) for node in (1, 2, 3)
    ]
    (found,) = told["topics"]
    assert [(one["leader"], [r["id"] for r in one["replicas"]]) for one in found["partitions"]] == [
        (1, [1, 2, 3]),
        (2, [2, 3, 1]),
    ]


def test_what_is_altered_for_all_brokers_is_in_force_on_each(
    admin: AdminClient, cluster: BrokerCluster, name: str
) -> None:
    """Three connections to each leader instead of one, while everything is being replicated."""
    admin.create_topics([NewTopic(name, 6, 3)])[name].result(30)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})

    def write_everywhere() -> None:
        for partition in range(6):
            producer.produce(name, b"x", partition=partition)
        assert producer.flush(30) == 0

    try:
        set_for_all_brokers(cluster, "3")
        for node in (1, 2, 3):
            eventually(lambda node=node: fetchers_of(admin, node) == "3")  # type: ignore[misc]
        write_everywhere()
    finally:
        set_for_all_brokers(cluster, None)
    for node in (1, 2, 3):
        eventually(lambda node=node: fetchers_of(admin, node) == "1")  # type: ignore[misc]
    write_everywhere()
    described = admin.describe_topics(TopicCollection([name]))[name].result(30)
    assert all(len(one.isr) == 3 for one in described.partitions)


FETCHERS = "num.replica.fetchers"
SET, DELETE = 0, 1


def set_for_all_brokers(cluster: BrokerCluster, value: str | None) -> None:
    """By our own client: neither librdkafka nor kafka-python knows the resource without a name."""
    change = AlterableConfig(name=FETCHERS, config_operation=DELETE if value is None else SET, value=value)
    resource = AlterConfigsResource(resource_type=ResourceType.BROKER.value, configs=[change])
    request = IncrementalAlterConfigsRequest(resources=[resource])
    (answer,) = ask(cluster.bootstrap, lambda node: node.ask(request)).responses
    assert not answer.error_code, answer.error_message


def fetchers_of(admin: AdminClient, node: int) -> str:
    broker = ConfigResource(ResourceType.BROKER, str(node))
    value: str = admin.describe_configs([broker])[broker].result(30)[FETCHERS].value
    return value
