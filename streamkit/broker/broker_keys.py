"""The keys of a broker that are not defaults of its topics and groups.

Names, defaults and meanings are Apache Kafka's wherever Kafka has the key; ours begin with `streamkit.`. A
key stands here because some code reads its attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamkit.broker.config_key import (
    DAY_MS,
    DOUBLE_MAX,
    HOUR_MS,
    INT_MAX,
    LONG_MAX,
    ConfigType,
    choice,
    double,
    flag,
    integer,
    keys_of,
    long,
    string,
    words,
)
from streamkit.broker.quorum_config import VOTERS_KEY

ASSIGNORS: Final = ("uniform", "range")


@dataclass(frozen=True, kw_only=True)
class BrokerKeys:
    """One row for each key, in the order of `docs/configuration.md`."""

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
    replica_lag_time_max_ms: int = long(
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
        dynamic=True,
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
    leader_replication_throttled_rate: int = long(
        "leader.replication.throttled.rate",
        LONG_MAX,
        "Bytes per second, at most, that this broker sends as a leader to followers that are not in sync, of "
        "the topics' `leader.replication.throttled.replicas`.",
        low=0,
        dynamic=True,
    )
    follower_replication_throttled_rate: int = long(
        "follower.replication.throttled.rate",
        LONG_MAX,
        "Bytes per second, at most, that this broker fetches while it is not in sync, of the topics' "
        "`follower.replication.throttled.replicas`.",
        low=0,
        dynamic=True,
    )
    replication_quota_window_num: int = integer(
        "replication.quota.window.num",
        11,
        "Over how many windows the rates of throttled replication are measured.",
        low=1,
    )
    replication_quota_window_size_seconds: int = integer(
        "replication.quota.window.size.seconds", 1, "How long each of these windows is.", low=1
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
    max_connections: int = integer(
        "max.connections",
        INT_MAX,
        "The most connections at a time.",
        low=0,
        dynamic=True,
    )
    max_connections_per_ip: int = integer(
        "max.connections.per.ip",
        INT_MAX,
        "The most connections at a time from one address.",
        low=0,
        dynamic=True,
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
        dynamic=True,
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
        dynamic=True,
    )
    log_cleaner_dedupe_buffer_size: int = long(
        "log.cleaner.dedupe.buffer.size",
        128 * 1024**2,
        "Memory for the keys of one cleaning, about 200 bytes each. Of a log with more new keys than fit, a "
        "part is compacted at a time.",
        low=1,
        dynamic=True,
    )
    log_cleaner_io_max_bytes_per_second: float = double(
        "log.cleaner.io.max.bytes.per.second",
        DOUBLE_MAX,
        "At most so much is read and written by the cleaner, on average.",
        low=1,
        dynamic=True,
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

    telemetry_max_bytes: int = integer(
        "telemetry.max.bytes",
        1024 * 1024,
        "The most bytes, compressed if they are, in one push of a client's metrics.",
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
    group_share_max_size: int = integer(
        "group.share.max.size", 200, "The most members of one share group.", low=1, high=1000
    )
    group_share_min_session_timeout_ms: int = integer(
        "group.share.min.session.timeout.ms",
        45_000,
        "The shortest `share.session.timeout.ms` that a share group may be given.",
        low=1,
    )
    group_share_max_session_timeout_ms: int = integer(
        "group.share.max.session.timeout.ms",
        60_000,
        "The longest `share.session.timeout.ms` that a share group may be given.",
        low=1,
    )
    group_share_min_heartbeat_interval_ms: int = integer(
        "group.share.min.heartbeat.interval.ms",
        5000,
        "The shortest `share.heartbeat.interval.ms` that a share group may be given.",
        low=1,
    )
    group_share_max_heartbeat_interval_ms: int = integer(
        "group.share.max.heartbeat.interval.ms",
        15_000,
        "The longest `share.heartbeat.interval.ms` that a share group may be given.",
        low=1,
    )
    group_share_min_record_lock_duration_ms: int = integer(
        "group.share.min.record.lock.duration.ms",
        15_000,
        "The shortest `share.record.lock.duration.ms` that a share group may be given.",
        low=1000,
    )
    group_share_max_record_lock_duration_ms: int = integer(
        "group.share.max.record.lock.duration.ms",
        60_000,
        "The longest `share.record.lock.duration.ms` that a share group may be given.",
        low=1000,
        high=3_600_000,
    )
    group_share_min_delivery_count_limit: int = integer(
        "group.share.min.delivery.count.limit",
        2,
        "The lowest `share.delivery.count.limit` that a share group may be given.",
        low=2,
    )
    group_share_max_delivery_count_limit: int = integer(
        "group.share.max.delivery.count.limit",
        10,
        "The highest `share.delivery.count.limit` that a share group may be given.",
        low=2,
        high=25,
    )
    group_share_min_partition_max_record_locks: int = integer(
        "group.share.min.partition.max.record.locks",
        100,
        "The lowest `share.partition.max.record.locks` that a share group may be given.",
        low=100,
    )
    group_share_max_partition_max_record_locks: int = integer(
        "group.share.max.partition.max.record.locks",
        4000,
        "The highest `share.partition.max.record.locks` that a share group may be given.",
        low=100,
        high=10_000,
    )
    group_share_max_share_sessions: int = integer(
        "group.share.max.share.sessions", 2000, "The most share sessions of this broker.", low=1
    )
    group_streams_max_size: int = integer(
        "group.streams.max.size", INT_MAX, "The most members of one streams group.", low=1
    )
    group_streams_min_session_timeout_ms: int = integer(
        "group.streams.min.session.timeout.ms",
        45_000,
        "The shortest `streams.session.timeout.ms` that a streams group may be given.",
        low=1,
    )
    group_streams_max_session_timeout_ms: int = integer(
        "group.streams.max.session.timeout.ms",
        60_000,
        "The longest `streams.session.timeout.ms` that a streams group may be given.",
        low=1,
    )
    group_streams_min_heartbeat_interval_ms: int = integer(
        "group.streams.min.heartbeat.interval.ms",
        5000,
        "The shortest `streams.heartbeat.interval.ms` that a streams group may be given.",
        low=1,
    )
    group_streams_max_heartbeat_interval_ms: int = integer(
        "group.streams.max.heartbeat.interval.ms",
        15_000,
        "The longest `streams.heartbeat.interval.ms` that a streams group may be given.",
        low=1,
    )
    group_streams_max_standby_replicas: int = integer(
        "group.streams.max.standby.replicas",
        2,
        "The highest `streams.num.standby.replicas` that a streams group may be given.",
        low=0,
    )
    group_streams_min_assignment_interval_ms: int = integer(
        "group.streams.min.assignment.interval.ms",
        0,
        "The shortest `streams.assignment.interval.ms` that a streams group may be given.",
        low=0,
    )
    group_streams_max_assignment_interval_ms: int = integer(
        "group.streams.max.assignment.interval.ms",
        15_000,
        "The longest `streams.assignment.interval.ms` that a streams group may be given.",
        low=0,
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


BROKER_KEYS: Final = keys_of(BrokerKeys)
