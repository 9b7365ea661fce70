"""The topic handlers: versions, pages of partitions, deletion of records, deletion disabled."""

from __future__ import annotations

import pytest

from streamkit.broker.server.authorized_operations import TOPIC
from streamkit.broker.server.handlers.topics import (
    create_partitions,
    create_topics,
    delete_records,
    delete_topics,
    describe_topic_partitions,
)
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from streamkit.protocol.messages.create_topics import CreateTopicsRequest
from streamkit.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from streamkit.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from tests.broker.controller.cluster import Cluster, topic
from tests.broker.server.handlers.stub import StubBroker, ask


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.mark.parametrize("version", range(2, 8))
async def test_create_topics_in_every_version(cluster: Cluster, version: int) -> None:
    request = CreateTopicsRequest(topics=[topic("a", 2, configs={"retention.ms": "5"}), topic("bad name")])
    created, refused = (await ask(create_topics, StubBroker(cluster), request, version)).topics
    assert (created.name, created.error_code, created.error_message) == ("a", 0, None)
    assert refused.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION and refused.error_message
    if version >= 5:
        assert (created.num_partitions, created.replication_factor) == (2, 1)
        assert ("retention.ms", "5") in [(config.name, config.value) for config in created.configs]
    if version >= 7:
        assert created.topic_id == cluster.image.topics["a"].topic_id


@pytest.mark.parametrize("version", range(1, 7))
async def test_delete_topics_in_every_version(cluster: Cluster, version: int) -> None:
    cluster.create(topic("a"))
    request = (
        DeleteTopicsRequest(topics=[DeleteTopicState(name="a"), DeleteTopicState(topic_id=b"?" * 16)])
        if version >= 6
        else DeleteTopicsRequest(topic_names=["a", "?"])
    )
    deleted, unknown = (await ask(delete_topics, StubBroker(cluster), request, version)).responses
    assert (deleted.name, deleted.error_code) == ("a", 0)
    assert unknown.error_code == (
        ErrorCode.UNKNOWN_TOPIC_ID if version >= 6 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    )
    assert not cluster.image.topics


@pytest.mark.parametrize("version", range(1, 7))
async def test_deletion_can_be_disabled(cluster: Cluster, version: int) -> None:
    cluster.create(topic("a"))
    request = (
        DeleteTopicsRequest(topics=[DeleteTopicState(name="a")])
        if version >= 6
        else DeleteTopicsRequest(topic_names=["a"])
    )
    broker = StubBroker(cluster, delete_topic_enable="false")
    (refused,) = (await ask(delete_topics, broker, request, version)).responses
    assert refused.error_code == (
        ErrorCode.TOPIC_DELETION_DISABLED if version >= 3 else ErrorCode.INVALID_REQUEST
    )
    assert "a" in cluster.image.topics
    assert broker.failures == [refused.error_code]


@pytest.mark.parametrize("version", range(4))
async def test_create_partitions_in_every_version(cluster: Cluster, version: int) -> None:
    cluster.create(topic("a"))
    request = CreatePartitionsRequest(
        topics=[
            CreatePartitionsTopic(name="a", count=3, assignments=None),
            CreatePartitionsTopic(name="b", count=3, assignments=None),
        ]
    )
    grown, unknown = (await ask(create_partitions, StubBroker(cluster), request, version)).results
    assert (grown.error_code, grown.error_message) == (0, None)
    assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert len(cluster.image.topics["a"].partitions) == 3


@pytest.mark.parametrize("version", range(3))
async def test_delete_records_in_every_version(cluster: Cluster, version: int) -> None:
    cluster.create(
        topic("a", 4),
        topic("kept", configs={"cleanup.policy": "compact"}),
        topic("__consumer_offsets"),
    )
    wanted = {"a": [3, -1, 11, -2], "kept": [1], "__consumer_offsets": [1], "none": [1]}
    request = DeleteRecordsRequest(
        topics=[
            DeleteRecordsTopic(
                name=name,
                partitions=[
                    DeleteRecordsPartition(partition_index=index, offset=offset)
                    for index, offset in enumerate(offsets)
                ],
            )
            for name, offsets in wanted.items()
        ]
    )
    response = await ask(delete_records, StubBroker(cluster), request, version)
    assert {
        one.name: [(part.low_watermark, part.error_code) for part in one.partitions]
        for one in response.topics
    } == {
        "a": [(3, 0), (10, 0), (-1, ErrorCode.OFFSET_OUT_OF_RANGE), (-1, ErrorCode.OFFSET_OUT_OF_RANGE)],
        "kept": [(-1, ErrorCode.POLICY_VIOLATION)],
        "__consumer_offsets": [(-1, ErrorCode.INVALID_TOPIC_EXCEPTION)],
        "none": [(-1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)],
    }


