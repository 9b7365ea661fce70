"""Altering configurations: set, delete, append, subtract, replace, and each refusal."""

from __future__ import annotations

import pytest

from streamkit.broker.controller.config_decisions import Operation
from streamkit.broker.controller.image import ALL_BROKERS, ConfigResource, ResourceType
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import alter_configs as replacing
from streamkit.protocol.messages import incremental_alter_configs as incremental
from tests.broker.controller.cluster import Cluster, topic

ORDERS = ConfigResource(ResourceType.TOPIC, "orders")
METRICS = ConfigResource(ResourceType.CLIENT_METRICS, "all")


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(log_cleanup_policy="compact", node_id="1")
    made.create(topic("orders", configs={"retention.ms": "5"}))
    return made


def alter(
    cluster: Cluster,
    resource: ConfigResource,
    *operations: tuple[str, int, str | None],
    validate_only: bool = False,
) -> incremental.AlterConfigsResourceResponse:
    request = incremental.IncrementalAlterConfigsRequest(
        resources=[
            incremental.AlterConfigsResource(
                resource_type=resource.type,
                resource_name=resource.name,
                configs=[
                    incremental.AlterableConfig(name=name, config_operation=operation, value=value)
                    for name, operation, value in operations
                ],
            )
        ],
        validate_only=validate_only,
    )
    (response,) = cluster.apply(cluster.controller.alter_configs(request)).responses
    assert (response.resource_type, response.resource_name) == resource
    return response


def replace(
    cluster: Cluster, resource: ConfigResource, values: dict[str, str | None]
) -> replacing.AlterConfigsResourceResponse:
    request = replacing.AlterConfigsRequest(
        resources=[
            replacing.AlterConfigsResource(
                resource_type=resource.type,
                resource_name=resource.name,
                configs=[replacing.AlterableConfig(name=name, value=value) for name, value in values.items()],
            )
        ]
    )
    (response,) = cluster.apply(cluster.controller.replace_configs(request)).responses
    return response


def test_set_and_delete_leave_the_other_keys(cluster: Cluster) -> None:
    assert alter(cluster, ORDERS, ("segment.ms", Operation.SET, "9")).error_code == 0
    assert cluster.image.config(ORDERS) == {"retention.ms": "5", "segment.ms": "9"}
    assert cluster.changes.configs == {ORDERS}
    alter(cluster, ORDERS, ("retention.ms", Operation.DELETE, None), ("segment.ms", Operation.SET, "7"))
    assert cluster.image.config(ORDERS) == {"segment.ms": "7"}
    alter(cluster, ORDERS, ("segment.ms", Operation.DELETE, None))
    assert ORDERS not in cluster.image.configs


def test_a_value_that_is_there_already_writes_nothing(cluster: Cluster) -> None:
    length = len(cluster.log)
    assert alter(cluster, ORDERS, ("retention.ms", Operation.SET, "5")).error_code == 0
    assert len(cluster.log) == length


def test_append_and_subtract_begin_at_the_value_in_force(cluster: Cluster) -> None:
    alter(cluster, ORDERS, ("cleanup.policy", Operation.APPEND, "delete,compact"))
    assert cluster.image.config(ORDERS)["cleanup.policy"] == "compact,delete"
    alter(cluster, ORDERS, ("cleanup.policy", Operation.SUBTRACT, "compact"))
    assert cluster.image.config(ORDERS)["cleanup.policy"] == "delete"


def test_replacing_removes_what_is_not_named(cluster: Cluster) -> None:
    assert replace(cluster, ORDERS, {"segment.ms": "9"}).error_code == 0
    assert cluster.image.config(ORDERS) == {"segment.ms": "9"}
    replace(cluster, ORDERS, {})
    assert ORDERS not in cluster.image.configs


def test_validate_only_does_nothing(cluster: Cluster) -> None:
    length = len(cluster.log)
    assert alter(cluster, ORDERS, ("segment.ms", Operation.SET, "9"), validate_only=True).error_code == 0
    assert len(cluster.log) == length


