"""Every configuration key of a broker and its topics: one table, read by everything that knows a key.

The names, defaults and meanings are Apache Kafka's wherever Kafka has the key; ours begin with `streamkit.`.
A key stands here because some code reads its attribute, or says why its promise is kept without
(`kept_without`); whoever makes that reason untrue has to read it. `TopicConfig` holds what a topic can
override, and each of its rows names the broker properties that set its default, so
`BrokerConfig.topic_defaults` *is* the broker's half of those keys: nothing is declared twice.

Values come in layers, the strongest first: the topic's own, this broker's altered at run time, all brokers'
altered at run time, the properties given at start, Kafka's default. A `BrokerConfig` is the sum of the
broker's layers; `given` keeps the properties it was made from as text, for DescribeConfigs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from streamkit.broker.config_key import (
    DAY_MS,
    DOUBLE_MAX,
    HOUR_MS,
    INT_MAX,
    LONG_MAX,
    ConfigType,
    InvalidValueError,
    Key,
    Value,
    choice,
    double,
    flag,
    hours,
    integer,
    keys_of,
    long,
    minutes,
    nearest,
    string,
    words,
)
from streamkit.broker.quorum_config import VOTERS_KEY, QuorumVoter, parse_voters
from streamkit.errors import UsageError

ASSIGNORS: Final = ("uniform", "range")
COMPRESSION_TYPES: Final = ("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, kw_only=True)
class TopicConfig:
    """What one topic does; a topic may override each key, the broker property beside it sets its default."""

    cleanup_policy: tuple[str, ...] = words(
        "cleanup.policy",
        ("delete",),
        "What becomes of old segments: `delete` drops them by age and size, `compact` keeps of each key the "
        "newest record. A compacted topic takes records without a key, which Kafka refuses; the cleaner "
        "drops them.",
        choices=("compact", "delete"),
        spellings=("log.cleanup.policy",),
    )
    compression_type: str = choice(
        "compression.type",
        "producer",
        "The codec in which batches are stored; `producer` keeps the codec of each batch as it came.",
        choices=COMPRESSION_TYPES,
        spellings=("compression.type",),
    )
    delete_retention_ms: int = long(
        "delete.retention.ms",
        DAY_MS,
        "How long, at least, a tombstone of a compacted topic stays readable.",
        low=0,
        spellings=("log.cleaner.delete.retention.ms",),
    )
    flush_messages: int = long(
        "flush.messages",
        LONG_MAX,
        "Under `streamkit.flush.mode=relaxed`, force an fsync after this many records.",
        low=1,
        spellings=("log.flush.interval.messages",),
    )
    flush_ms: int = long(
        "flush.ms",
        LONG_MAX,
        "Under `streamkit.flush.mode=relaxed`, force an fsync of what has been unflushed for this long.",
        low=0,
        spellings=("log.flush.interval.ms",),
    )
    index_interval_bytes: int = integer(
        "index.interval.bytes",
        4096,
        "Bytes of log between two entries of a segment's offset index.",
        low=0,
        spellings=("log.index.interval.bytes",),
    )
    max_compaction_lag_ms: int = long(
        "max.compaction.lag.ms",
        LONG_MAX,
        "How long, at most, a record of a compacted topic waits for the cleaner, however little of the log "
        "is dirty. The active segment is closed at that age, with the next append.",
        low=1,
        spellings=("log.cleaner.max.compaction.lag.ms",),
    )
    max_message_bytes: int = integer(
        "max.message.bytes",
        1024 * 1024 + 12,
        "The largest record batch accepted, compressed if it is.",
        low=0,
        spellings=("message.max.bytes",),
    )
    message_timestamp_after_max_ms: int = long(
        "message.timestamp.after.max.ms",
        HOUR_MS,
        "How far a record's timestamp may lie ahead of the broker's clock (with `CreateTime`).",
        low=0,
        spellings=("log.message.timestamp.after.max.ms",),
    )
    message_timestamp_before_max_ms: int = long(
        "message.timestamp.before.max.ms",
        LONG_MAX,
        "How far a record's timestamp may lie behind the broker's clock (with `CreateTime`).",
        low=0,
        spellings=("log.message.timestamp.before.max.ms",),
    )
    message_timestamp_type: str = choice(
        "message.timestamp.type",
        "CreateTime",
        "Whose clock stamps the records: the producer's, or the broker's on append.",
        choices=("CreateTime", "LogAppendTime"),
        spellings=("log.message.timestamp.type",),
    )
    min_cleanable_dirty_ratio: float = double(
        "min.cleanable.dirty.ratio",
        0.5,
        "The part of a compacted log, by size, that must be new since the last cleaning for the next one.",
        low=0,
        high=1,
        spellings=("log.cleaner.min.cleanable.ratio",),
    )
    min_compaction_lag_ms: int = long(
        "min.compaction.lag.ms",
        0,
        "How long, at least, a record of a compacted topic stays as it was written.",
        low=0,
        spellings=("log.cleaner.min.compaction.lag.ms",),
    )
    min_insync_replicas: int = integer(
        "min.insync.replicas",
        1,
        "With acks=all, a write is refused while fewer replicas than this are in sync.",
        low=1,
        spellings=("min.insync.replicas",),
    )
    retention_bytes: int = long(
        "retention.bytes",
        -1,
        "Size of a partition above which its oldest segments are deleted; -1 is no limit.",
        low=-1,
        spellings=("log.retention.bytes",),
    )
    retention_ms: int = long(
        "retention.ms",
        7 * DAY_MS,
        "Age after which a segment is deleted, judged by its newest record; -1 is for ever.",
        low=-1,
        spellings=(
            "log.retention.ms",
            minutes("log.retention.minutes"),
            hours("log.retention.hours"),
        ),
    )
    segment_bytes: int = integer(
        "segment.bytes",
        1024**3,
        "Size at which a segment is closed and the next one begun. A batch must fit in one segment.",
        low=1024,
        spellings=("log.segment.bytes",),
    )
    segment_index_bytes: int = integer(
        "segment.index.bytes",
        10 * 1024**2,
        "Size of an index file at which its segment is closed.",
        low=16,
        spellings=("log.index.size.max.bytes",),
    )
    segment_ms: int = long(
        "segment.ms",
        7 * DAY_MS,
        "Age at which a segment that holds records is closed even if it is not full.",
        low=1,
        spellings=("log.roll.ms", hours("log.roll.hours")),
    )

    unclean_leader_election_enable: bool = flag(
        "unclean.leader.election.enable",
        False,
        "Whether a replica that is not in sync may become leader when nobody else can. It loses what only "
        "the others had.",
    )

    @property
    def is_compacted(self) -> bool:
        return "compact" in self.cleanup_policy

    def altered(self, overrides: Mapping[str, str]) -> TopicConfig:
        """These values with a topic's own in front of them; raises InvalidValueError, KeyError."""
        if not overrides:
            return self
        changes = {
            TOPIC_KEYS[name].attribute: TOPIC_KEYS[name].parse(text) for name, text in overrides.items()
        }
        altered = dataclasses.replace(self, **changes)  # type: ignore[arg-type]
        if altered.min_compaction_lag_ms > altered.max_compaction_lag_ms:
            raise InvalidValueError(
                f"Invalid value {altered.min_compaction_lag_ms} for configuration min.compaction.lag.ms: it "
                f"must not be above max.compaction.lag.ms ({altered.max_compaction_lag_ms})"
            )
        return altered


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """What one consumer group does; a group may override each key, a broker property sets its default."""

    consumer_session_timeout_ms: int = integer(
        "consumer.session.timeout.ms",
        45_000,
        "How long a member of the consumer group may be silent before it is removed.",
        low=1,
        spellings=("group.consumer.session.timeout.ms",),
    )
    consumer_heartbeat_interval_ms: int = integer(
        "consumer.heartbeat.interval.ms",
        5000,
        "How often the members of the consumer group are told to send a heartbeat.",
        low=1,
        spellings=("group.consumer.heartbeat.interval.ms",),
    )

    def altered(self, overrides: Mapping[str, str]) -> GroupConfig:
        """These values with a group's own in front of them; raises InvalidValueError, KeyError."""
        if not overrides:
            return self
        changes = {
            GROUP_KEYS[name].attribute: GROUP_KEYS[name].parse(text) for name, text in overrides.items()
        }
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Listener:
    """One `NAME://host:port` of `listeners` or `advertised.listeners`. An empty host is every interface."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """What one broker does; made by `from_properties`, changed by making another."""

    node_id: int = integer(
        "node.id",
        1,
        "The number of this node in its cluster; its data directory remembers it.",
        low=0,
        spellings=("node.id", "broker.id"),
    )
    log_dir: str = string(
        "log.dir",
        ".streamkit",
        "The data directory. An empty one is formatted at the first start.",
        spellings=("log.dirs", "log.dir"),
    )
    listeners: tuple[str, ...] = words(
        "listeners",
        ("PLAINTEXT://127.0.0.1:9092",),
        "Where to listen, as `NAME://host:port`; port 0 takes a free one. All listeners are plaintext.",
    )
    advertised_listeners: tuple[str, ...] = words(
        "advertised.listeners",
        (),
        "What clients are told to connect to, by listener name; empty tells them `listeners`. Required where "
        "a listener is 0.0.0.0 or [::].",
    )
    controller_listener_names: tuple[str, ...] = words(
        "controller.listener.names",
        ("CONTROLLER",),
        "Which of the `listeners` the other nodes use to reach this one as a controller; clients are never "
        "told of them.",
    )
    controller_quorum_voters: tuple[str, ...] = words(
        VOTERS_KEY,
        (),
        "The nodes that decide for the cluster, as `ID@HOST:PORT` of their controller listeners; the same on "
        "all nodes. A node that is not among them is a broker only. Empty: this node is a cluster of one. "
        "With three or more, `default.replication.factor` is 3 and `min.insync.replicas` 2 where they are "
        "not given. Heeded until the cluster is formed; then the voters that its log records count.",
    )
    controller_quorum_election_timeout_ms: int = integer(
        "controller.quorum.election.timeout.ms",
        1_000,
        "How long a voter looks for a leader before it stands itself; up to twice as long, by chance.",
        low=10,
    )
    controller_quorum_fetch_timeout_ms: int = integer(
        "controller.quorum.fetch.timeout.ms",
        2_000,
        "After how long without an answer from the leader a voter stands. A leader whose voters have been "
        "silent for one and a half times as long resigns.",
        low=10,
    )
    controller_quorum_election_backoff_max_ms: int = integer(
        "controller.quorum.election.backoff.max.ms",
        1_000,
        "How long to wait at most after an election that nobody won.",
        low=0,
    )
    metadata_log_max_record_bytes_between_snapshots: int = long(
        "metadata.log.max.record.bytes.between.snapshots",
        20 << 20,
        "After how many bytes in the metadata log a snapshot is made of it.",
        low=1,
    )
    broker_rack: str = string(
        "broker.rack",
        "",
        "Where this broker stands (a rack, a zone): replicas are spread over racks, and a consumer may read "
        "from the closest.",
    )

    broker_heartbeat_interval_ms: int = integer(
        "broker.heartbeat.interval.ms",
        1000,
        "How often a broker tells the controller that it lives (Kafka: 2000).",
        low=1,
    )
    broker_session_timeout_ms: int = integer(
        "broker.session.timeout.ms",
        4000,
        "A broker that was silent for this long is fenced: others lead its partitions (Kafka: 9000).",
        low=1,
    )
    auto_leader_rebalance_enable: bool = flag(
        "auto.leader.rebalance.enable",
        True,
        "Whether leadership is given back to preferred replicas once they are in sync again.",
    )
    leader_imbalance_check_interval_seconds: int = long(
        "leader.imbalance.check.interval.seconds", 300, "How often that is looked at.", low=1
    )
    leader_imbalance_per_broker_percentage: int = integer(
        "leader.imbalance.per.broker.percentage",
        10,
        "How much of the leadership that a broker is preferred for it may miss before it is given back.",
        low=0,
    )
    replica_lag_time_max_ms: int = integer(
        "replica.lag.time.max.ms",
        30_000,
        "A follower that has not been at its leader's end for so long leaves the ISR.",
        low=1,
    )
    num_replica_fetchers: int = integer(
        "num.replica.fetchers",
        1,
        "Connections to each leader over which this broker fetches what it replicates.",
        low=1,
    )
    replica_fetch_max_bytes: int = integer(
        "replica.fetch.max.bytes", 1024 * 1024, "The most that one fetch asks of one partition.", low=1
    )
    replica_fetch_response_max_bytes: int = integer(
        "replica.fetch.response.max.bytes", 10 * 1024 * 1024, "The most that one fetch asks in all.", low=1
    )
    replica_fetch_wait_max_ms: int = integer(
        "replica.fetch.wait.max.ms", 500, "How long a leader may hold a fetch that finds nothing new.", low=1
    )
    replica_fetch_backoff_ms: int = integer(
        "replica.fetch.backoff.ms", 1000, "How long a follower waits after a fetch that failed."
    )
    replica_socket_timeout_ms: int = integer(
        "replica.socket.timeout.ms",
        30_000,
        "A leader that does not answer a fetch for so long is taken for lost.",
        low=1,
    )
    replica_selector_class: str = string(
        "replica.selector.class",
        "",
        "Who tells consumers from which replica to read: empty, always the leader; "
        "`org.apache.kafka.common.replica.RackAwareReplicaSelector`, one in the consumer's rack.",
    )

    auto_create_topics_enable: bool = flag(
        "auto.create.topics.enable",
        True,
        "Create a topic when a client that allows it asks for its metadata.",
    )
    delete_topic_enable: bool = flag("delete.topic.enable", True, "Whether topics can be deleted.")
    num_partitions: int = integer(
        "num.partitions", 1, "Partitions of a topic that is created without a count.", low=1
    )
    default_replication_factor: int = integer(
        "default.replication.factor", 1, "Replicas of a topic that is created without a count.", low=1
    )
    max_request_partition_size_limit: int = integer(
        "max.request.partition.size.limit",
        2000,
        "The most partitions in one DescribeTopicPartitions response.",
        low=1,
    )

    socket_request_max_bytes: int = integer(
        "socket.request.max.bytes",
        100 * 1024**2,
        "The largest request; a connection that announces more is closed.",
        low=1,
    )
    queued_max_request_bytes: int = long(
        "queued.max.request.bytes",
        256 * 1024**2,
        "Bytes of requests in flight over all connections, above which only small ones are read; and bytes "
        "of responses, above which a fetch returns one batch. -1 is no limit (Kafka's default).",
        low=-1,
    )
    connections_max_idle_ms: int = long(
        "connections.max.idle.ms",
        10 * 60_000,
        "A connection without traffic for this long is closed.",
        low=-1,
    )
    max_connections: int = integer("max.connections", INT_MAX, "The most connections at a time.", low=0)
    max_connections_per_ip: int = integer(
        "max.connections.per.ip", INT_MAX, "The most connections at a time from one address.", low=0
    )

    fetch_max_bytes: int = integer(
        "fetch.max.bytes",
        55 * 1024**2,
        "The most bytes in one fetch response, whatever the client asks for.",
        low=1024,
    )
    max_incremental_fetch_session_cache_slots: int = integer(
        "max.incremental.fetch.session.cache.slots",
        1000,
        "How many incremental fetch sessions are kept; beyond it clients send full fetches.",
        low=0,
    )
    producer_id_expiration_ms: int = integer(
        "producer.id.expiration.ms",
        DAY_MS,
        "How long the sequence numbers of a silent idempotent producer are remembered.",
        low=1,
    )
    flush_mode: str = choice(
        "streamkit.flush.mode",
        "durable",
        "`durable`: a write is acknowledged once it is on disk. `relaxed`: once it is in the page cache, as "
        "Kafka does; a power failure may lose what was acknowledged.",
        choices=("durable", "relaxed"),
    )
    log_cleaner_enable: bool = flag(
        "log.cleaner.enable",
        True,
        "Whether compacted topics are compacted; without, they grow.",
    )
    log_cleaner_backoff_ms: int = long(
        "log.cleaner.backoff.ms",
        15_000,
        "How long the cleaner sleeps when no log is worth compacting.",
        low=0,
    )
    log_cleaner_dedupe_buffer_size: int = long(
        "log.cleaner.dedupe.buffer.size",
        128 * 1024**2,
        "Memory for the keys of one cleaning, about 200 bytes each. Of a log with more new keys than fit, a "
        "part is compacted at a time.",
        low=1,
    )
    log_cleaner_io_max_bytes_per_second: float = double(
        "log.cleaner.io.max.bytes.per.second",
        DOUBLE_MAX,
        "At most so much is read and written by the cleaner, on average.",
        low=1,
    )
    log_retention_check_interval_ms: int = long(
        "log.retention.check.interval.ms",
        5 * 60_000,
        "How often segments are checked against `retention.ms` and `retention.bytes`.",
        low=1,
    )
    log_flush_offset_checkpoint_interval_ms: int = integer(
        "log.flush.offset.checkpoint.interval.ms",
        1000,
        "How often the recovery point and high watermarks are written down (Kafka: 60000).",
        low=1,
    )

    group_min_session_timeout_ms: int = integer(
        "group.min.session.timeout.ms",
        6000,
        "The shortest session timeout that a group member may ask for.",
        low=1,
    )
    group_max_session_timeout_ms: int = integer(
        "group.max.session.timeout.ms",
        30 * 60_000,
        "The longest session timeout that a group member may ask for.",
        low=1,
    )
    group_initial_rebalance_delay_ms: int = integer(
        "group.initial.rebalance.delay.ms",
        0,
        "How long an empty group waits for more members before its first rebalance (Kafka: 3000).",
        low=0,
    )
    group_max_size: int = integer("group.max.size", INT_MAX, "The most members of one group.", low=1)
    group_consumer_assignors: tuple[str, ...] = words(
        "group.consumer.assignors",
        ASSIGNORS,
        "How consumer groups may divide partitions; by the first, unless members ask for another.",
        choices=ASSIGNORS,
    )
    group_consumer_max_size: int = integer(
        "group.consumer.max.size", INT_MAX, "The most members of one consumer group.", low=1
    )
    group_consumer_migration_policy: str = choice(
        "group.consumer.migration.policy",
        "bidirectional",
        "Whether a classic group with members may become a consumer group (`upgrade`), the reverse "
        "(`downgrade`), both or neither. An empty group may always.",
        choices=("bidirectional", "upgrade", "downgrade", "disabled"),
    )
    group_consumer_min_session_timeout_ms: int = integer(
        "group.consumer.min.session.timeout.ms",
        45_000,
        "The shortest `consumer.session.timeout.ms` that a consumer group may be given.",
        low=1,
    )
    group_consumer_max_session_timeout_ms: int = integer(
        "group.consumer.max.session.timeout.ms",
        60_000,
        "The longest `consumer.session.timeout.ms` that a consumer group may be given.",
        low=1,
    )
    group_consumer_min_heartbeat_interval_ms: int = integer(
        "group.consumer.min.heartbeat.interval.ms",
        5000,
        "The shortest `consumer.heartbeat.interval.ms` that a consumer group may be given.",
        low=1,
    )
    group_consumer_max_heartbeat_interval_ms: int = integer(
        "group.consumer.max.heartbeat.interval.ms",
        15_000,
        "The longest `consumer.heartbeat.interval.ms` that a consumer group may be given.",
        low=1,
    )
    offset_metadata_max_bytes: int = integer(
        "offset.metadata.max.bytes", 4096, "The longest metadata string beside a committed offset.", low=0
    )
    offsets_retention_minutes: int = integer(
        "offsets.retention.minutes",
        7 * 24 * 60,
        "How long a group that became empty keeps its offsets.",
        low=1,
    )
    offsets_retention_check_interval_ms: int = long(
        "offsets.retention.check.interval.ms", 10 * 60_000, "How often expired offsets are looked for.", low=1
    )
    offsets_topic_num_partitions: int = integer(
        "offsets.topic.num.partitions",
        50,
        "Partitions of `__consumer_offsets`; fixed once the topic exists.",
        low=1,
    )
    offsets_topic_replication_factor: int = integer(
        "offsets.topic.replication.factor",
        3,
        "Replicas of `__consumer_offsets`, or as many as there are brokers if those are fewer.",
        low=1,
        type=ConfigType.SHORT,
    )
    offsets_topic_segment_bytes: int = integer(
        "offsets.topic.segment.bytes",
        100 * 1024**2,
        "Segment size of `__consumer_offsets`, small so that it loads fast once it is compacted.",
        low=1024,
    )

    transaction_max_timeout_ms: int = integer(
        "transaction.max.timeout.ms",
        15 * 60_000,
        "The longest transaction timeout that a producer may ask for.",
        low=1,
    )
    transactional_id_expiration_ms: int = integer(
        "transactional.id.expiration.ms",
        7 * DAY_MS,
        "How long a transactional id without a transaction is remembered.",
        low=1,
    )
    transaction_remove_expired_transaction_cleanup_interval_ms: int = integer(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        HOUR_MS,
        "How often expired transactional ids are looked for.",
        low=1,
    )
    transaction_state_log_num_partitions: int = integer(
        "transaction.state.log.num.partitions",
        50,
        "Partitions of `__transaction_state`; fixed once the topic exists.",
        low=1,
    )
    transaction_state_log_replication_factor: int = integer(
        "transaction.state.log.replication.factor",
        3,
        "Replicas of `__transaction_state`, or as many as there are brokers if those are fewer.",
        low=1,
        type=ConfigType.SHORT,
    )
    transaction_state_log_min_isr: int = integer(
        "transaction.state.log.min.isr",
        2,
        "In-sync replicas that a write to `__transaction_state` needs, or all of them if those are fewer.",
        low=1,
    )
    transaction_state_log_segment_bytes: int = integer(
        "transaction.state.log.segment.bytes",
        100 * 1024**2,
        "Segment size of `__transaction_state`, small so that it loads fast once it is compacted.",
        low=1024,
    )

    share_coordinator_state_topic_num_partitions: int = integer(
        "share.coordinator.state.topic.num.partitions",
        50,
        "Partitions of `__share_group_state`; fixed once the topic exists.",
        low=1,
    )
    share_coordinator_state_topic_replication_factor: int = integer(
        "share.coordinator.state.topic.replication.factor",
        3,
        "Replicas of `__share_group_state`, or as many as there are brokers if those are fewer.",
        low=1,
        type=ConfigType.SHORT,
    )
    share_coordinator_state_topic_min_isr: int = integer(
        "share.coordinator.state.topic.min.isr",
        2,
        "In-sync replicas that a write to `__share_group_state` needs, or all of them if those are fewer.",
        low=1,
        type=ConfigType.SHORT,
    )
    share_coordinator_state_topic_segment_bytes: int = integer(
        "share.coordinator.state.topic.segment.bytes",
        100 * 1024**2,
        "Segment size of `__share_group_state`.",
        low=1024,
    )
    share_coordinator_state_topic_prune_interval_ms: int = integer(
        "share.coordinator.state.topic.prune.interval.ms",
        5 * 60_000,
        "How often what later snapshots say again is deleted from `__share_group_state`.",
        low=1,
    )
    share_coordinator_snapshot_update_records_per_snapshot: int = integer(
        "share.coordinator.snapshot.update.records.per.snapshot",
        500,
        "Updates of a share-partition's state between two snapshots of it.",
        low=0,
    )
    share_coordinator_cold_partition_snapshot_interval_ms: int = integer(
        "share.coordinator.cold.partition.snapshot.interval.ms",
        5 * 60_000,
        "How often share-partitions that nobody writes to get a new snapshot, so that the log can be pruned.",
        low=1,
    )

    topic_defaults: TopicConfig = field(default_factory=TopicConfig)
    group_defaults: GroupConfig = field(default_factory=GroupConfig)
    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> BrokerConfig:
        """The configuration that these names and texts stand for; raises UsageError."""
        for name in properties:
            require_known(name)
        properties = {**_cluster_defaults(properties), **properties}
        try:
            config = cls(
                topic_defaults=TopicConfig(**_resolve(TOPIC_KEYS.values(), properties)),  # type: ignore[arg-type]
                group_defaults=GroupConfig(**_resolve(GROUP_KEYS.values(), properties)),  # type: ignore[arg-type]
                given=MappingProxyType(dict(properties)),
                **_resolve(BROKER_KEYS.values(), properties),  # type: ignore[arg-type]
            )
        except InvalidValueError as error:
            raise UsageError(str(error)) from None
        config.check()
        return config

    def altered(self, dynamic: Mapping[str, str]) -> BrokerConfig:
        """This configuration with what was altered at run time in front of it; raises UsageError."""
        if not dynamic:
            return self
        hidden = {spelling.name for name in dynamic for spelling in DYNAMIC_KEYS[name].spellings}
        kept = {name: text for name, text in self.given.items() if name not in hidden}
        return BrokerConfig.from_properties({**kept, **dynamic})

    def check(self) -> None:
        """Refuse what no single key can see: bounds that cross, listeners that nobody could reach."""
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms:
            raise UsageError("group.min.session.timeout.ms is above group.max.session.timeout.ms")
        self.check_group(self.group_defaults)
        if self.broker_heartbeat_interval_ms >= self.broker_session_timeout_ms:
            raise UsageError("broker.heartbeat.interval.ms is not below broker.session.timeout.ms")
        if "," in self.log_dir:
            raise UsageError(
                f"log.dirs names several directories: {self.log_dir}",
                hint="a streamkit broker has one; give log.dir a single path",
            )
        self.advertised_endpoints()
        self._check_voter()

    def _check_voter(self) -> None:
        """A voter must listen where the others are told to find it."""
        own = next((voter for voter in self.voters() if voter.node_id == self.node_id), None)
        if own is None:
            return
        controller = self.controller_endpoint()
        if controller is None:
            raise UsageError(
                f"{VOTERS_KEY} names this node, {own}, and it has no listener for the other controllers",
                hint=f"--controller-listen {own.host}:{own.port}",
            )
        if controller.port == 0:
            raise UsageError(
                f"{VOTERS_KEY} says that node {own.node_id} is found at port {own.port}, and {controller} "
                "takes any free one",
                hint=f"--controller-listen {own.host}:{own.port}",
            )

    def voters(self) -> tuple[QuorumVoter, ...]:
        """`controller.quorum.voters`, parsed; raises UsageError."""
        return parse_voters(self.controller_quorum_voters)

    def check_group(self, group: GroupConfig) -> None:
        """Refuse what no consumer group of this broker may have; raises UsageError."""
        for name, value, low, high in (
            (
                "consumer.session.timeout.ms",
                group.consumer_session_timeout_ms,
                self.group_consumer_min_session_timeout_ms,
                self.group_consumer_max_session_timeout_ms,
            ),
            (
                "consumer.heartbeat.interval.ms",
                group.consumer_heartbeat_interval_ms,
                self.group_consumer_min_heartbeat_interval_ms,
                self.group_consumer_max_heartbeat_interval_ms,
            ),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}; it must be between {low} and {high}")
        if group.consumer_session_timeout_ms <= group.consumer_heartbeat_interval_ms:
            raise UsageError("consumer.session.timeout.ms must be above consumer.heartbeat.interval.ms")

    def endpoints(self) -> tuple[Listener, ...]:
        """`listeners`, parsed, those for controllers among them; raises UsageError."""
        return _parse_listeners("listeners", self.listeners)

    def is_for_controllers(self, listener: str) -> bool:
        return listener in (name.upper() for name in self.controller_listener_names)

    def controller_endpoint(self) -> Listener | None:
        """Where other nodes reach this one as a controller; None if they do not."""
        return next((one for one in self.endpoints() if self.is_for_controllers(one.name)), None)

    def advertised_endpoints(self) -> tuple[Listener, ...]:
        """What to tell clients, one for each of their listeners, in these' order; raises UsageError."""
        listeners = [one for one in self.endpoints() if not self.is_for_controllers(one.name)]
        if not listeners:
            raise UsageError(
                "listeners has none for clients", hint="for example listeners=PLAINTEXT://127.0.0.1:9092"
            )
        given = {one.name: one for one in _parse_listeners("advertised.listeners", self.advertised_listeners)}
        unknown = given.keys() - {listener.name for listener in listeners}
        if unknown:
            raise UsageError(f"advertised.listeners names {sorted(unknown)[0]}, which is not among listeners")
        advertised = tuple(given.get(listener.name, listener) for listener in listeners)
        for one in advertised:
            if one.host in WILDCARD_HOSTS:
                raise UsageError(
                    f"{one} is no address that a client could connect to",
                    hint=f"set advertised.listeners={one.name}://HOST:{one.port} (or --advertise HOST:PORT)",
                )
        return advertised


