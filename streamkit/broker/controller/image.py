"""What the cluster is: the sum of its metadata records.

`MetadataImage.replay` is the only code that changes it, one record at a time and in the log's order, whether
the record was decided a moment ago or read at start; so a restarted broker knows exactly what the running
one knew. Everything in it is frozen or only ever changed here; readers hold it as long as they do not await,
and use `offset` as the epoch of what they derive from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from streamkit.broker.config_description import BrokerLayers
from streamkit.broker.controller.records import (
    ELR_FEATURE,
    FENCE,
    GROUP_VERSION_FEATURE,
    IN_CONTROLLED_SHUTDOWN,
    METADATA_VERSION,
    METADATA_VERSION_FEATURE,
    NO_LEADER_CHANGE,
    NO_RECOVERY_CHANGE,
    RECOVERED,
    SHARE_VERSION_FEATURE,
    STREAMS_VERSION_FEATURE,
    UNFENCE,
    BrokerFeature,
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    ControllerFeature,
    FeatureLevelRecord,
    MetadataRecord,
    NoOpRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RegisterControllerRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)
from streamkit.broker.controller.topic_names import collision_key

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class ResourceType(IntEnum):
    """Kafka's numbers for what can be configured."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class ConfigResource(NamedTuple):
    """What a configuration belongs to. The broker with an empty name stands for all brokers."""

    type: int
    name: str


ALL_BROKERS: Final = ConfigResource(ResourceType.BROKER, "")


class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where a broker can be reached through the listener called `name`."""

    name: str
    host: str
    port: int


class FeatureRange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The levels of a feature that a node supports, both ends included."""

    name: str
    lowest: int
    highest: int


class BrokerRegistration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A broker process; `epoch` is the offset of its registration.

    A fenced broker is not told to clients, leads nothing and is in no ISR. The same holds for one in
    controlled shutdown, but that it still serves until it has gone.
    """

    broker_id: int
    incarnation_id: bytes
    epoch: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None
    fenced: bool
    log_dirs: tuple[bytes, ...]
    in_controlled_shutdown: bool = False
    features: tuple[FeatureRange, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether it may lead and be in sync."""
        return not (self.fenced or self.in_controlled_shutdown)

    def endpoint(self, listener: str) -> Endpoint | None:
        return next((endpoint for endpoint in self.endpoints if endpoint.name == listener), None)


class ControllerRegistration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A controller process, and where it can be reached."""

    controller_id: int
    incarnation_id: bytes
    endpoints: tuple[Endpoint, ...]
    features: tuple[FeatureRange, ...] = ()


class PartitionRegistration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who holds a partition. The first replica is the preferred leader; `isr` is a subset of `replicas`.

    `elr` are the replicas that left the ISR when it fell below min.insync.replicas, so that they still hold
    all that was ever committed (KIP-966); it has nothing in common with `isr`. `last_known_elr` names the
    last leader of a partition that has neither. `leader_epoch` counts elections, `partition_epoch` changes of
    any kind. `replicas` includes those that a reassignment is adding and those that it is removing.
    """

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int
    directories: tuple[bytes, ...] = ()
    removing_replicas: tuple[int, ...] = ()
    adding_replicas: tuple[int, ...] = ()
    elr: tuple[int, ...] = ()
    last_known_elr: tuple[int, ...] = ()
    leader_recovery_state: int = RECOVERED

    @property
    def is_being_reassigned(self) -> bool:
        return bool(self.removing_replicas or self.adding_replicas)


class TopicImage(msgspec.Struct, kw_only=True):
    """A topic; partition `n` is `partitions[n]`. Changed by `MetadataImage.replay` only."""

    name: str
    topic_id: bytes
    partitions: list[PartitionRegistration]


class MetadataChanges:
    """What a run of records changed: enough for a subscriber to act without comparing images."""

    def __init__(self) -> None:
        self.created: list[TopicImage] = []
        self.deleted: list[TopicImage] = []
        self.new_partitions: list[tuple[TopicImage, int]] = []
        self.changed_partitions: list[tuple[TopicImage, int]] = []
        self.configs: set[ConfigResource] = set()
        self.brokers: set[int] = set()