@pytest.mark.parametrize(
    ("resource", "operation", "code", "words"),
    [
        (ORDERS, ("retention.mss", 0, "1"), ErrorCode.INVALID_CONFIG, "did you mean retention.ms?"),
        (ORDERS, ("retention.ms", 0, "x"), ErrorCode.INVALID_CONFIG, "must be a whole number"),
        (ORDERS, ("retention.ms", 0, None), ErrorCode.INVALID_REQUEST, "Null value not supported"),
        (ORDERS, ("retention.ms", 2, "1"), ErrorCode.INVALID_CONFIG, "its type is not LIST"),
        (ORDERS, ("cleanup.policy", 3, "compact"), ErrorCode.INVALID_CONFIG, "at least one of"),
        (ORDERS, ("retention.ms", 9, "1"), ErrorCode.INVALID_REQUEST, "Unknown config operation 9"),
        (
            ConfigResource(ResourceType.TOPIC, "nope"),
            ("retention.ms", 0, "1"),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "does not host",
        ),
        (
            ConfigResource(ResourceType.TOPIC, "a/b"),
            ("retention.ms", 0, "1"),
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "invalid",
        ),
        (
            ConfigResource(ResourceType.BROKER, "1"),
            ("num.partitions", 0, "1"),
            ErrorCode.INVALID_REQUEST,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (
            ConfigResource(ResourceType.BROKER, "1"),
            ("log.retention.ms", 0, "x"),
            ErrorCode.INVALID_REQUEST,
            "must be a whole number",
        ),
        (
            ConfigResource(ResourceType.BROKER, "1"),
            ("no.such.key", 0, "x"),
            ErrorCode.INVALID_CONFIG,
            "Unknown broker config name",
        ),
        (
            ConfigResource(ResourceType.BROKER, "one"),
            ("log.retention.ms", 0, "1"),
            ErrorCode.INVALID_REQUEST,
            "base 10 number",
        ),
        (
            ConfigResource(ResourceType.BROKER, "9"),
            ("log.retention.ms", 0, "1"),
            ErrorCode.BROKER_ID_NOT_REGISTERED,
            "No broker with id 9",
        ),
        (
            ALL_BROKERS,
            ("log.retention.hours", 0, "1"),
            ErrorCode.INVALID_REQUEST,
            "Cannot update these configs dynamically: [log.retention.hours]",
        ),
        (
            METRICS,
            ("x", 0, "1"),
            ErrorCode.INVALID_REQUEST,
            "Unknown client metrics configuration: x",
        ),
        (
            METRICS,
            ("interval.ms", 0, "99"),
            ErrorCode.INVALID_REQUEST,
            "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        (METRICS, ("interval.ms", 0, "x"), ErrorCode.INVALID_CONFIG, "must be a whole number"),
        (METRICS, ("match", 0, "client_id=["), ErrorCode.INVALID_CONFIG, "Illegal client matching pattern"),
        (METRICS, ("match", 0, "nobody=x"), ErrorCode.INVALID_CONFIG, "Illegal client matching pattern"),
        (METRICS, ("metrics", 2, "x"), ErrorCode.INVALID_CONFIG, "its type is not LIST"),
        (
            ConfigResource(ResourceType.CLIENT_METRICS, ""),
            ("interval.ms", 0, "100"),
            ErrorCode.INVALID_REQUEST,
            "Subscription name can't be empty",
        ),
        (
            ConfigResource(ResourceType.BROKER_LOGGER, "1"),
            ("x", 0, "1"),
            ErrorCode.INVALID_REQUEST,
            "cannot be altered",
        ),
        (
            ConfigResource(ResourceType.GROUP, "g"),
            ("x", 0, "1"),
            ErrorCode.INVALID_CONFIG,
            "Unknown group config name: x",
        ),
        (
            ConfigResource(ResourceType.GROUP, "g"),
            ("consumer.session.timeout.ms", 0, "1000"),
            ErrorCode.INVALID_CONFIG,
            "must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            ConfigResource(ResourceType.GROUP, ""),
            ("consumer.session.timeout.ms", 0, "50000"),
            ErrorCode.INVALID_REQUEST,
            "Default group resources are not allowed",
        ),
    ],
)
def test_alterations_that_cannot_be(
    cluster: Cluster,
    resource: ConfigResource,
    operation: tuple[str, int, str | None],
    code: ErrorCode,
    words: str,
) -> None:
    length = len(cluster.log)
    response = alter(cluster, resource, operation)
    assert response.error_code == code
    assert response.error_message is not None and words in response.error_message
    assert len(cluster.log) == length


def test_one_bad_value_changes_nothing_of_its_resource(cluster: Cluster) -> None:
    response = alter(cluster, ORDERS, ("segment.ms", 0, "9"), ("retention.ms", 0, "soon"))
    assert response.error_code == ErrorCode.INVALID_CONFIG
    assert cluster.image.config(ORDERS) == {"retention.ms": "5"}


def test_a_key_or_a_resource_named_twice_is_refused(cluster: Cluster) -> None:
    assert alter(cluster, ORDERS, ("segment.ms", 0, "9"), ("segment.ms", 0, "8")).error_code == (
        ErrorCode.INVALID_REQUEST
    )
    twice = replacing.AlterConfigsResource(resource_type=ORDERS.type, resource_name=ORDERS.name, configs=[])
    request = replacing.AlterConfigsRequest(resources=[twice, twice])
    responses = cluster.apply(cluster.controller.replace_configs(request)).responses
    assert {one.error_code for one in responses} == {ErrorCode.INVALID_REQUEST}
    assert cluster.image.config(ORDERS) == {"retention.ms": "5"}


def test_a_brokers_alterations_become_its_topics_defaults(cluster: Cluster) -> None:
    alter(cluster, ALL_BROKERS, ("log.segment.bytes", 0, "4096"))
    alter(cluster, ConfigResource(ResourceType.BROKER, "1"), ("log.retention.ms", 0, "3600000"))
    layers = cluster.image.broker_layers(1)
    assert layers.all_brokers == {"log.segment.bytes": "4096"}
    (created,) = cluster.create(topic("new"))
    answered = {config.name: config.value for config in created.configs or []}
    assert (answered["segment.bytes"], answered["retention.ms"]) == ("4096", "3600000")
