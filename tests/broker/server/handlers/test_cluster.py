"""Metadata and DescribeCluster: every version, names and ids, creation on the way, what is kept."""

from __future__ import annotations

import pytest

from streamkit.broker.controller.records import PartitionChangeRecord, RegisterBrokerRecord
from streamkit.broker.server.authorized_operations import CLUSTER, NOT_ASKED, TOPIC
from streamkit.broker.server.handlers.cluster import ROUTES, describe_cluster, metadata
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from streamkit.protocol.schema import ZERO_UUID
from tests.broker.controller.cluster import Cluster, topic
from tests.broker.server.handlers.stub import StubBroker, ask

ALL_VERSIONS = range(14)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(brokers=3)
    made.create(topic("a", 2, 3), topic("b", 1, 1), topic("__consumer_offsets", 1, 1))
    return made


def named(*names: str, create: bool = True, operations: bool = False) -> MetadataRequest:
    return MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in names],
        allow_auto_topic_creation=create,
        include_topic_authorized_operations=operations,
    )


def told(response: MetadataResponse) -> dict[str | None, int]:
    return {one.name: one.error_code for one in response.topics}


@pytest.mark.parametrize("version", ALL_VERSIONS)
async def test_every_version_tells_brokers_topics_and_leaders(cluster: Cluster, version: int) -> None:
    response = await ask(metadata, StubBroker(cluster), named("a", "__consumer_offsets"), version)
    assert [(one.node_id, one.host, one.port) for one in response.brokers] == [
        (1, "localhost", 9001),
        (2, "localhost", 9002),
        (3, "localhost", 9003),
    ]
    first, internal = response.topics
    assert (first.name, internal.name) == ("a", "__consumer_offsets")
    assert [(one.partition_index, one.leader_id, sorted(one.replica_nodes)) for one in first.partitions] == [
        (0, 1, [1, 2, 3]),
        (1, 2, [1, 2, 3]),
    ]
    assert first.topic_id == (cluster.image.topics["a"].topic_id if version >= 10 else ZERO_UUID)
    assert first.partitions[0].leader_epoch == (0 if version >= 7 else -1)
    assert internal.is_internal is (version >= 1)
    assert response.cluster_id == ("a-cluster" if version >= 2 else None)
    assert response.controller_id == (1 if version >= 1 else -1)


@pytest.mark.parametrize("version", ALL_VERSIONS)
async def test_trap_9_null_asks_for_all_and_empty_for_none_but_in_version_0(
    cluster: Cluster, version: int
) -> None:
    everything = {"a": 0, "b": 0, "__consumer_offsets": 0}
    empty = await ask(metadata, StubBroker(cluster), MetadataRequest(topics=[]), version)
    assert told(empty) == (everything if version == 0 else {})
    if version > 0:
        null = await ask(metadata, StubBroker(cluster), MetadataRequest(topics=None), version)
        assert told(null) == everything


@pytest.mark.parametrize("version", ALL_VERSIONS)
async def test_a_missing_topic_is_created_where_broker_and_client_allow(
    cluster: Cluster, version: int
) -> None:
    response = await ask(metadata, StubBroker(cluster), named("new", "a"), version)
    assert told(response) == {"new": 0, "a": 0}
    assert response.topics[0].partitions[0].leader_id in (1, 2, 3)
    assert "new" in cluster.image.topics


@pytest.mark.parametrize("version", [4, 8, 9, 13])
async def test_trap_39_without_both_consents_nothing_is_created(cluster: Cluster, version: int) -> None:
    refused = await ask(metadata, StubBroker(cluster), named("new", "bad name", "a", create=False), version)
    forbidding = StubBroker(cluster, auto_create_topics_enable="false")
    forbidden = await ask(metadata, forbidding, named("new", "bad name", "a"), version)
    for response in (refused, forbidden):
        assert told(response) == {
            "a": 0,
            "new": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "bad name": ErrorCode.INVALID_TOPIC_EXCEPTION,
        }
    assert "new" not in cluster.image.topics


async def test_what_cannot_be_created_says_why() -> None:
    cluster = Cluster(default_replication_factor="3")
    cluster.create(topic("a.b", 1, 1))
    response = await ask(
        metadata, StubBroker(cluster), named("bad name", "a_b", "c", "__transaction_state"), 9
    )
    assert told(response) == {
        "bad name": ErrorCode.INVALID_TOPIC_EXCEPTION,
        "a_b": ErrorCode.INVALID_TOPIC_EXCEPTION,
        "c": ErrorCode.INVALID_REPLICATION_FACTOR,
        "__transaction_state": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }


async def test_a_name_asked_for_twice_is_told_once(cluster: Cluster) -> None:
    response = await ask(metadata, StubBroker(cluster), named("a", "b", "a"), 9)
    assert [one.name for one in response.topics] == ["a", "b"]


