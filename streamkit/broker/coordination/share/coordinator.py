"""The share-partitions of one partition of `__share_group_state`: the shard behind the share-state APIs.

Whoever leads a partition keeps its groups' in-flight records in memory, and what must outlast it here. A
share-partition begins when the group's coordinator initialises it, in a state epoch that grows whenever the
group's offsets are altered. Each leader of the partition reads it once, which fences the leaders before;
then it writes what changes. A write of an older leader or an older state epoch is refused.

A write is an update record; after so many of them comes a snapshot, and what stands in the log before the
oldest of all last snapshots is redundant (`redundant_below`) and pruned by the shell. Share-partitions that
nobody writes to would hold the log's start back, so while others are written they get a new snapshot too.

A request that is refused raises; nothing of it is done.

Soft state: where in the log each last snapshot stands, and how many updates followed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec.structs import replace

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.shard import (
    CoordinatorRecord,
    Decision,
    Instant,
    Refusal,
    Token,
)
from streamkit.broker.coordination.share.records import (
    Forgotten,
    ShareState,
    ShareUpdate,
    Snapshot,
    parse,
    snapshot_key,
    snapshot_record,
    tombstone,
    update_record,
)
from streamkit.broker.coordination.share.states import (
    NO_EPOCH,
    NO_OFFSET,
    SharePartitionKey,
    StateBatch,
    combined,
)
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)

_COLD = "cold share-partitions"


class ShareCoordinator:
    """One shard. `exists` says whether there is a topic of that id with that partition."""

    def __init__(self, config: BrokerConfig, exists: Callable[[bytes, int], bool]) -> None:
        self.states: dict[SharePartitionKey, ShareState] = {}
        self._config = config
        self._exists = exists
        self._updates: dict[SharePartitionKey, int] = {}
        self._snapshot_offsets: dict[SharePartitionKey, int] = {}
        self._written_ms: dict[SharePartitionKey, int] = {}
        self._next_offset = 0
        self._deadlines: Deadlines[str] = Deadlines()

    # ── hard state ─────────────────────────────────────────────────────────────────────────────────────

    def replay(self, key: bytes, value: bytes | None) -> None:
        record = parse(key, value)
        if record is None:
            return
        if isinstance(record, Forgotten):
            self.states.pop(record.key, None)
            self._updates.pop(record.key, None)
            self._written_ms.pop(record.key, None)
        elif isinstance(record, Snapshot):
            self.states[record.key] = record.state
            self._updates[record.key] = 0
        else:
            known = self.states.get(record.key, ShareState())
            self.states[record.key] = updated(known, record.update)
            self._updates[record.key] = self._updates.get(record.key, 0) + 1

    def replay_in_transaction(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        """No transaction writes here."""

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """No transaction writes here."""

    def stored(self, record: CoordinatorRecord, offset: int) -> None:
        """This record is committed, at this offset."""
        self._next_offset = offset + 1
        key = snapshot_key(record.key)
        if key is None:
            return
        if record.value is None:
            self._snapshot_offsets.pop(key, None)
        else:
            self._snapshot_offsets[key] = offset

    def redundant_below(self) -> int:
        """What stands below this offset says nothing that is not said again above."""
        return min(self._snapshot_offsets.values(), default=self._next_offset)

    # ── time ───────────────────────────────────────────────────────────────────────────────────────────

    def loaded(self, decision: Decision) -> None:
        self._schedule(decision.at)

    def tick(self, at: Instant) -> Decision | None:
        if self._deadlines.pop_due(at.monotonic_ms) is None:
            return None
        decision = Decision(at)
        self._snapshot_cold(decision)
        self._schedule(at)
        return decision

    def wake_at_ms(self) -> int | None:
        return self._deadlines.wake_at_ms()

    def _schedule(self, at: Instant) -> None:
        every_ms = self._config.share_coordinator_cold_partition_snapshot_interval_ms
        self._deadlines.set(_COLD, at.monotonic_ms + every_ms)

    def _snapshot_cold(self, decision: Decision) -> None:
        """While anything is written at all, share-partitions that are not must not pin the log's start."""
        every_ms = self._config.share_coordinator_cold_partition_snapshot_interval_ms
        oldest_ms = decision.at.monotonic_ms - every_ms
        warm = {key for key, written_ms in self._written_ms.items() if written_ms > oldest_ms}
        if not warm:
            return
        now_ms = decision.at.wall_ms
        for key, known in self.states.items():
            if key not in warm and known.written_ms <= now_ms - every_ms:
                decision.records.append(snapshot_record(key, _next_snapshot(known, now_ms)))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────

    def initialize(
        self,
        key: SharePartitionKey,
        wanted: initialize_share_group_state.PartitionData,
        token: Token,
        decision: Decision,
    ) -> None:
        """Begin a share-partition, in a state epoch that is not older than the present one."""
        self._check(key)
        known = self.states.get(key)
        if known is not None and wanted.state_epoch != NO_EPOCH and known.state_epoch > wanted.state_epoch:
            raise Refusal(ErrorCode.FENCED_STATE_EPOCH)
        now_ms = decision.at.wall_ms
        before = ShareState(snapshot_epoch=-1, leader_epoch=0) if known is None else known
        begun = ShareState(
            snapshot_epoch=before.snapshot_epoch + 1,
            state_epoch=max(before.state_epoch, wanted.state_epoch),
            leader_epoch=before.leader_epoch,
            start_offset=wanted.start_offset,
            complete_count=0,
            created_ms=now_ms,
            written_ms=now_ms,
        )
        decision.records.append(snapshot_record(key, begun))
        decision.reply(token, initialize_share_group_state.PartitionResult(partition=key.partition))

    def read(
        self,
        key: SharePartitionKey,
        wanted: read_share_group_state.PartitionData,
        token: Token,
        decision: Decision,
    ) -> None:
        """What is known, to a leader of the partition; those before it are fenced from then on."""
        known = self._known(key, "Read operation on uninitialized share partition not allowed.")
        _check_leader(known, wanted.leader_epoch)
        if wanted.leader_epoch not in (NO_EPOCH, known.leader_epoch):
            update = ShareUpdate(wanted.leader_epoch, known.start_offset, known.complete_count, ())
            self._record(key, known, update, decision)
        batches = [
            read_share_group_state.StateBatch(
                first_offset=one.first,
                last_offset=one.last,
                delivery_state=one.state,
                delivery_count=one.delivery_count,
            )
            for one in known.batches
        ]
        result = read_share_group_state.PartitionResult(
            partition=key.partition,
            state_epoch=known.state_epoch,
            start_offset=known.start_offset,
            state_batches=batches,
        )
        decision.reply(token, result)

    def write(
        self,
        key: SharePartitionKey,
        wanted: write_share_group_state.PartitionData,
        token: Token,
        decision: Decision,
    ) -> None:
        """Lay what the partition's leader says over what is known."""
        known = self._known(key, "Write operation on uninitialized share partition not allowed.")
        _check_leader(known, wanted.leader_epoch)
        if wanted.state_epoch != NO_EPOCH and known.state_epoch > wanted.state_epoch:
            raise Refusal(ErrorCode.FENCED_STATE_EPOCH)
        batches = (
            StateBatch(one.first_offset, one.last_offset, one.delivery_state, one.delivery_count)
            for one in wanted.state_batches
        )
        update = ShareUpdate(
            known.leader_epoch if wanted.leader_epoch == NO_EPOCH else wanted.leader_epoch,
            wanted.start_offset,
            wanted.delivery_complete_count,
            combined((), batches, wanted.start_offset),
        )
        self._record(key, known, update, decision)
        decision.reply(token, write_share_group_state.PartitionResult(partition=key.partition))

    def summarize(
        self,
        key: SharePartitionKey,
        wanted: read_share_group_state_summary.PartitionData,
        token: Token,
        decision: Decision,
    ) -> None:
        """Where the share-partition begins; nothing is fenced, and what was never begun begins nowhere."""
        self._check(key)
        known = self.states.get(key)
        if known is None:
            result = read_share_group_state_summary.PartitionResult(
                partition=key.partition, start_offset=NO_OFFSET
            )
        else:
            result = read_share_group_state_summary.PartitionResult(
                partition=key.partition,
                state_epoch=known.state_epoch,
                leader_epoch=known.leader_epoch,
                start_offset=known.start_offset,
                delivery_complete_count=known.complete_count,
            )
        decision.reply(token, result)

    def delete(
        self,
        key: SharePartitionKey,
        wanted: delete_share_group_state.PartitionData,
        token: Token,
        decision: Decision,
    ) -> None:
        self._check(key)
        if key in self.states:
            decision.records.append(tombstone(key))
        decision.reply(token, delete_share_group_state.PartitionResult(partition=key.partition))

    def forget_topics(self, topic_ids: Collection[bytes], decision: Decision) -> None:
        """The topics are gone."""
        decision.records += [tombstone(key) for key in self.states if key.topic_id in topic_ids]

    # ── small ──────────────────────────────────────────────────────────────────────────────────────────

    def _check(self, key: SharePartitionKey) -> None:
        if key.partition < 0:
            raise Refusal(ErrorCode.INVALID_REQUEST, "The partition id cannot be a negative number.")
        if not self._exists(key.topic_id, key.partition):
            raise Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def _known(self, key: SharePartitionKey, otherwise: str) -> ShareState:
        if key.partition < 0:
            raise Refusal(ErrorCode.INVALID_REQUEST, "The partition id cannot be a negative number.")
        known = self.states.get(key)
        if known is None:
            raise Refusal(ErrorCode.INVALID_REQUEST, otherwise)
        self._check(key)
        return known

    def _record(
        self, key: SharePartitionKey, known: ShareState, update: ShareUpdate, decision: Decision
    ) -> None:
        self._written_ms[key] = decision.at.monotonic_ms
        if self._updates.get(key, 0) < self._config.share_coordinator_snapshot_update_records_per_snapshot:
            decision.records.append(update_record(key, update, snapshot_epoch=known.snapshot_epoch))
            return
        after = _next_snapshot(updated(known, update), decision.at.wall_ms)
        decision.records.append(snapshot_record(key, after))


def updated(known: ShareState, update: ShareUpdate) -> ShareState:
    start_offset = known.start_offset if update.start_offset == NO_OFFSET else update.start_offset
    return replace(
        known,
        leader_epoch=known.leader_epoch if update.leader_epoch == NO_EPOCH else update.leader_epoch,
        start_offset=start_offset,
        complete_count=update.complete_count,
        batches=combined(known.batches, update.batches, start_offset),
    )


def _next_snapshot(state: ShareState, now_ms: int) -> ShareState:
    return replace(state, snapshot_epoch=state.snapshot_epoch + 1, created_ms=now_ms, written_ms=now_ms)


def _check_leader(known: ShareState, leader_epoch: int) -> None:
    if leader_epoch != NO_EPOCH and known.leader_epoch > leader_epoch:
        raise Refusal(ErrorCode.FENCED_LEADER_EPOCH)
