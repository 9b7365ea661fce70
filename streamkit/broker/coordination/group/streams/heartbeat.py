"""StreamsGroupHeartbeat (88): a member says what it runs and has, and is told its tasks.

One request does everything: a member joins with epoch 0 and its topology, lives with its epoch, leaves with
-1. A field that is null says that nothing changed. An answer carries the member's tasks when they have
changed, and when the member says that it has others, as it does after an answer was lost; where each process
answers queries, when that has changed; and what the group waits for: topics, other members, the end of the
application.

Like Kafka 4.3 the coordinator takes no static members, no source topics by pattern and no offsets of tasks,
and gives no warm-up tasks.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from streamkit.broker.coordination.group.cluster import metadata_hash
from streamkit.broker.coordination.group.modern.group import GroupState
from streamkit.broker.coordination.group.modern.heartbeat import (
    HeartbeatCall,
    check_given,
    check_room,
    fenced,
)
from streamkit.broker.coordination.group.modern.member import JOINING_EPOCH, LEAVING_STATIC_EPOCH, MemberState
from streamkit.broker.coordination.group.streams.departure import remove
from streamkit.broker.coordination.group.streams.endpoints import endpoints
from streamkit.broker.coordination.group.streams.group import StreamsDraft, StreamsGroup
from streamkit.broker.coordination.group.streams.internal_topics import (
    ConfiguredTopology,
    InternalTopic,
    Problem,
    StatusCode,
    configure,
)
from streamkit.broker.coordination.group.streams.member import StreamsMember
from streamkit.broker.coordination.group.streams.reconciliation import reconciled
from streamkit.broker.coordination.group.streams.records import (
    NEVER_VALIDATED,
    Endpoint,
    TopologyChange,
)
from streamkit.broker.coordination.group.streams.target import (
    assign,
    assignment_configs,
    begin_epoch,
    put_off,
)
from streamkit.broker.coordination.group.streams.tasks import Task, Tasks, task_ids, tasks_of
from streamkit.broker.coordination.group.streams.topology import Topology, check_whole, said
from streamkit.broker.coordination.group.streams.topology import check as check_topology
from streamkit.broker.coordination.group.vocabulary import RebalanceReason
from streamkit.broker.coordination.shard import Decision, Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_heartbeat import (
    Status,
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
    StreamsGroupHeartbeatResponseTaskIds,
)

NEVER_GIVEN: Final = -1


Call: TypeAlias = HeartbeatCall[StreamsGroupHeartbeatRequest]


class CreateInternalTopics(NamedTuple):
    """For the shell: have these topics made, for this group."""

    group_id: str
    topics: tuple[InternalTopic, ...]


# ── what no group could answer ───────────────────────────────────────────────────────────────────────────


def check(request: StreamsGroupHeartbeatRequest) -> None:
    _check_supported(request)
    check_given(MemberId=request.member_id, GroupId=request.group_id, RackId=request.rack_id)
    if request.member_epoch == JOINING_EPOCH:
        _check_join(request)
    elif request.member_epoch == LEAVING_STATIC_EPOCH:
        raise _invalid("InstanceId can't be null.")
    elif request.member_epoch < LEAVING_STATIC_EPOCH:
        raise _invalid(f"MemberEpoch is {request.member_epoch}, but must be greater than or equal to -2.")
    elif request.topology is not None:
        raise _invalid("Topology can only be provided when (re-)joining.")
    roles = (request.active_tasks, request.standby_tasks, request.warmup_tasks)
    if any(role is None for role in roles) and any(role is not None for role in roles):
        raise _invalid("If one task-type is non-null, all must be non-null.")


def _check_supported(request: StreamsGroupHeartbeatRequest) -> None:
    if request.instance_id is not None:
        raise _invalid("Static membership is not yet supported.")
    if request.task_offsets is not None:
        raise _invalid("TaskOffsets are not supported yet.")
    if request.task_end_offsets is not None:
        raise _invalid("TaskEndOffsets are not supported yet.")
    if request.warmup_tasks:
        raise _invalid("WarmupTasks are not supported yet.")


def _check_join(request: StreamsGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == NEVER_GIVEN:
        raise _invalid("RebalanceTimeoutMs must be provided in first request.")
    for name, role in (
        ("ActiveTasks", request.active_tasks),
        ("StandbyTasks", request.standby_tasks),
        ("WarmupTasks", request.warmup_tasks),
    ):
        if role is None or role:
            raise _invalid(f"{name} must be empty when (re-)joining.")
    if request.topology is None:
        raise _invalid("Topology must be non-null when (re-)joining.")
    check_topology(request.topology)


def _invalid(reason: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, reason)


# ── one sign of life ─────────────────────────────────────────────────────────────────────────────────────


def heartbeat(group: StreamsGroup, call: Call, decision: Decision) -> None:
    draft = StreamsDraft(group, decision)
    if call.leaves:
        _leave(draft, call)
        return
    if call.joins:
        check_room(group, call.request.member_id, group.config.group_streams_max_size)
    before = _member(group, call)
    after = _said(before, call)
    reason = _learn(draft, before, after, call)
    configured = _look_at_topics(draft, reason)
    if configured.is_ready:
        _check_tasks(configured, _owned(call))
    if group.is_empty:
        put_off(draft)
    delay = assign(draft)
    member = _reconcile(draft, after, _owned(call))
    if draft.group.state is GroupState.STABLE:
        draft.note_completion()
    has_moved = call.joins or member.assigned != before.assigned
    _answer(draft, call, member, configured, delay, has_moved=has_moved)


def _owned(call: Call) -> Tasks | None:
    """What the member says that it has."""
    request = call.request
    if request.active_tasks is None or request.standby_tasks is None or request.warmup_tasks is None:
        return None
    return Tasks(
        active=tasks_of(request.active_tasks),
        standby=tasks_of(request.standby_tasks),
        warmup=tasks_of(request.warmup_tasks),
    )


def _member(group: StreamsGroup, call: Call) -> StreamsMember:
    """The member that this is, as it was before this request."""
    member_id = call.request.member_id
    if call.joins:
        return group.members.get(member_id) or StreamsMember(member_id=member_id)
    member = group.member(member_id)
    epoch, owned = call.request.member_epoch, _owned(call)
    if epoch == member.epoch:
        return member
    # The answer that said the new epoch may have been lost.
    lost_an_answer = epoch == member.previous_epoch and owned is not None and not (owned - member.assigned)
    if epoch > member.epoch or not lost_an_answer:
        raise fenced(group, member, epoch)
    return member


def _said(member: StreamsMember, call: Call) -> StreamsMember:
    """The member with what this request says of it."""
    request, caller = call.request, call.caller
    endpoint, tags, timeout_ms = request.user_endpoint, request.client_tags, request.rebalance_timeout_ms
    return replace(
        member,
        rack_id=member.rack_id if request.rack_id is None else request.rack_id,
        client_id=caller.client_id,
        client_host=caller.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout_ms == NEVER_GIVEN else timeout_ms,
        topology_epoch=member.topology_epoch if request.topology is None else request.topology.epoch,
        process_id=member.process_id if request.process_id is None else request.process_id,
        user_endpoint=(
            member.user_endpoint if endpoint is None else Endpoint(host=endpoint.host, port=endpoint.port)
        ),
        client_tags=(
            member.client_tags if tags is None else tuple(sorted((tag.key, tag.value) for tag in tags))
        ),
    )


def _learn(
    draft: StreamsDraft, before: StreamsMember, after: StreamsMember, call: Call
) -> RebalanceReason | None:
    """Write down what is new of the member and its topology; why the tasks must be divided anew, if so."""
    reason = None
    if after.member_id not in draft.group.members:
        reason = RebalanceReason.MEMBER_JOINED
    elif after != before:
        reason = RebalanceReason.MEMBER_CHANGED
    if reason is not None:
        draft.write_metadata(after)
    topology = call.request.topology
    if topology is None:
        return reason
    known = draft.group.topology
    value = said(topology)
    if known is None:
        check_whole(value)
        draft.write(TopologyChange(draft.group.group_id, value))
        draft.group.soft.topics_changed = True
    elif known.epoch <= value.epoch and not known.is_the_same_as(Topology(value)):
        raise _invalid("Topology updates are not supported yet.")
    return reason


def _look_at_topics(draft: StreamsDraft, reason: RebalanceReason | None) -> ConfiguredTopology:
    """Hold the topology against the topics that there are, and begin an epoch if anything has changed."""
    group = draft.group
    topology, soft = group.topology, group.soft
    if topology is None:
        raise Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, "The group has members and no topology.")
    configured, current_hash = soft.configured, group.metadata_hash
    if soft.topics_changed or configured is None:
        current_hash = metadata_hash(group.cluster, topology.required_topics)
        configured = configure(topology, group.cluster)
        soft.configured, soft.topics_changed = configured, False
    validated = topology.epoch if configured.is_ready else NEVER_VALIDATED
    configs = assignment_configs(group)
    if current_hash != group.metadata_hash or validated != group.validated_topology_epoch:
        reason = reason or RebalanceReason.TOPICS_CHANGED
    if configs != group.assignment_configs:
        reason = reason or RebalanceReason.SETTINGS_CHANGED
    if reason is not None:
        begin_epoch(
            draft,
            reason,
            metadata_hash=current_hash,
            validated_topology_epoch=validated,
            assignment_configs=configs,
        )
    return configured


def _check_tasks(configured: ConfiguredTopology, owned: Tasks | None) -> None:
    for task in sorted(task for role in (owned or Tasks()).roles for task in role):
        _check_task(configured, task)


def _check_task(configured: ConfiguredTopology, task: Task) -> None:
    subtopology = configured.subtopologies.get(task.subtopology)
    if subtopology is None:
        raise _invalid(f"Subtopology {task.subtopology} does not exist in the topology.")
    if not 0 <= task.partition < subtopology.tasks:
        raise _invalid(
            f"Task {task.partition} for subtopology {task.subtopology} is invalid. "
            f"Number of tasks for this subtopology: {subtopology.tasks}"
        )


def _reconcile(draft: StreamsDraft, member: StreamsMember, owned: Tasks | None) -> StreamsMember:
    further = reconciled(draft.group, member, draft.group.part_of(member.member_id), owned)
    if further == member:
        return member
    draft.write_current(further)
    if further.state is MemberState.UNREVOKED:
        draft.expect("revoke", member.member_id, member.rebalance_timeout_ms)
    else:
        draft.cancel("revoke", member.member_id)
    return further


def _leave(draft: StreamsDraft, call: Call) -> None:
    member = draft.group.member(call.request.member_id)
    if call.request.shutdown_application:
        _request_shutdown(draft.group, member.member_id)
    remove(draft, member.member_id, RebalanceReason.MEMBER_LEFT)
    draft.decision.reply(
        call.token,
        StreamsGroupHeartbeatResponse(member_id=member.member_id, member_epoch=call.request.member_epoch),
    )


def _request_shutdown(group: StreamsGroup, member_id: str) -> None:
    if group.soft.shutdown_requested_by is None:
        group.soft.shutdown_requested_by = member_id


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────


def _answer(
    draft: StreamsDraft,
    call: Call,
    member: StreamsMember,
    configured: ConfiguredTopology,
    delay: Problem | None,
    *,
    has_moved: bool,
) -> None:
    group, request = draft.group, call.request
    settings = group.cluster.group_config(group.group_id)
    draft.expect("session", member.member_id, settings.streams_session_timeout_ms)
    if request.shutdown_application:
        _request_shutdown(group, member.member_id)
    if has_moved and member.user_endpoint is not None:
        group.soft.endpoint_epoch += 1
    if configured.missing:
        draft.decision.commands.append(CreateInternalTopics(group.group_id, configured.missing))
    answer = StreamsGroupHeartbeatResponse(
        member_id=member.member_id,
        member_epoch=member.epoch,
        heartbeat_interval_ms=settings.streams_heartbeat_interval_ms,
        status=_statuses(group, member, configured, delay),
        endpoint_information_epoch=group.soft.endpoint_epoch,
    )
    if has_moved or _owned(call) not in (None, member.assigned):
        answer = _with_tasks(answer, member.assigned)
    if request.endpoint_information_epoch != group.soft.endpoint_epoch:
        answer = replace(answer, partitions_by_user_endpoint=endpoints(group))
    draft.decision.reply(call.token, answer)


def _with_tasks(answer: StreamsGroupHeartbeatResponse, tasks: Tasks) -> StreamsGroupHeartbeatResponse:
    return replace(
        answer,
        active_tasks=task_ids(StreamsGroupHeartbeatResponseTaskIds, tasks.active),
        standby_tasks=task_ids(StreamsGroupHeartbeatResponseTaskIds, tasks.standby),
        warmup_tasks=task_ids(StreamsGroupHeartbeatResponseTaskIds, tasks.warmup),
    )


def _statuses(
    group: StreamsGroup, member: StreamsMember, configured: ConfiguredTopology, delay: Problem | None
) -> list[Status]:
    """What the member should know of the group, in Kafka's order."""
    found = (_staleness(group, member), delay, configured.problem, _shutdown(group))
    return [
        Status(status_code=problem.status, status_detail=problem.detail)
        for problem in found
        if problem is not None
    ]


def _staleness(group: StreamsGroup, member: StreamsMember) -> Problem | None:
    if group.topology is None or member.topology_epoch >= group.topology.epoch:
        return None
    return Problem(
        StatusCode.STALE_TOPOLOGY,
        f"The member's topology epoch {member.topology_epoch} is behind the group's topology epoch "
        f"{group.topology.epoch}.",
    )


def _shutdown(group: StreamsGroup) -> Problem | None:
    if group.soft.shutdown_requested_by is None:
        return None
    return Problem(
        StatusCode.SHUTDOWN_APPLICATION,
        f"Streams group member {group.soft.shutdown_requested_by} encountered a fatal error and requested a "
        "shutdown for the entire application.",
    )
