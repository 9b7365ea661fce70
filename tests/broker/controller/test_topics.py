"""Creating, deleting and growing topics: one test for each rule."""

from __future__ import annotations

import pytest

from streamkit.broker.config_description import ConfigSource
from streamkit.broker.controller.decision import MAX_RECORDS_PER_DECISION
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from streamkit.protocol.messages.create_topics import CreateTopicsRequest
from streamkit.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicState,
)
from streamkit.protocol.schema import ZERO_UUID
from tests.broker.controller.cluster import Cluster, state, topic


def delete(cluster: Cluster, *targets: DeleteTopicState) -> list[DeletableTopicResult]:
    return cluster.apply(
        cluster.controller.delete_topics(DeleteTopicsRequest(topics=list(targets)))
    ).responses


def grow(
    cluster: Cluster,
    name: str,
    count: int,
    assignments: list[list[int]] | None = None,
    *,
    validate_only: bool = False,
) -> CreatePartitionsTopicResult:
    request = CreatePartitionsRequest(
        topics=[
            CreatePartitionsTopic(
                name=name,
                count=count,
                assignments=None
                if assignments is None
                else [CreatePartitionsAssignment(broker_ids=brokers) for brokers in assignments],
            )
        ],
        validate_only=validate_only,
    )
    (result,) = cluster.apply(cluster.controller.create_partitions(request)).results
    return result


# --- create --------------------------------------------------------------------------------------


def test_a_created_topic_has_its_partitions_led_by_live_brokers() -> None:
    cluster = Cluster(brokers=3)
    (result,) = cluster.create(topic("orders", 6, 2))
    assert (result.error_code, result.num_partitions, result.replication_factor) == (0, 6, 2)
    created = cluster.image.topics["orders"]
    assert cluster.image.topics_by_id[result.topic_id] is created
    assert [partition.leader for partition in created.partitions] == [1, 2, 3, 1, 2, 3]
    for partition in created.partitions:
        assert partition.isr == partition.replicas and len(set(partition.replicas)) == 2
        assert (partition.leader_epoch, partition.partition_epoch) == (0, 0)
    assert cluster.changes.created == [created] and len(cluster.changes.new_partitions) == 6


def test_minus_one_takes_the_brokers_defaults() -> None:
    cluster = Cluster(brokers=2, num_partitions="4", default_replication_factor="2")
    (result,) = cluster.create(topic("orders"))
    assert (result.num_partitions, result.replication_factor) == (4, 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "the empty string"),
        (".", "'.' is not allowed"),
        ("..", "'..' is not allowed"),
        ("a" * 250, "250 characters, and 249 are allowed"),
        ("a/b", "more than ASCII letters"),
        ("größe", "more than ASCII letters"),
        ("a\n", "more than ASCII letters"),
    ],
)
def test_illegal_names_are_refused(name: str, words: str) -> None:
    (result,) = Cluster().create(topic(name))
    assert result.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert result.error_message is not None and words in result.error_message


def test_the_longest_legal_name() -> None:
    (result,) = Cluster().create(topic("a.-_Z9" + "x" * 243))
    assert result.error_code == ErrorCode.NONE


def test_the_metadata_topic_is_nobodys_to_create() -> None:
    (result,) = Cluster().create(topic("__cluster_metadata"))
    assert result.error_code == ErrorCode.INVALID_REQUEST


def test_an_existing_name_is_refused_and_a_colliding_one_too() -> None:
    cluster = Cluster()
    cluster.create(topic("a.b"))
    again, collides = cluster.create(topic("a.b"), topic("a_b"))
    assert again.error_code == ErrorCode.TOPIC_ALREADY_EXISTS
    assert again.error_message == "Topic 'a.b' already exists."
    assert collides.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert collides.error_message == "Topic 'a_b' collides with existing topic: a.b"


def test_names_of_one_request_must_not_collide_with_each_other() -> None:
    first, second = Cluster().create(topic("a.b"), topic("a_b"))
    assert first.error_code == ErrorCode.NONE
    assert second.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_a_deleted_topic_collides_no_more() -> None:
    cluster = Cluster()
    cluster.create(topic("a.b"))
    delete(cluster, DeleteTopicState(name="a.b"))
    assert cluster.create(topic("a_b"))[0].error_code == ErrorCode.NONE


def test_a_topic_named_twice_is_refused_once_and_the_others_stand() -> None:
    cluster = Cluster()
    results = {one.name: one for one in cluster.create(topic("a"), topic("b"), topic("a"))}
    assert results["a"].error_code == ErrorCode.INVALID_REQUEST
    assert results["a"].error_message == "Duplicate topic name."
    assert results["b"].error_code == ErrorCode.NONE
    assert set(cluster.image.topics) == {"b"} and len(results) == 2


