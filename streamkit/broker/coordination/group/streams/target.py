"""Who shall run what: the target assignment of a group epoch, and the records that lead to it.

It is put off twice. A group that was empty waits a while for more members, so that the first of many does not
build up state that it then has to give away (`streams.initial.rebalance.delay.ms`); and two assignments lie
some time apart (`streams.assignment.interval.ms`). Members are told meanwhile that they have to wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamkit.broker.coordination.group.streams.assignor import Claimant
from streamkit.broker.coordination.group.streams.assignor import assign as divide
from streamkit.broker.coordination.group.streams.group import StreamsDraft, StreamsGroup
from streamkit.broker.coordination.group.streams.internal_topics import Problem, StatusCode
from streamkit.broker.coordination.group.streams.records import GroupMetadataValue, KeyValue
from streamkit.broker.coordination.group.streams.tasks import NOTHING, Tasks
from streamkit.broker.coordination.group.vocabulary import RebalanceReason

FIRST_ASSIGNMENT: Final = "initial"
"""The deadline until which a new group waits for more members."""
STANDBY_REPLICAS: Final = "num.standby.replicas"


def begin_epoch(
    draft: StreamsDraft,
    reason: RebalanceReason,
    *,
    metadata_hash: int,
    validated_topology_epoch: int,
    assignment_configs: Mapping[str, str],
) -> None:
    """The tasks have to be divided anew."""
    configs = [KeyValue(key=key, value=text) for key, text in sorted(assignment_configs.items())]
    value = GroupMetadataValue(
        epoch=draft.group.epoch + 1,
        metadata_hash=metadata_hash,
        validated_topology_epoch=validated_topology_epoch,
        last_assignment_configs=configs,
    )
    draft.begin_epoch(value, reason)


def put_off(draft: StreamsDraft) -> None:
    """Somebody joins an empty group: give others the time to join, too, before the tasks are divided."""
    delay_ms = draft.group.cluster.group_config(draft.group.group_id).streams_initial_rebalance_delay_ms
    if delay_ms and not draft.is_expected(FIRST_ASSIGNMENT):
        draft.expect(FIRST_ASSIGNMENT, "", delay_ms)


def assignment_configs(group: StreamsGroup) -> dict[str, str]:
    """The settings that decide how tasks are divided."""
    settings = group.cluster.group_config(group.group_id)
    return {STANDBY_REPLICAS: str(settings.streams_num_standby_replicas)}


def assign(draft: StreamsDraft) -> Problem | None:
    """Compute the target for the group's epoch, if there is none yet; or say why that has to wait."""
    if draft.is_expected(FIRST_ASSIGNMENT):
        return Problem(
            StatusCode.ASSIGNMENT_DELAYED, "Assignment delayed due to the configured initial rebalance delay."
        )
    if draft.group.epoch <= draft.group.target_epoch:
        return None
    if not _may_assign(draft):
        return Problem(
            StatusCode.ASSIGNMENT_DELAYED, "Assignment delayed due to the configured assignment interval."
        )
    draft.write_target(_parts(draft.group))
    return None


def _may_assign(draft: StreamsDraft) -> bool:
    group = draft.group
    interval_ms = group.cluster.group_config(group.group_id).streams_assignment_interval_ms
    last_ms = group.target_computed_ms
    return not last_ms or not 0 <= draft.decision.at.wall_ms - last_ms < interval_ms


def _parts(group: StreamsGroup) -> dict[str, Tasks]:
    """Nothing for anybody while the topology lacks topics."""
    configured = group.soft.configured
    if configured is None or not configured.is_ready:
        return dict.fromkeys(sorted(group.members), NOTHING)
    claimants = [
        Claimant(member_id, member.process_id, group.part_of(member_id))
        for member_id, member in sorted(group.members.items())
    ]
    replicas = int(group.assignment_configs.get(STANDBY_REPLICAS, 0))
    return divide(claimants, configured.subtopologies, replicas)
