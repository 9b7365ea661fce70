"""An answer as a tree of plain values in which whatever two right servers may choose freely is made equal.

A rule stands for each such field, by its name, or by its class and name where the name alone says too little.
Everything without a rule is compared as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from streamkit.protocol.records.batch import CorruptBatchError, batches
from streamkit.protocol.records.record import decode_records
from streamkit.protocol.schema import Message, RecordBatches, fields_of
from tests.differential.wire import Missing

Tree: TypeAlias = Any


@dataclass
class Labels:
    """The ids that one server has chosen, numbered in the order in which they appeared in this scenario."""

    _labels: dict[object, str] = field(default_factory=dict)
    _sent: set[object] = field(default_factory=set)

    def sent(self, value: object) -> None:
        """A client said this before any server did: both servers must repeat it."""
        if value not in self._labels:
            self._sent.add(value)

    def of(self, name: str, value: object) -> object:
        if value in self._sent or not value or value in (bytes(16), -1):
            return value
        return self._labels.setdefault(value, f"{name} #{1 + len(self._labels)}")


Rule: TypeAlias = Callable[[Any], Any]
LABELLED: Final = object()
ABSENT: Final = "not there"


def any_value(value: Any) -> Any:
    """Free altogether."""
    return "any"


def presence(value: Any) -> Any:
    """The words are free; whether there are any is not."""
    return "a text" if value else "none"


def positive(value: Any) -> Any:
    """A time or a size: what matters is that it is one. 0 and below are compared."""
    return "positive" if value > 0 else value


def not_negative(value: Any) -> Any:
    return "not negative" if value >= 0 else value


RULES: Final[dict[str, Any]] = {
    "throttle_time_ms": any_value,
    "error_message": presence,
    "batch_index_error_message": presence,
    "documentation": presence,
    "host": presence,
    "port": positive,
    "client_host": presence,
    "cluster_id": presence,
    "topic_id": LABELLED,
    "member_id": LABELLED,
    "producer_id": LABELLED,
    "replica_directory_id": LABELLED,
    "client_instance_id": LABELLED,
    "JoinGroupResponse.leader": LABELLED,
    "FetchResponse.session_id": LABELLED,
    "log_dir": presence,
    "controller_id": not_negative,
    "coordinator_epoch": not_negative,
    "DescribeQuorumResponsePartitionData.leader_id": not_negative,
    "group_epoch": not_negative,
    "assignment_epoch": not_negative,
    "Member.member_epoch": not_negative,
    "ConsumerGroupHeartbeatResponse.member_epoch": not_negative,
    "ShareGroupHeartbeatResponse.member_epoch": not_negative,
    "StreamsGroupHeartbeatResponse.member_epoch": not_negative,
    "log_append_time_ms": positive,
    "ProducerState.last_timestamp": positive,
    "transaction_start_time_ms": positive,
    "finalized_features_epoch": not_negative,
    "DescribeQuorumResponsePartitionData.high_watermark": not_negative,
    "DescribeQuorumResponsePartitionData.leader_epoch": not_negative,
    "ReplicaState.log_end_offset": not_negative,
    "ReplicaState.last_fetch_timestamp": positive,
    "ReplicaState.last_caught_up_timestamp": positive,
    "total_bytes": positive,
    "usable_bytes": positive,
    "partition_size": not_negative,
    "subscription_id": any_value,
}

UNORDERED: Final[dict[str, tuple[str, ...]]] = {
    "MetadataResponse.brokers": ("node_id",),
    "MetadataResponsePartition.isr_nodes": (),
    "DescribeTopicPartitionsResponsePartition.isr_nodes": (),
    "DescribeClusterResponse.brokers": ("broker_id",),
    "DescribeQuorumResponse.nodes": ("node_id",),
    "DescribeQuorumResponsePartitionData.current_voters": ("replica_id",),
    "DescribeQuorumResponsePartitionData.observers": ("replica_id",),
    "MetadataResponse.topics": ("name",),
    "MetadataResponseTopic.partitions": ("partition_index",),
    "DescribeLogDirsResult.topics": ("name",),
    "DescribeLogDirsTopic.partitions": ("partition_index",),
    "ListGroupsResponse.groups": ("group_id",),
    "ListTransactionsResponse.transaction_states": ("transactional_id",),
    "ListTransactionsResponse.unknown_state_filters": (),
    "ListConfigResourcesResponse.config_resources": ("resource_name", "resource_type"),
    "ApiVersionsResponse.api_keys": ("api_key",),
    "ApiVersionsResponse.supported_features": ("name",),
    "ApiVersionsResponse.finalized_features": ("name",),
    "ProduceResponse.responses": ("name", "topic_id"),
    "TopicProduceResponse.partition_responses": ("index",),
    "DescribeGroupsResponse.groups": ("group_id",),
    "ConsumerGroupDescribeResponse.groups": ("group_id",),
    "DeleteGroupsResponse.results": ("group_id",),
    "OffsetDeleteResponse.topics": ("name",),
    "CreatePartitionsResponse.results": ("name",),
    "AddPartitionsToTxnResponse.results_by_topic_v3_and_below": ("name",),
    "AddPartitionsToTxnResult.topic_results": ("name",),
    "DescribeTransactionsResponse.transaction_states": ("transactional_id",),
    "ElectLeadersResponse.replica_election_results": ("topic",),
    "ReplicaElectionResult.partition_result": ("partition_id",),
    "OffsetCommitResponse.topics": ("name", "topic_id"),
    "CreatableTopicResult.configs": ("name",),
    "CreateTopicsResponse.topics": ("name",),
    "DeleteTopicsResponse.responses": ("name",),
    "DescribeConfigsResult.configs": ("name",),
    "OffsetFetchResponseGroup.topics": ("name", "topic_id"),
    "OffsetFetchResponse.topics": ("name",),
    "JoinGroupResponse.members": ("group_instance_id", "metadata"),
    "DescribedGroup.members": ("instance_id", "member_id", "group_instance_id", "member_metadata"),
    "TransactionState.topics": ("topic",),
    "PartitionResponse.active_producers": ("producer_id",),
    "ListOffsetsResponse.topics": ("name",),
    "ListOffsetsTopicResponse.partitions": ("partition_index",),
}
"""Lists whose order means nothing, and the fields that name their elements."""


def tree(outcome: Message | Missing | bytes, version: int, labels: Labels) -> Tree:
    """What is compared."""
    if isinstance(outcome, Message):
        return _message(outcome, version, labels)
    return (
        outcome.value if isinstance(outcome, Missing) else "an answer that is not a response of this version"
    )


def note_sent(message: Message, labels: Labels) -> None:
    """Remember which ids a request names, so that they are not taken for ones that the server chose."""
    for one in fields_of(type(message)):
        value = getattr(message, one.name)
        if isinstance(value, Message):
            note_sent(value, labels)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Message):
                    note_sent(item, labels)
        elif _rule(type(message), one.name) is LABELLED:
            labels.sent(value)


def _rule(cls: type[Message], name: str) -> Any:
    return RULES.get(f"{cls.__name__}.{name}", RULES.get(name))


def _message(message: Message, version: int, labels: Labels) -> Tree:
    cls = type(message)
    result: dict[str, Tree] = {}
    for one in fields_of(cls):
        if version not in one.versions:
            continue
        value = getattr(message, one.name)
        rule = _rule(cls, one.name)
        if isinstance(one.wire, RecordBatches):
            result[one.name] = _records(value, labels)
        elif rule is LABELLED:
            result[one.name] = labels.of(one.name, value)
        elif rule is not None:
            result[one.name] = rule(value)
        elif isinstance(value, list):
            result[one.name] = _list(f"{cls.__name__}.{one.name}", value, version, labels)
        else:
            result[one.name] = _message(value, version, labels) if isinstance(value, Message) else value
    return result


def _list(path: str, values: list[Any], version: int, labels: Labels) -> Tree:
    """Where the order of a list means nothing, its elements are found by their names."""
    by = UNORDERED.get(path)
    if by is None:
        return [_element(item, version, labels) for item in values]
    named: dict[str, Tree] = {}
    for item in sorted(values, key=lambda one: _sort_key(one, by, labels)):
        name = base = str(_name_of(item, by, labels))
        copies = 1
        while name in named:
            copies += 1
            name = f"{base} ({copies})"
        named[name] = _element(item, version, labels)
    return named


def _element(item: Any, version: int, labels: Labels) -> Tree:
    return _message(item, version, labels) if isinstance(item, Message) else item


def _sort_key(item: Any, by: tuple[str, ...], labels: Labels) -> list[str]:
    """The name, and for those of one name what else there is, but for ids."""
    others = [getattr(item, name, None) for name in by if _rule(type(item), name) is not LABELLED]
    return [repr(_name_of(item, by, labels)), *map(repr, others)]


def _name_of(item: Any, by: tuple[str, ...], labels: Labels) -> Any:
    """The first of the fields that says anything."""
    for name in by:
        value = getattr(item, name, None)
        if value not in (None, "", bytes(16)):
            return labels.of(name, value) if _rule(type(item), name) is LABELLED else value
    return "" if by else item


def _records(data: Any, labels: Labels) -> Tree:
    if data is None:
        return None
    try:
        return [_batch(header, batch, labels) for header, batch in batches(data)]
    except CorruptBatchError:
        return bytes(data)


def _batch(header: Any, batch: memoryview, labels: Labels) -> Tree:
    now = header.is_control or header.is_log_append_time
    seen = positive if now else lambda value: value
    kept = presence if header.is_control else lambda value: value  # the epoch of the coordinator
    return {
        "base_offset": header.base_offset,
        "leader_epoch": header.leader_epoch,
        "attributes": header.attributes,
        "last_offset_delta": header.last_offset_delta,
        "base_timestamp": seen(header.base_timestamp),
        "max_timestamp": seen(header.max_timestamp),
        "producer_id": labels.of("producer_id", header.producer_id),
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "records": [
            (one.offset, seen(one.timestamp), one.key, kept(one.value), one.headers)
            for one in decode_records(batch)
        ],
    }


def differing(path: str, kafka: Tree, ours: Tree) -> Iterator[tuple[str, Tree, Tree]]:
    """Where two trees differ: the path, and the values there. Elements of a list share the list's path.

    Where one answers an error and the other another or none, that alone is the difference.
    """
    if kafka == ours and type(kafka) is type(ours):
        return
    if isinstance(kafka, dict) and isinstance(ours, dict):
        errors = kafka.get("error_code"), ours.get("error_code")
        if errors[0] != errors[1]:  # nothing else is worth a comparison then
            yield f"{path}.error_code".lstrip("."), *errors
            return
        for name in {**kafka, **ours}:
            yield from differing(
                f"{path}.{name}".lstrip("."), kafka.get(name, ABSENT), ours.get(name, ABSENT)
            )
    elif isinstance(kafka, list) and isinstance(ours, list) and len(kafka) == len(ours):
        for left, right in zip(kafka, ours, strict=True):
            yield from differing(path, left, right)
    else:
        yield path or "answer", kafka, ours
