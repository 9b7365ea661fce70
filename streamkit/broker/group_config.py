"""The keys of a group: what it may set for itself, which broker property sets the default, and the bounds.

A group need not exist to be configured. What it is given must lie within the broker's bounds when it is
altered, and is drawn into them when it is used: the bounds of another broker, or of a later start, may be
closer.

Another kind of group adds here: its keys as fields of `GroupConfig` (`share.…`, `streams.…`; each with the
broker property of its default in `spellings`), a row of `BOUNDS` for each key that a broker bounds (the
bounds are keys of the broker, in `broker_keys`), and a row of `SESSIONS` if its members send heartbeats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamkit.broker.broker_keys import BROKER_KEYS, BrokerKeys
from streamkit.broker.config_key import InvalidValueError, choice, flag, integer, keys_of, parsed, string
from streamkit.broker.offset_reset import parse_reset


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """What one group does; a group may override each key, a broker property sets its default."""

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
    share_session_timeout_ms: int = integer(
        "share.session.timeout.ms",
        45_000,
        "How long a member of the share group may be silent before it is removed.",
        low=1,
        spellings=("group.share.session.timeout.ms",),
    )
    share_heartbeat_interval_ms: int = integer(
        "share.heartbeat.interval.ms",
        5000,
        "How often the members of the share group are told to send a heartbeat.",
        low=1,
        spellings=("group.share.heartbeat.interval.ms",),
    )
    share_record_lock_duration_ms: int = integer(
        "share.record.lock.duration.ms",
        30_000,
        "How long a consumer of the share group may take to acknowledge a record, or to renew its lock.",
        low=1000,
        high=3_600_000,
        spellings=("group.share.record.lock.duration.ms",),
    )
    share_delivery_count_limit: int = integer(
        "share.delivery.count.limit",
        5,
        "How often the share group is given a record before it is archived unaccepted.",
        low=2,
        high=25,
        spellings=("group.share.delivery.count.limit",),
    )
    share_partition_max_record_locks: int = integer(
        "share.partition.max.record.locks",
        2000,
        "How far the share group may be ahead of its oldest unfinished record in a partition, in records.",
        low=100,
        high=10_000,
        spellings=("group.share.partition.max.record.locks",),
    )
    share_auto_offset_reset: str = string(
        "share.auto.offset.reset",
        "latest",
        "Where the share group begins with a partition: `earliest`, `latest`, or `by_duration:` and an "
        "ISO 8601 duration.",
    )
    share_isolation_level: str = choice(
        "share.isolation.level",
        "read_uncommitted",
        "Whether the share group is given records of transactions before they are committed.",
        ("read_uncommitted", "read_committed"),
    )
    share_renew_acknowledge_enable: bool = flag(
        "share.renew.acknowledge.enable",
        True,
        "Whether consumers of the share group may renew the lock of a record.",
    )
    streams_session_timeout_ms: int = integer(
        "streams.session.timeout.ms",
        45_000,
        "How long a member of the streams group may be silent before it is removed.",
        low=1,
        spellings=("group.streams.session.timeout.ms",),
    )
    streams_heartbeat_interval_ms: int = integer(
        "streams.heartbeat.interval.ms",
        5000,
        "How often the members of the streams group are told to send a heartbeat.",
        low=1,
        spellings=("group.streams.heartbeat.interval.ms",),
    )
    streams_num_standby_replicas: int = integer(
        "streams.num.standby.replicas",
        0,
        "How many copies of each task's state the streams group keeps ready beside the one in use.",
        low=0,
        spellings=("group.streams.num.standby.replicas",),
    )
    streams_initial_rebalance_delay_ms: int = integer(
        "streams.initial.rebalance.delay.ms",
        3000,
        "How long a streams group that was empty waits for more members before it divides its tasks.",
        low=0,
        spellings=("group.streams.initial.rebalance.delay.ms",),
    )
    streams_assignment_interval_ms: int = integer(
        "streams.assignment.interval.ms",
        1000,
        "How long, at least, a streams group keeps to one division of its tasks before the next.",
        low=0,
        spellings=("group.streams.assignment.interval.ms",),
    )

    def altered(self, overrides: Mapping[str, str]) -> GroupConfig:
        """These values with a group's own in front of them; raises InvalidValueError, KeyError."""
        if not overrides:
            return self
        return dataclasses.replace(self, **parsed(GROUP_KEYS, overrides))  # type: ignore[arg-type]

    def check(self, broker: BrokerKeys) -> None:
        """Refuse what no group of this broker may have; raises InvalidValueError."""
        for bounds in BOUNDS:
            value = _number(self, bounds.key)
            if bounds.low and value < _bound(broker, bounds.low):
                raise InvalidValueError(f"{bounds.key} must be greater than or equal to {bounds.low}")
            if bounds.high and value > _bound(broker, bounds.high):
                raise InvalidValueError(f"{bounds.key} must be less than or equal to {bounds.high}")
        if parse_reset(self.share_auto_offset_reset) is None:
            raise InvalidValueError(
                f"share.auto.offset.reset: {self.share_auto_offset_reset!r} is not earliest, latest or "
                "by_duration:PnDTnHnMn.nS"
            )
        for session, heartbeat in SESSIONS:
            if _number(self, session) <= _number(self, heartbeat):
                raise InvalidValueError(f"{session} must be greater than {heartbeat}")

    def within(self, broker: BrokerKeys) -> GroupConfig:
        """These values, each no further than the broker's bounds."""
        drawn: dict[str, Any] = {}
        for bounds in BOUNDS:
            value = _number(self, bounds.key)
            low = _bound(broker, bounds.low) if bounds.low else value
            high = _bound(broker, bounds.high) if bounds.high else value
            if not low <= value <= high:
                drawn[GROUP_KEYS[bounds.key].attribute] = min(max(value, low), high)
        return dataclasses.replace(self, **drawn) if drawn else self


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The keys of the broker between whose values, both included, a group's key must lie."""

    key: str
    low: str = ""
    high: str = ""