class MetadataImage:
    """Topics, brokers, configurations, features, producer ids given out, up to the record at `offset`."""

    def __init__(self) -> None:
        self.offset = -1
        self.topics: dict[str, TopicImage] = {}
        self.topics_by_id: dict[bytes, TopicImage] = {}
        self.brokers: dict[int, BrokerRegistration] = {}
        self.controllers: dict[int, ControllerRegistration] = {}
        self.configs: dict[ConfigResource, dict[str, str]] = {}
        self.features: dict[str, int] = {}
        self.next_producer_id = 0
        self.partition_count = 0
        self._names_by_collision_key: dict[str, str] = {}

    # --- questions -------------------------------------------------------------------------------

    def partition(self, topic: str, partition: int) -> PartitionRegistration | None:
        found = self.topics.get(topic)
        if found is None or not 0 <= partition < len(found.partitions):
            return None
        return found.partitions[partition]

    def colliding_topic(self, name: str) -> str | None:
        """The existing topic whose metrics would bear the same name (KAFKA-1481)."""
        return self._names_by_collision_key.get(collision_key(name))

    def config(self, resource: ConfigResource) -> Mapping[str, str]:
        """The overrides of a resource."""
        return self.configs.get(resource, _NOTHING)

    def topic_overrides(self, topic: str) -> Mapping[str, str]:
        return self.config(ConfigResource(ResourceType.TOPIC, topic))

    def broker_layers(self, broker_id: int) -> BrokerLayers:
        """What was altered at run time for a broker and for all of them."""
        own = ConfigResource(ResourceType.BROKER, str(broker_id))
        return BrokerLayers(this_broker=self.config(own), all_brokers=self.config(ALL_BROKERS))

    def live_brokers(self) -> Iterator[BrokerRegistration]:
        return (broker for broker in self.brokers.values() if not broker.fenced)

    @property
    def has_consumer_groups(self) -> bool:
        """Whether groups may use the protocol of KIP-848."""
        return self.features.get(GROUP_VERSION_FEATURE, 0) > 0

    @property
    def has_share_groups(self) -> bool:
        """Whether groups may be queues (KIP-932)."""
        return self.features.get(SHARE_VERSION_FEATURE, 0) > 0

    @property
    def has_streams_groups(self) -> bool:
        """Whether groups may use the protocol of KIP-1071."""
        return self.features.get(STREAMS_VERSION_FEATURE, 0) > 0

    def is_live(self, broker_id: int) -> bool:
        broker = self.brokers.get(broker_id)
        return broker is not None and not broker.fenced

    def is_active(self, broker_id: int) -> bool:
        """Whether a broker may lead and be in sync."""
        broker = self.brokers.get(broker_id)
        return broker is not None and broker.is_active

    @property
    def metadata_version(self) -> int:
        """The level at which records are written; that of a new log before its first record."""
        return self.features.get(METADATA_VERSION_FEATURE, METADATA_VERSION)

    @property
    def has_elr(self) -> bool:
        return self.features.get(ELR_FEATURE, 0) > 0

    def become(self, other: MetadataImage) -> None:
        """Hold what `other` holds, which nobody may use any more: this object is the one that is known."""
        vars(self).update(vars(other))

    # --- replay ----------------------------------------------------------------------------------

    def replay(self, record: MetadataRecord, offset: int, changes: MetadataChanges) -> None:
        """Apply the record at `offset`, the one after the last; note in `changes` what it touched."""
        assert offset > self.offset, f"offset {offset} replayed after {self.offset}"
        match record:
            case TopicRecord():
                self._replay_topic(record, changes)
            case PartitionRecord():
                self._replay_partition(record, changes)
            case PartitionChangeRecord():
                self._replay_partition_change(record, changes)
            case RemoveTopicRecord():
                self._replay_remove_topic(record, changes)
            case ConfigRecord():
                self._replay_config(record, changes)
            case RegisterBrokerRecord():
                self._replay_register_broker(record, changes)
            case ProducerIdsRecord():
                self.next_producer_id = record.next_producer_id
            case FeatureLevelRecord():
                self._replay_feature_level(record)
            case BrokerRegistrationChangeRecord():
                self._replay_broker_change(record, changes)
            case UnregisterBrokerRecord():
                del self.brokers[record.broker_id]
                changes.brokers.add(record.broker_id)
            case RegisterControllerRecord():
                self._replay_register_controller(record)
            case NoOpRecord():
                pass
        self.offset = offset

    def _replay_topic(self, record: TopicRecord, changes: MetadataChanges) -> None:
        topic = TopicImage(name=record.name, topic_id=record.topic_id, partitions=[])
        self.topics[topic.name] = self.topics_by_id[topic.topic_id] = topic
        self._names_by_collision_key[collision_key(topic.name)] = topic.name
        changes.created.append(topic)

    def _replay_partition(self, record: PartitionRecord, changes: MetadataChanges) -> None:
        topic = self.topics_by_id[record.topic_id]
        assert record.partition_id == len(topic.partitions), "partitions of a topic are numbered without gaps"
        topic.partitions.append(
            PartitionRegistration(
                replicas=tuple(record.replicas),
                isr=tuple(record.isr),
                leader=record.leader,
                leader_epoch=record.leader_epoch,
                partition_epoch=record.partition_epoch,
                directories=tuple(record.directories),
                removing_replicas=tuple(record.removing_replicas),
                adding_replicas=tuple(record.adding_replicas),
                elr=tuple(record.eligible_leader_replicas or ()),
                last_known_elr=tuple(record.last_known_elr or ()),
                leader_recovery_state=record.leader_recovery_state,
            )
        )
        self.partition_count += 1
        changes.new_partitions.append((topic, record.partition_id))

    def _replay_partition_change(self, record: PartitionChangeRecord, changes: MetadataChanges) -> None:
        topic = self.topics_by_id[record.topic_id]
        before = topic.partitions[record.partition_id]
        topic.partitions[record.partition_id] = changed_partition(before, record)
        changes.changed_partitions.append((topic, record.partition_id))

    def _replay_remove_topic(self, record: RemoveTopicRecord, changes: MetadataChanges) -> None:
        topic = self.topics_by_id.pop(record.topic_id)
        del self.topics[topic.name]
        del self._names_by_collision_key[collision_key(topic.name)]
        self.configs.pop(ConfigResource(ResourceType.TOPIC, topic.name), None)
        self.partition_count -= len(topic.partitions)
        changes.deleted.append(topic)

    def _replay_config(self, record: ConfigRecord, changes: MetadataChanges) -> None:
        resource = ConfigResource(record.resource_type, record.resource_name)
        values = self.configs.setdefault(resource, {})
        if record.value is None:
            values.pop(record.name, None)
        else:
            values[record.name] = record.value
        if not values:
            del self.configs[resource]
        changes.configs.add(resource)

    def _replay_register_broker(self, record: RegisterBrokerRecord, changes: MetadataChanges) -> None:
        self.brokers[record.broker_id] = BrokerRegistration(
            broker_id=record.broker_id,
            incarnation_id=record.incarnation_id,
            epoch=record.broker_epoch,
            endpoints=tuple(
                Endpoint(name=one.name, host=one.host, port=one.port) for one in record.end_points
            ),
            rack=record.rack,
            fenced=record.fenced,
            log_dirs=tuple(record.log_dirs),
            in_controlled_shutdown=record.in_controlled_shutdown,
            features=_features(record.features),
        )
        changes.brokers.add(record.broker_id)

    def _replay_broker_change(self, record: BrokerRegistrationChangeRecord, changes: MetadataChanges) -> None:
        before = self.brokers[record.broker_id]
        assert record.broker_epoch == before.epoch, "a change names the registration that it changes"
        self.brokers[record.broker_id] = msgspec.structs.replace(
            before,
            fenced=record.fenced == FENCE or (before.fenced and record.fenced != UNFENCE),
            in_controlled_shutdown=before.in_controlled_shutdown
            or record.in_controlled_shutdown == IN_CONTROLLED_SHUTDOWN,
            log_dirs=tuple(record.log_dirs) or before.log_dirs,
        )
        changes.brokers.add(record.broker_id)

    def _replay_register_controller(self, record: RegisterControllerRecord) -> None:
        self.controllers[record.controller_id] = ControllerRegistration(
            controller_id=record.controller_id,
            incarnation_id=record.incarnation_id,
            endpoints=tuple(
                Endpoint(name=one.name, host=one.host, port=one.port) for one in record.end_points
            ),
            features=_features(record.features),
        )

    def _replay_feature_level(self, record: FeatureLevelRecord) -> None:
        """A level of 0 is the absence of the feature."""
        if record.feature_level:
            self.features[record.name] = record.feature_level
        else:
            self.features.pop(record.name, None)


