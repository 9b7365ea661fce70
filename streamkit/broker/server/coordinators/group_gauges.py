"""Who is in which group, in which state, and how far behind: measured when somebody looks.

Lag in records is the distance from a committed offset to the high watermark. Lag in seconds is the age of the
record at the committed offset, the next one that the group will read: its timestamp is looked up in the log,
never interpolated. Such a look-up may touch the disk, so a scrape reports the ages it knows of and starts
looking for the others; they are there at the next scrape.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from streamkit.broker.coordination.group.records import OffsetCommitValue
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.errors import StreamkitError
from streamkit.protocol.records.record import decode_records
from streamkit.runtime.contracts.spawn import TaskHandle
from streamkit.telemetry.instruments import Family, Gauge

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


class Position(NamedTuple):
    """Where a group will read on."""

    topic: str
    partition: int
    offset: int


class GroupGauges:
    """Registers itself with the broker's registry."""

    def __init__(self, broker: Broker) -> None:
        registry = broker.metrics
        self._broker = broker
        self._members = registry.gauge("group_members", "Members of a consumer group", ("group",))
        self._state = registry.gauge(
            "group_state", "1 for the state that a consumer group is in", ("group", "state")
        )
        self._lag_records = registry.gauge(
            "group_lag_records",
            "Records between committed offsets and the high watermark",
            ("group", "topic"),
        )
        self._lag_seconds = registry.gauge(
            "group_lag_seconds_max",
            "Age of the oldest next record of a topic's partitions",
            ("group", "topic"),
        )
        self._timestamps: dict[Position, int] = {}
        self._looking: TaskHandle | None = None
        registry.on_scrape.append(self._set)

    def _set(self) -> None:
        groups = [group for shard in self._broker.groups.coordinators() for group in shard.groups.values()]
        replace_children(self._members, {(group.group_id,): len(group.members) for group in groups})
        replace_children(self._state, {(group.group_id, group.state.value): 1 for group in groups})
        self._set_lag()

    def _set_lag(self) -> None:
        records: dict[tuple[str, ...], float] = defaultdict(float)
        seconds: dict[tuple[str, ...], float] = defaultdict(float)
        behind: dict[Position, None] = {}
        for group_id, position, lag in self._lags():
            key = (group_id, position.topic)
            records[key] += lag
            seconds[key] = max(seconds[key], self._age_s(position) if lag else 0)
            if lag:
                behind[position] = None
        replace_children(self._lag_records, records)
        replace_children(self._lag_seconds, seconds)
        if self._looking is None or self._looking.done():
            self._looking = self._broker.spawn.start(self._look(list(behind)), name="group-lag")

    def _lags(self) -> Iterator[tuple[str, Position, int]]:
        """Each group's position in each partition led here, with the records behind it."""
        for shard in self._broker.groups.coordinators():
            for group_id in shard.offsets.groups():
                for (topic, partition), value in shard.offsets.of(group_id).items():
                    actor = self._broker.partitions.get(topic, partition)
                    if actor is not None:
                        offset = next_offset(actor, value)
                        yield group_id, Position(topic, partition, offset), actor.high_watermark - offset

    def _age_s(self, position: Position) -> float:
        """Of the record at a position; 0 while it is unknown, and where there is none."""
        timestamp = self._timestamps.get(position)
        return 0 if timestamp is None else max(0, self._broker.clock.now_ms() - timestamp) / 1000

    async def _look(self, positions: list[Position]) -> None:
        """Find the timestamps at these positions, and forget all others."""
        found = {}
        for position in positions:
            known = self._timestamps.get(position)
            found[position] = await self._timestamp_at(position) if known is None else known
            await asyncio.sleep(0)
        self._timestamps = {position: at for position, at in found.items() if at is not None}

    async def _timestamp_at(self, position: Position) -> int | None:
        actor = self._broker.partitions.get(position.topic, position.partition)
        if actor is None:
            return None
        try:
            async for batch in actor.batches_below_high_watermark(position.offset):
                for record in decode_records(batch):
                    if record.offset >= position.offset:
                        return record.timestamp
        except (StreamkitError, OSError):
            return None  # the partition was deleted meanwhile, or its reader will say what is wrong
        return None


def next_offset(actor: PartitionActor, value: OffsetCommitValue) -> int:
    """The first record that a group which committed this has not read."""
    return min(max(value.offset, actor.log.log_start_offset), actor.high_watermark)


def replace_children(family: Family[Gauge], values: dict[tuple[str, ...], float]) -> None:
    """Set the gauges of these labels, and forget all others."""
    for labels in tuple(family.children):
        if labels not in values:
            family.forget(*labels)
    for labels, value in values.items():
        family.labels(*labels).value = value