@pytest.mark.parametrize(
    ("partitions", "replication_factor", "code"),
    [
        (0, 1, ErrorCode.INVALID_PARTITIONS),
        (-2, 1, ErrorCode.INVALID_PARTITIONS),
        (1, 0, ErrorCode.INVALID_REPLICATION_FACTOR),
        (1, -2, ErrorCode.INVALID_REPLICATION_FACTOR),
        (1, 2, ErrorCode.INVALID_REPLICATION_FACTOR),
        (MAX_RECORDS_PER_DECISION + 1, 1, ErrorCode.POLICY_VIOLATION),
        (2**31 - 1, 1, ErrorCode.POLICY_VIOLATION),
    ],
)
def test_counts_that_cannot_be(partitions: int, replication_factor: int, code: ErrorCode) -> None:
    cluster = Cluster()
    (result,) = cluster.create(topic("orders", partitions, replication_factor))
    assert result.error_code == code and result.error_message
    assert not cluster.image.topics


def test_too_few_brokers_says_how_many_there_are() -> None:
    (result,) = Cluster().create(topic("orders", 1, 3))
    assert result.error_message == (
        "Unable to replicate the partition 3 time(s): only 1 broker(s) are registered."
    )


def test_one_request_is_bounded_over_all_its_topics() -> None:
    half = MAX_RECORDS_PER_DECISION // 2
    first, second = Cluster().create(topic("a", half), topic("b", half))
    assert (first.error_code, second.error_code) == (ErrorCode.NONE, ErrorCode.POLICY_VIOLATION)


def test_validate_only_answers_and_does_nothing() -> None:
    cluster = Cluster()
    before = state(cluster.replayed())
    (result,) = cluster.create(topic("orders", 3), validate_only=True)
    assert (result.error_code, result.num_partitions) == (0, 3)
    assert result.topic_id != ZERO_UUID, "as in Kafka, an id that no topic gets"
    assert state(cluster.image) == before


# --- create with configurations ------------------------------------------------------------------


def test_configurations_are_kept_and_answered_with_their_sources() -> None:
    cluster = Cluster(log_segment_bytes="4096")
    (result,) = cluster.create(topic("orders", configs={"retention.ms": "1000", "cleanup.policy": "compact"}))
    assert cluster.image.topic_overrides("orders") == {"retention.ms": "1000", "cleanup.policy": "compact"}
    answered = {config.name: (config.value, config.config_source) for config in result.configs or []}
    assert answered["retention.ms"] == ("1000", ConfigSource.TOPIC)
    assert answered["segment.bytes"] == ("4096", ConfigSource.STATIC_BROKER)
    assert answered["retention.bytes"] == ("-1", ConfigSource.DEFAULT)


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ({"retention.msec": "1"}, "Unknown topic config name: retention.msec; did you mean retention.ms?"),
        ({"retention.ms": "soon"}, "Invalid value soon for configuration retention.ms"),
        ({"cleanup.policy": "burn"}, "may contain only compact, delete"),
        ({"retention.ms": None}, "Null value not supported for topic configs: retention.ms"),
    ],
)
def test_configurations_that_cannot_be(configs: dict[str, str | None], words: str) -> None:
    cluster = Cluster()
    (result,) = cluster.create(topic("orders", configs=configs))
    assert result.error_code == ErrorCode.INVALID_CONFIG
    assert result.error_message is not None and words in result.error_message
    assert not cluster.image.topics and not cluster.image.configs


# --- create with assignments ---------------------------------------------------------------------


def test_a_manual_assignment_is_taken_as_it_is() -> None:
    cluster = Cluster(brokers=3)
    (result,) = cluster.create(topic("orders", assignments={1: [3, 1], 0: [2, 3]}))
    assert (result.num_partitions, result.replication_factor) == (2, 2)
    partitions = cluster.image.topics["orders"].partitions
    assert [one.replicas for one in partitions] == [(2, 3), (3, 1)]
    assert [one.leader for one in partitions] == [2, 3]
    assert partitions[0].directories == (bytes([102]) * 16, bytes([103]) * 16)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ({0: [1], 2: [1]}, "consecutive 0-based"),
        ({1: [1]}, "consecutive 0-based"),
        ({0: []}, "empty replica list"),
        ({0: [1, 9]}, "broker 9, but no such broker is registered"),
        ({0: [1, 1]}, "more than once"),
        ({0: [1], 1: [1, 2]}, "2 replica(s), but this is not consistent"),
    ],
)
def test_manual_assignments_that_cannot_be(assignments: dict[int, list[int]], words: str) -> None:
    (result,) = Cluster(brokers=2).create(topic("orders", assignments=assignments))
    assert result.error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert result.error_message is not None and words in result.error_message


@pytest.mark.parametrize(("partitions", "replication_factor"), [(1, -1), (-1, 1)])
def test_a_manual_assignment_leaves_the_counts_open(partitions: int, replication_factor: int) -> None:
    (result,) = Cluster().create(topic("orders", partitions, replication_factor, assignments={0: [1]}))
    assert result.error_code == ErrorCode.INVALID_REQUEST


# --- delete --------------------------------------------------------------------------------------


