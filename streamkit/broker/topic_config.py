"""The keys of a topic: what it may set for itself, and which broker property sets the default for it.

Nearly each row of `TopicConfig` names its broker properties in `spellings`, so that
`BrokerConfig.topic_defaults` *is* the broker's half of these keys: nothing is declared twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streamkit.broker.config_key import (
    DAY_MS,
    HOUR_MS,
    LONG_MAX,
    InvalidValueError,
    choice,
    double,
    flag,
    hours,
    integer,
    keys_of,
    long,
    minutes,
    parsed,
    replicas,
    words,
)

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
    follower_replication_throttled_replicas: tuple[str, ...] = replicas(
        "follower.replication.throttled.replicas",
        "The replicas that, while they are not in sync, fetch within `follower.replication.throttled.rate` "
        "of their broker; `*` is all of the topic.",
    )
    index_interval_bytes: int = integer(
        "index.interval.bytes",
        4096,
        "Bytes of log between two entries of a segment's offset index.",
        low=0,
        spellings=("log.index.interval.bytes",),
    )
    leader_replication_throttled_replicas: tuple[str, ...] = replicas(
        "leader.replication.throttled.replicas",
        "The replicas that, as leaders, send to followers which are not in sync within "
        "`leader.replication.throttled.rate` of their broker; `*` is all of the topic.",
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
        altered = dataclasses.replace(self, **parsed(TOPIC_KEYS, overrides))  # type: ignore[arg-type]
        if altered.min_compaction_lag_ms > altered.max_compaction_lag_ms:
            raise InvalidValueError(
                f"Invalid value {altered.min_compaction_lag_ms} for configuration min.compaction.lag.ms: it "
                f"must not be above max.compaction.lag.ms ({altered.max_compaction_lag_ms})"
            )
        return altered


TOPIC_KEYS: Final = keys_of(TopicConfig)