VOTERS_THAT_SURVIVE_ONE: Final = 3
WILDCARD_HOSTS: Final = ("", "0.0.0.0", "::")
_UNSUPPORTED_PROTOCOLS: Final = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")

TOPIC_KEYS: Final = keys_of(TopicConfig)
GROUP_KEYS: Final = keys_of(GroupConfig)
BROKER_KEYS: Final = keys_of(BrokerConfig)
# Every name that a broker's properties may use, with the key that it sets.
PROPERTY_NAMES: Final[Mapping[str, Key]] = {
    spelling.name: key
    for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values())
    for spelling in key.spellings
}
# What AlterConfigs may change on a running broker: the defaults of its topics.
DYNAMIC_KEYS: Final[Mapping[str, Key]] = {
    spelling.name: key for key in TOPIC_KEYS.values() for spelling in key.spellings
}


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` words, as `--set` takes them, as properties; raises UsageError."""
    properties = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{assignment!r} is not KEY=VALUE", hint="for example --set num.partitions=3")
        require_known(name.strip())
        properties[name.strip()] = text.strip()
    return properties


def require_known(name: str) -> None:
    """Raise a UsageError that names the nearest key unless `name` is a broker property."""
    if name in PROPERTY_NAMES:
        return
    close = nearest(name, sorted(PROPERTY_NAMES))
    hint = f"did you mean {close}?" if close else "docs/configuration.md lists every key"
    raise UsageError(f"unknown configuration key {name}", hint=hint)


def _cluster_defaults(properties: Mapping[str, str]) -> dict[str, str]:
    """What is understood where three nodes or more are to be a cluster: any one of them may be lost."""
    voters = properties.get(VOTERS_KEY, "")
    if voters.count("@") < VOTERS_THAT_SURVIVE_ONE:
        return {}
    return {"default.replication.factor": "3", "min.insync.replicas": "2"}


def _resolve(keys: Iterable[Key], properties: Mapping[str, str]) -> dict[str, Value]:
    return dict(_given_values(keys, properties))


def _given_values(keys: Iterable[Key], properties: Mapping[str, str]) -> Iterator[tuple[str, Value]]:
    for key in keys:
        for spelling in key.spellings:
            if spelling.name in properties:
                yield key.attribute, key.parse(properties[spelling.name], spelling.unit)
                break


def _parse_listeners(key: str, texts: Iterable[str]) -> tuple[Listener, ...]:
    listeners = tuple(_parse_listener(key, text) for text in texts)
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        raise UsageError(f"{key} uses a listener name twice: {', '.join(names)}")
    if key == "listeners" and not listeners:
        raise UsageError("listeners is empty", hint="for example listeners=PLAINTEXT://127.0.0.1:9092")
    return listeners


def _parse_listener(key: str, text: str) -> Listener:
    name, _, address = text.partition("://")
    host, colon, port = address.rpartition(":")
    if not (name and colon and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"{key}: {text!r} is not NAME://host:port")
    if name.upper() in _UNSUPPORTED_PROTOCOLS:
        raise UsageError(f"{key}: {name} is not supported; listeners are plaintext")
    return Listener(name=name.upper(), host=host.strip("[]"), port=int(port))