# --- pages of partitions -------------------------------------------------------------------------


async def page(
    cluster: Cluster, *names: str, limit: int = 2000, cursor: Cursor | None = None, most: int = 2000
) -> DescribeTopicPartitionsResponse:
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name=name) for name in names], response_partition_limit=limit, cursor=cursor
    )
    broker = StubBroker(cluster, max_request_partition_size_limit=str(most))
    response: DescribeTopicPartitionsResponse = await ask(describe_topic_partitions, broker, request, 0)
    return response


def partitions_of(response: DescribeTopicPartitionsResponse) -> list[tuple[str | None, list[int]]]:
    return [(one.name, [part.partition_index for part in one.partitions]) for one in response.topics]


async def test_topics_are_described_in_order_of_their_names(cluster: Cluster) -> None:
    cluster.create(topic("b", 2), topic("a", 1), topic("c", 1))
    response = await page(cluster, "c", "a", "missing", "bad name")
    assert [(one.name, one.error_code) for one in response.topics] == [
        ("a", 0),
        ("bad name", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("c", 0),
        ("missing", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    first = response.topics[0]
    assert first.topic_id == cluster.image.topics["a"].topic_id
    assert first.topic_authorized_operations == TOPIC
    (part,) = first.partitions
    assert (part.leader_id, part.leader_epoch, part.isr_nodes) == (1, 0, [1])
    assert (part.eligible_leader_replicas, part.last_known_elr, part.offline_replicas) == ([], [], [])
    assert response.next_cursor is None


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7])
async def test_pages_tell_every_partition_once(cluster: Cluster, limit: int) -> None:
    cluster.create(topic("a", 3), topic("b", 1), topic("c", 2))
    seen: list[tuple[str | None, int]] = []
    cursor, pages = None, 0
    while cursor is not None or not pages:
        response = await page(cluster, limit=limit, cursor=cursor)
        described = [(name, index) for name, indexes in partitions_of(response) for index in indexes]
        assert len(described) <= limit
        seen += described
        cursor, pages = response.next_cursor, pages + 1
    assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1)]
    assert pages == -(-6 // limit)


async def test_the_brokers_limit_holds_too_and_nobody_gets_an_empty_page(cluster: Cluster) -> None:
    cluster.create(topic("a", 3))
    assert partitions_of(await page(cluster, "a", most=2)) == [("a", [0, 1])]
    assert partitions_of(await page(cluster, "a", limit=0)) == [("a", [0])]


async def test_a_cursor_at_a_topic_that_was_deleted_goes_on_behind_it(cluster: Cluster) -> None:
    cluster.create(topic("a"), topic("c"))
    response = await page(cluster, cursor=Cursor(topic_name="b", partition_index=4))
    assert partitions_of(response) == [("c", [0])]


@pytest.mark.parametrize("cursor", [Cursor(topic_name="b"), Cursor(topic_name="a", partition_index=-1)])
async def test_cursors_that_fit_no_page(cluster: Cluster, cursor: Cursor) -> None:
    cluster.create(topic("a"))
    (refused,) = (await page(cluster, "a", cursor=cursor)).topics
    assert refused.error_code == ErrorCode.INVALID_REQUEST


async def test_a_refusal_names_what_was_asked_for_and_no_other_topic(cluster: Cluster) -> None:
    cluster.create(topic("a"))
    assert (await page(cluster, cursor=Cursor(topic_name="a", partition_index=-1))).topics == []


async def test_a_topic_after_a_full_page_begins_the_next_one_though_nobody_knows_it(cluster: Cluster) -> None:
    cluster.create(topic("a", 2), topic("c"))
    first = await page(cluster, "c", "a", "b", limit=2)
    assert partitions_of(first) == [("a", [0, 1])]
    assert first.next_cursor == Cursor(topic_name="b", partition_index=0)
    second = await page(cluster, "c", "a", "b", limit=2, cursor=first.next_cursor)
    assert [(one.name, one.error_code) for one in second.topics] == [("b", 3), ("c", 0)]
    assert second.next_cursor is None