@pytest.mark.parametrize("version", [12, 13])
async def test_topics_are_found_by_id(cluster: Cluster, version: int) -> None:
    request = MetadataRequest(
        topics=[
            MetadataRequestTopic(name=None, topic_id=cluster.image.topics["b"].topic_id),
            MetadataRequestTopic(name=None, topic_id=b"?" * 16),
        ]
    )
    found, unknown = (await ask(metadata, StubBroker(cluster), request, version)).topics
    assert (found.name, found.error_code) == ("b", 0)
    assert (unknown.name, unknown.topic_id, unknown.error_code) == (
        None,
        b"?" * 16,
        ErrorCode.UNKNOWN_TOPIC_ID,
    )
    assert len(cluster.image.topics) == 3


@pytest.mark.parametrize("version", [10, 11])
async def test_ids_are_refused_where_clients_sent_them_by_mistake(cluster: Cluster, version: int) -> None:
    by_id = MetadataRequest(
        topics=[MetadataRequestTopic(name="b", topic_id=cluster.image.topics["b"].topic_id)]
    )
    nameless = MetadataRequest(topics=[MetadataRequestTopic(name=None)])
    for request in (by_id, nameless):
        (refused,) = (await ask(metadata, StubBroker(cluster), request, version)).topics
        assert refused.error_code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("version", [8, 10, 13])
async def test_authorized_operations_are_told_to_whoever_asks(cluster: Cluster, version: int) -> None:
    plain = await ask(metadata, StubBroker(cluster), named("a"), version)
    assert plain.topics[0].topic_authorized_operations == NOT_ASKED
    assert plain.cluster_authorized_operations == NOT_ASKED
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name="a")],
        include_cluster_authorized_operations=True,
        include_topic_authorized_operations=True,
    )
    asked = await ask(metadata, StubBroker(cluster), request, version)
    assert asked.topics[0].topic_authorized_operations == TOPIC == 3576
    assert asked.cluster_authorized_operations == (CLUSTER if version <= 10 else NOT_ASKED)


def fence(cluster: Cluster, broker_id: int) -> None:
    record = RegisterBrokerRecord(broker_id=broker_id, fenced=True)
    cluster.image.replay(record, cluster.image.offset + 1, cluster.changes)


@pytest.mark.parametrize("version", ALL_VERSIONS)
async def test_a_leader_that_is_gone_is_not_told(cluster: Cluster, version: int) -> None:
    fence(cluster, 1)
    response = await ask(metadata, StubBroker(cluster), named("a"), version)
    assert [one.node_id for one in response.brokers] == [2, 3]
    gone, here = response.topics[0].partitions
    assert (gone.error_code, gone.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, -1)
    assert gone.offline_replicas == ([1] if version >= 5 else [])
    assert here.leader_id == 2
    assert here.error_code == (ErrorCode.REPLICA_NOT_AVAILABLE if version == 0 else ErrorCode.NONE)


async def test_a_leader_without_the_listener_is_not_told(cluster: Cluster) -> None:
    for version, code in ((5, ErrorCode.LEADER_NOT_AVAILABLE), (6, ErrorCode.LISTENER_NOT_FOUND)):
        response = await ask(metadata, StubBroker(cluster), named("a"), version, listener="OTHER")
        assert response.brokers == []
        assert {one.error_code for one in response.topics[0].partitions} == {code}


async def test_a_kept_answer_ends_with_the_next_change(cluster: Cluster) -> None:
    broker = StubBroker(cluster)
    before = await ask(metadata, broker, named("a"), 9)
    assert await ask(metadata, broker, named("a"), 9) == before
    assert len(broker.metadata_answers._kept) == 1
    change = PartitionChangeRecord(topic_id=cluster.image.topics["a"].topic_id, partition_id=0, leader=2)
    cluster.image.replay(change, cluster.image.offset + 1, cluster.changes)
    after = await ask(metadata, broker, named("a"), 9)
    assert (after.topics[0].partitions[0].leader_id, after.topics[0].partitions[0].leader_epoch) == (2, 1)


async def test_answers_about_unknown_topics_are_not_kept(cluster: Cluster) -> None:
    broker = StubBroker(cluster)
    for number in range(5):
        await ask(metadata, broker, named(f"unknown-{number}", "a", create=False), 9)
    assert not broker.metadata_answers._kept


@pytest.mark.parametrize("version", range(3))
async def test_describe_cluster(cluster: Cluster, version: int) -> None:
    request = DescribeClusterRequest(include_cluster_authorized_operations=True)
    response = await ask(describe_cluster, StubBroker(cluster), request, version)
    assert (response.error_code, response.cluster_id, response.controller_id) == (0, "a-cluster", 1)
    assert [(one.broker_id, one.port) for one in response.brokers] == [(1, 9001), (2, 9002), (3, 9003)]
    assert response.cluster_authorized_operations == CLUSTER == 8096


@pytest.mark.parametrize(
    ("endpoint_type", "code"),
    [(2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (9, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)],
)
async def test_describe_cluster_of_controllers_is_for_controllers(
    cluster: Cluster, endpoint_type: int, code: ErrorCode
) -> None:
    request = DescribeClusterRequest(endpoint_type=endpoint_type)
    response = await ask(describe_cluster, StubBroker(cluster), request, 2)
    assert response.error_code == code and response.error_message


def test_versions_served() -> None:
    assert [(route.api, route.min_version, route.max_version) for route in ROUTES] == [(3, 0, 13), (60, 0, 2)]