def changed_partition(before: PartitionRegistration, record: PartitionChangeRecord) -> PartitionRegistration:
    """What the record makes of a partition; a leader that it states, even the same, begins an epoch."""
    elected = record.leader != NO_LEADER_CHANGE
    recovery = record.leader_recovery_state
    return PartitionRegistration(
        replicas=_changed(record.replicas, before.replicas),
        isr=_changed(record.isr, before.isr),
        leader=record.leader if elected else before.leader,
        leader_epoch=before.leader_epoch + elected,
        partition_epoch=before.partition_epoch + 1,
        directories=before.directories if record.directories is None else tuple(record.directories),
        removing_replicas=_changed(record.removing_replicas, before.removing_replicas),
        adding_replicas=_changed(record.adding_replicas, before.adding_replicas),
        elr=_changed(record.eligible_leader_replicas, before.elr),
        last_known_elr=_changed(record.last_known_elr, before.last_known_elr),
        leader_recovery_state=before.leader_recovery_state if recovery == NO_RECOVERY_CHANGE else recovery,
    )


def _changed(after: list[int] | None, before: tuple[int, ...]) -> tuple[int, ...]:
    return before if after is None else tuple(after)


def _features(ranges: Iterable[BrokerFeature | ControllerFeature]) -> tuple[FeatureRange, ...]:
    return tuple(
        FeatureRange(name=one.name, lowest=one.min_supported_version, highest=one.max_supported_version)
        for one in ranges
    )