GROUP_KEYS: Final = keys_of(GroupConfig)
BOUNDS: Final = (
    Bounds(
        key="consumer.session.timeout.ms",
        low="group.consumer.min.session.timeout.ms",
        high="group.consumer.max.session.timeout.ms",
    ),
    Bounds(
        key="consumer.heartbeat.interval.ms",
        low="group.consumer.min.heartbeat.interval.ms",
        high="group.consumer.max.heartbeat.interval.ms",
    ),
    Bounds(
        key="share.session.timeout.ms",
        low="group.share.min.session.timeout.ms",
        high="group.share.max.session.timeout.ms",
    ),
    Bounds(
        key="share.heartbeat.interval.ms",
        low="group.share.min.heartbeat.interval.ms",
        high="group.share.max.heartbeat.interval.ms",
    ),
    Bounds(
        key="share.record.lock.duration.ms",
        low="group.share.min.record.lock.duration.ms",
        high="group.share.max.record.lock.duration.ms",
    ),
    Bounds(
        key="share.delivery.count.limit",
        low="group.share.min.delivery.count.limit",
        high="group.share.max.delivery.count.limit",
    ),
    Bounds(
        key="share.partition.max.record.locks",
        low="group.share.min.partition.max.record.locks",
        high="group.share.max.partition.max.record.locks",
    ),
    Bounds(
        key="streams.session.timeout.ms",
        low="group.streams.min.session.timeout.ms",
        high="group.streams.max.session.timeout.ms",
    ),
    Bounds(
        key="streams.heartbeat.interval.ms",
        low="group.streams.min.heartbeat.interval.ms",
        high="group.streams.max.heartbeat.interval.ms",
    ),
    Bounds(key="streams.num.standby.replicas", high="group.streams.max.standby.replicas"),
    Bounds(
        key="streams.assignment.interval.ms",
        low="group.streams.min.assignment.interval.ms",
        high="group.streams.max.assignment.interval.ms",
    ),
)
# Of each pair the first must be the longer.
SESSIONS: Final = (
    ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
)


def _number(group: GroupConfig, name: str) -> int:
    return int(getattr(group, GROUP_KEYS[name].attribute))


def _bound(broker: BrokerKeys, name: str) -> int:
    return int(getattr(broker, BROKER_KEYS[name].attribute))
