"""Everybody is gathered: from the first reason for a rebalance to the next generation."""

from __future__ import annotations

from streamkit.broker.coordination.group.classic.group import ClassicGroup, ClassicState, refuse_sync
from streamkit.broker.coordination.group.vocabulary import RebalanceReason, RebalanceStarted
from streamkit.broker.coordination.shard import Decision
from streamkit.protocol.error_codes import ErrorCode


def loaded(group: ClassicGroup, decision: Decision) -> None:
    """The group was read back: its members get a whole session timeout to show that they live."""
    for member in group.members.values():
        group.expect_heartbeat(member, decision)
    if group.members and group.leader is None:
        # It was a consumer group, and the crash came before its members were gathered.
        prepare_rebalance(group, RebalanceReason.MIGRATED, decision)
    elif len(group.members) > group.config.group_max_size:
        prepare_rebalance(group, RebalanceReason.OVER_CAPACITY, decision)


def request_rebalance(group: ClassicGroup, reason: RebalanceReason, decision: Decision) -> None:
    if group.state is ClassicState.PREPARING_REBALANCE:
        complete_join_if_gathered(group, decision)
    else:
        prepare_rebalance(group, reason, decision)


def prepare_rebalance(group: ClassicGroup, reason: RebalanceReason, decision: Decision) -> None:
    now_ms = decision.at.monotonic_ms
    for member in group.members.values():
        if member.syncing is not None:
            refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, decision)
            group.expect_heartbeat(member, decision)
    group.unsynced.clear()
    group.deadlines.cancel(group.timer("sync"))
    group.is_initial = group.state is ClassicState.EMPTY
    group.came_meanwhile = False
    group.state = ClassicState.PREPARING_REBALANCE
    if group.rebalance_began_ms is None:
        group.rebalance_began_ms = now_ms
    decision.events.append(RebalanceStarted(group.group_id, reason))
    if group.is_initial:
        delay_ms = group.config.group_initial_rebalance_delay_ms
        group.initial_delay_left_ms = max(group.rebalance_timeout_ms() - delay_ms, 0)
        group.deadlines.set(group.timer("join"), now_ms + delay_ms)
    elif _all_gathered(group):
        complete_join(group, decision)
    else:
        group.deadlines.set(group.timer("join"), now_ms + group.rebalance_timeout_ms())


def join_timeout(group: ClassicGroup, decision: Decision) -> None:
    """The time to gather is over; an initial rebalance goes on for as long as members keep coming."""
    if group.state is not ClassicState.PREPARING_REBALANCE:
        return
    if group.is_initial and group.came_meanwhile and group.initial_delay_left_ms > 0:
        delay_ms = min(group.config.group_initial_rebalance_delay_ms, group.initial_delay_left_ms)
        group.came_meanwhile = False
        group.initial_delay_left_ms -= delay_ms
        group.deadlines.set(group.timer("join"), decision.at.monotonic_ms + delay_ms)
    else:
        complete_join(group, decision)


def _all_gathered(group: ClassicGroup) -> bool:
    return not group.promised and all(member.joining is not None for member in group.members.values())


def complete_join_if_gathered(group: ClassicGroup, decision: Decision) -> None:
    """An initial rebalance always waits for its delay."""
    if group.state is ClassicState.PREPARING_REBALANCE and not group.is_initial and _all_gathered(group):
        complete_join(group, decision)


def complete_join(group: ClassicGroup, decision: Decision) -> None:
    """The members that are here make the next generation."""
    for member in list(group.members.values()):
        if member.joining is None and member.instance_id is None:
            group.remove(member.member_id, decision)
    joined = [member for member in group.members.values() if member.joining is not None]
    if group.members and not joined:
        # Only static members are left, all of them away: wait until they come or their sessions end.
        retry_ms = decision.at.monotonic_ms + group.rebalance_timeout_ms()
        group.deadlines.set(group.timer("join"), retry_ms)
        return
    group.deadlines.cancel(group.timer("join"))
    group.is_initial = False
    if not joined:
        group.record(group.generation + 1, {}, decision)
        return
    if group.leader is None or group.members[group.leader].joining is None:
        group.leader = joined[0].member_id
    group.generation += 1
    group.protocol_name = group.select_protocol()
    group.subscribed = group.read_subscriptions()
    group.state = ClassicState.COMPLETING_REBALANCE
    group.unsynced = {member.member_id: None for member in joined}
    group.deadlines.set(group.timer("sync"), decision.at.monotonic_ms + group.rebalance_timeout_ms())
    for member in joined:
        member.is_new = False
        group.expect_heartbeat(member, decision)
        decision.reply(member.joining, group.joined(member, with_members=member.member_id == group.leader))
        member.joining = None
