"""Topics created, deleted and grown: the rules, each refusal with Kafka's code and a sentence for its author.

A request names several topics and each stands or falls alone, but what is decided for all of them is
appended as one unit. An item that a request names twice is refused once and done not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeVar

from streamkit.broker.config import BrokerConfig
from streamkit.broker.config_description import BrokerLayers, describe_topic
from streamkit.broker.controller.config_decisions import check_topic_config
from streamkit.broker.controller.decision import MAX_RECORDS_PER_DECISION, Decision, Refusal
from streamkit.broker.controller.image import MetadataImage, ResourceType, TopicImage
from streamkit.broker.controller.partition_rules import directory_of
from streamkit.broker.controller.placement import place
from streamkit.broker.controller.records import (
    ConfigRecord,
    MetadataRecord,
    PartitionRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from streamkit.broker.controller.topic_names import CLUSTER_METADATA, collision_key, invalid_reason
from streamkit.broker.controller.uuids import UuidSource
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from streamkit.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from streamkit.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from streamkit.protocol.schema import ZERO_UUID

Named = TypeVar("Named", CreatableTopic, CreatePartitionsTopic)
DEFAULT = -1  # a partition count or replication factor that the broker's configuration fills in (KIP-464)


class TopicDecisions:
    """The rules of one moment: what may become of topics on this image, with this configuration."""

    def __init__(self, image: MetadataImage, config: BrokerConfig, layers: BrokerLayers, uuids: UuidSource):
        self._image = image
        self._config = config
        self._layers = layers
        self._uuids = uuids
        self._effective_configs: dict[frozenset[tuple[str, str]], list[CreatableTopicConfigs]] = {}

    # --- create ----------------------------------------------------------------------------------

    def create(self, request: CreateTopicsRequest) -> Decision[CreateTopicsResponse]:
        times = Counter(topic.name for topic in request.topics)
        batch = _Batch()
        results = []
        named: dict[str, str] = {}
        for topic in _once_each(request.topics):
            try:
                if times[topic.name] > 1:
                    raise Refusal(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
                self._check_new_name(topic.name, named)
                records = self._creation(topic)
                batch.add(records)
            except Refusal as refusal:
                results.append(
                    CreatableTopicResult(
                        name=topic.name, error_code=refusal.code, error_message=refusal.message
                    )
                )
                continue
            named[collision_key(topic.name)] = topic.name
            results.append(self._created(topic, records))
        return Decision([] if request.validate_only else batch.records, CreateTopicsResponse(topics=results))

    def _check_new_name(self, name: str, named_before: dict[str, str]) -> None:
        if name == CLUSTER_METADATA:
            raise Refusal(ErrorCode.INVALID_REQUEST, f"Creation of internal topic {name} is prohibited.")
        reason = invalid_reason(name)
        if reason is not None:
            raise Refusal(ErrorCode.INVALID_TOPIC_EXCEPTION, reason)
        if name in self._image.topics:
            raise Refusal(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        other = self._image.colliding_topic(name) or named_before.get(collision_key(name))
        if other is not None:
            raise Refusal(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {other}"
            )

    def _creation(self, topic: CreatableTopic) -> list[MetadataRecord]:
        configs = self._creation_configs(topic)
        replicas = self._assigned(topic) if topic.assignments else self._placed(topic)
        topic_id = self._uuids.fresh()
        return [
            TopicRecord(name=topic.name, topic_id=topic_id),
            *configs,
            *(self._new_partition(topic_id, index, brokers) for index, brokers in enumerate(replicas)),
        ]

    def _creation_configs(self, topic: CreatableTopic) -> list[ConfigRecord]:
        without = [config.name for config in topic.configs if config.value is None]
        if without:
            raise Refusal(
                ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(without)}"
            )
        values = {config.name: config.value or "" for config in topic.configs}
        check_topic_config(values)
        return [
            ConfigRecord(resource_type=ResourceType.TOPIC, resource_name=topic.name, name=name, value=value)
            for name, value in values.items()
        ]

    def _placed(self, topic: CreatableTopic) -> list[list[int]]:
        partitions, replication_factor = topic.num_partitions, topic.replication_factor
        if replication_factor < DEFAULT or replication_factor == 0:
            raise Refusal(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        if partitions < DEFAULT or partitions == 0:
            raise Refusal(
                ErrorCode.INVALID_PARTITIONS,
                "Number of partitions must be larger than 0, or -1 to use the default value.",
            )
        if partitions == DEFAULT:
            partitions = self._config.num_partitions
        if replication_factor == DEFAULT:
            replication_factor = self._config.default_replication_factor
        return self._place(partitions, replication_factor)

    def _place(self, partitions: int, replication_factor: int) -> list[list[int]]:
        if partitions > MAX_RECORDS_PER_DECISION:
            raise _too_large()
        return place(
            self._image.brokers.values(),
            partitions=partitions,
            replication_factor=replication_factor,
            start=self._image.partition_count,
        )

    def _assigned(self, topic: CreatableTopic) -> list[list[int]]:
        for value, what in (
            (topic.replication_factor, "replication factor"),
            (topic.num_partitions, "numPartitions"),
        ):
            if value != DEFAULT:
                raise Refusal(
                    ErrorCode.INVALID_REQUEST,
                    f"A manual partition assignment was specified, but {what} was not set to -1.",
                )
        by_index = self._by_index(topic.assignments)
        if sorted(by_index) != list(range(len(by_index))):
            raise _bad_assignment("partitions should be a consecutive 0-based integer sequence")
        replicas = [by_index[index] for index in range(len(by_index))]
        for brokers in replicas:
            self._check_manual(brokers, len(replicas[0]))
        return replicas

    def _by_index(self, assignments: Iterable[CreatableReplicaAssignment]) -> dict[int, list[int]]:
        by_index: dict[int, list[int]] = {}
        for assignment in assignments:
            if assignment.partition_index in by_index:
                raise _bad_assignment(
                    f"Found multiple manual partition assignments for partition {assignment.partition_index}"
                )
            by_index[assignment.partition_index] = assignment.broker_ids
        return by_index

    def _created(self, topic: CreatableTopic, records: Sequence[MetadataRecord]) -> CreatableTopicResult:
        partitions = [record for record in records if isinstance(record, PartitionRecord)]
        return CreatableTopicResult(
            name=topic.name,
            topic_id=partitions[0].topic_id,
            error_message=None,
            num_partitions=len(partitions),
            replication_factor=len(partitions[0].replicas),
            configs=self._effective({config.name: config.value or "" for config in topic.configs}),
        )

    def _effective(self, overrides: dict[str, str]) -> list[CreatableTopicConfigs]:
        """What a topic's configuration comes to; worked out once for all topics with the same overrides."""
        key = frozenset(overrides.items())
        known = self._effective_configs.get(key)
        if known is None:
            entries = describe_topic(self._config, self._layers, overrides)
            known = self._effective_configs[key] = [
                CreatableTopicConfigs(
                    name=entry.name,
                    value=entry.value,
                    read_only=entry.read_only,
                    config_source=entry.source,
                )
                for entry in sorted(entries, key=lambda entry: entry.name)
            ]
        return known

    # --- delete ----------------------------------------------------------------------------------

    def delete(self, request: DeleteTopicsRequest) -> Decision[DeleteTopicsResponse]:
        """`topics` (by name or id) and `topic_names` are one list; each version fills one of them."""
        targets = [*request.topics, *(DeleteTopicState(name=name) for name in request.topic_names)]
        times = Counter(map(self._identity, targets))
        records: list[MetadataRecord] = []
        results = []
        ids = {self._identity(one): one.topic_id for one in targets if one.topic_id != ZERO_UUID}
        for identity, target in {self._identity(target): target for target in targets}.items():
            try:
                topic = self._deletable(target, duplicate=times[identity] > 1)
            except Refusal as refusal:
                results.append(
                    DeletableTopicResult(
                        name=target.name,
                        topic_id=ids.get(identity, ZERO_UUID),
                        error_code=refusal.code,
                        error_message=refusal.message,
                    )
                )
                continue
            records.append(RemoveTopicRecord(topic_id=topic.topic_id))
            results.append(DeletableTopicResult(name=topic.name, topic_id=topic.topic_id))
        return Decision(records, DeleteTopicsResponse(responses=results))

    def _identity(self, target: DeleteTopicState) -> tuple[str | None, bytes]:
        """Equal for two ways of naming the same topic."""
        topic = self._find(target)
        return (topic.name, topic.topic_id) if topic else (target.name, target.topic_id)

    def _find(self, target: DeleteTopicState) -> TopicImage | None:
        if target.name is None:
            return self._image.topics_by_id.get(target.topic_id)
        return self._image.topics.get(target.name) if target.topic_id == ZERO_UUID else None

    def _deletable(self, target: DeleteTopicState, *, duplicate: bool) -> TopicImage:
        if target.name is None and target.topic_id == ZERO_UUID:
            raise Refusal(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
        if target.name is not None and target.topic_id != ZERO_UUID:
            raise Refusal(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
        if duplicate:
            raise Refusal(
                ErrorCode.INVALID_REQUEST, f"Duplicate topic {'id' if target.name is None else 'name'}."
            )
        topic = self._find(target)
        if topic is None and target.name is None:
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        if topic is None:
            raise _unknown_topic()
        return topic

    # --- grow ------------------------------------------------------------------------------------

    def grow(self, request: CreatePartitionsRequest) -> Decision[CreatePartitionsResponse]:
        times = Counter(topic.name for topic in request.topics)
        batch = _Batch()
        results = []
        for topic in _once_each(request.topics):
            result = partial(CreatePartitionsTopicResult, name=topic.name)
            try:
                if times[topic.name] > 1:
                    raise Refusal(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
                batch.add(self._growth(topic))
            except Refusal as refusal:
                results.append(result(error_code=refusal.code, error_message=refusal.message))
                continue
            results.append(result())
        return Decision(
            [] if request.validate_only else batch.records, CreatePartitionsResponse(results=results)
        )

    def _growth(self, topic: CreatePartitionsTopic) -> list[PartitionRecord]:
        existing = self._image.topics.get(topic.name)
        if existing is None:
            raise _unknown_topic()
        count = len(existing.partitions)
        if topic.count == count:
            raise Refusal(ErrorCode.INVALID_PARTITIONS, f"Topic already has {count} partition(s).")
        if topic.count < count:
            raise Refusal(
                ErrorCode.INVALID_PARTITIONS,
                f"The topic {topic.name} currently has {count} partition(s); "
                f"{topic.count} would not be an increase.",
            )
        replication_factor = len(existing.partitions[0].replicas)
        additional = topic.count - count
        if topic.assignments is None:
            replicas = self._place(additional, replication_factor)
        else:
            replicas = [assignment.broker_ids for assignment in topic.assignments]
            if len(replicas) != additional:
                raise _bad_assignment(
                    f"Attempted to add {additional} additional partition(s), but only {len(replicas)} "
                    f"assignment(s) were specified."
                )
            for brokers in replicas:
                self._check_manual(brokers, replication_factor)
        return [
            self._new_partition(existing.topic_id, index, brokers)
            for index, brokers in enumerate(replicas, count)
        ]

    # --- both ------------------------------------------------------------------------------------

    def _check_manual(self, brokers: Sequence[int], replication_factor: int) -> None:
        """A manual assignment names registered brokers, each once, as many as the other partitions do."""
        if not brokers:
            raise _bad_assignment("The manual partition assignment includes an empty replica list.")
        for broker in brokers:
            if broker not in self._image.brokers:
                raise _bad_assignment(
                    f"The manual partition assignment includes broker {broker}, but no such broker "
                    f"is registered."
                )
        if len(set(brokers)) < len(brokers):
            raise _bad_assignment("The manual partition assignment includes a broker more than once.")
        if len(brokers) != replication_factor:
            raise _bad_assignment(
                f"The manual partition assignment includes a partition with {len(brokers)} replica(s), but "
                f"this is not consistent with other partitions, which have {replication_factor} replica(s)."
            )
        if not any(map(self._image.is_active, brokers)):
            raise _bad_assignment("All brokers of the manual partition assignment are fenced.")

    def _new_partition(self, topic_id: bytes, index: int, replicas: list[int]) -> PartitionRecord:
        isr = [broker for broker in replicas if self._image.is_active(broker)]
        return PartitionRecord(
            partition_id=index,
            topic_id=topic_id,
            replicas=replicas,
            isr=isr,
            leader=isr[0],
            leader_epoch=0,
            partition_epoch=0,
            directories=[directory_of(self._image, broker) for broker in replicas],
        )


class _Batch:
    """The records of all items so far, bounded."""

    def __init__(self) -> None:
        self.records: list[MetadataRecord] = []

    def add(self, records: Sequence[MetadataRecord]) -> None:
        if len(self.records) + len(records) > MAX_RECORDS_PER_DECISION:
            raise _too_large()
        self.records += records


def _once_each(topics: Iterable[Named]) -> Iterable[Named]:
    return {topic.name: topic for topic in topics}.values()


def _too_large() -> Refusal:
    return Refusal(
        ErrorCode.POLICY_VIOLATION,
        f"Unable to perform excessively large batch operation: it makes more than "
        f"{MAX_RECORDS_PER_DECISION} records.",
    )


def _bad_assignment(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)


def _unknown_topic() -> Refusal:
    return Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