def test_topics_are_deleted_by_name_and_by_id_with_their_configurations() -> None:
    cluster = Cluster()
    cluster.create(topic("a", configs={"retention.ms": "1"}), topic("b"), topic("c"))
    by_id = cluster.image.topics["b"]
    first, second = delete(cluster, DeleteTopicState(name="a"), DeleteTopicState(topic_id=by_id.topic_id))
    assert (first.name, first.error_code) == ("a", 0)
    assert (second.name, second.topic_id, second.error_code) == ("b", by_id.topic_id, 0)
    assert set(cluster.image.topics) == {"c"}
    assert not cluster.image.configs
    assert [one.name for one in cluster.changes.deleted] == ["a", "b"]
    assert cluster.image.partition_count == 1


def test_a_topic_created_again_is_another_topic() -> None:
    cluster = Cluster()
    (first,) = cluster.create(topic("a", configs={"retention.ms": "1"}))
    delete(cluster, DeleteTopicState(name="a"))
    (second,) = cluster.create(topic("a"))
    assert first.topic_id != second.topic_id
    assert cluster.image.topic_overrides("a") == {}


def test_names_of_old_versions_are_deleted_too() -> None:
    cluster = Cluster()
    cluster.create(topic("a"))
    decision = cluster.controller.delete_topics(DeleteTopicsRequest(topic_names=["a", "b"]))
    assert [one.error_code for one in cluster.apply(decision).responses] == [
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (DeleteTopicState(name="nope"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (DeleteTopicState(topic_id=b"x" * 16), ErrorCode.UNKNOWN_TOPIC_ID),
        (DeleteTopicState(), ErrorCode.INVALID_REQUEST),
        (DeleteTopicState(name="a", topic_id=b"x" * 16), ErrorCode.INVALID_REQUEST),
    ],
)
def test_deletions_that_cannot_be(target: DeleteTopicState, code: ErrorCode) -> None:
    cluster = Cluster()
    cluster.create(topic("a"))
    (result,) = delete(cluster, target)
    assert result.error_code == code and result.error_message
    assert "a" in cluster.image.topics


def test_a_topic_named_twice_is_not_deleted_however_it_is_named() -> None:
    cluster = Cluster()
    (created,) = cluster.create(topic("a"))
    (result,) = delete(cluster, DeleteTopicState(name="a"), DeleteTopicState(topic_id=created.topic_id))
    assert result.error_code == ErrorCode.INVALID_REQUEST
    assert "a" in cluster.image.topics


# --- grow ----------------------------------------------------------------------------------------


def test_partitions_are_added_behind_those_there_are() -> None:
    cluster = Cluster(brokers=3)
    cluster.create(topic("a", 2, 2))
    before = list(cluster.image.topics["a"].partitions)
    assert grow(cluster, "a", 5).error_code == ErrorCode.NONE
    after = cluster.image.topics["a"].partitions
    assert after[:2] == before and len(after) == 5
    assert all(len(one.replicas) == 2 for one in after)
    assert [index for _, index in cluster.changes.new_partitions] == [2, 3, 4]


def test_a_manual_growth() -> None:
    cluster = Cluster(brokers=3)
    cluster.create(topic("a", 1, 2))
    assert grow(cluster, "a", 2, [[3, 2]]).error_code == ErrorCode.NONE
    assert cluster.image.topics["a"].partitions[1].replicas == (3, 2)


@pytest.mark.parametrize(
    ("name", "count", "assignments", "code"),
    [
        ("nope", 3, None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", 2, None, ErrorCode.INVALID_PARTITIONS),
        ("a", 1, None, ErrorCode.INVALID_PARTITIONS),
        ("a", -1, None, ErrorCode.INVALID_PARTITIONS),
        ("a", 2**31 - 1, None, ErrorCode.POLICY_VIOLATION),
        ("a", 4, [[1]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 3, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 3, [[9]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_growths_that_cannot_be(
    name: str, count: int, assignments: list[list[int]] | None, code: ErrorCode
) -> None:
    cluster = Cluster()
    cluster.create(topic("a", 2))
    result = grow(cluster, name, count, assignments)
    assert result.error_code == code and result.error_message
    assert len(cluster.image.topics["a"].partitions) == 2


def test_validated_growth_does_nothing() -> None:
    cluster = Cluster()
    cluster.create(topic("a", 2))
    assert grow(cluster, "a", 3, validate_only=True).error_code == ErrorCode.NONE
    assert len(cluster.image.topics["a"].partitions) == 2


# --- deciding ------------------------------------------------------------------------------------


def test_deciding_changes_nothing() -> None:
    cluster = Cluster()
    cluster.create(topic("a", configs={"retention.ms": "1"}))
    before = state(cluster.replayed())
    cluster.controller.create_topics(CreateTopicsRequest(topics=[topic("b")]))
    cluster.controller.delete_topics(DeleteTopicsRequest(topic_names=["a"]))
    cluster.controller.create_partitions(
        CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="a", count=9, assignments=None)])
    )
    assert state(cluster.image) == before
