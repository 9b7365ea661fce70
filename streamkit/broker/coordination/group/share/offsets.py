"""What operators do with the offsets of a share group, and what becomes of states that were asked for.

AlterShareGroupOffsets (91) begins states anew at given offsets, DeleteShareGroupOffsets (92) and DeleteGroups
end them. All three want a group without members, and answer when the share coordinators have done their part;
a group whose states cannot all be deleted stays, and can be deleted again.

Each beginning of a state bears the group epoch of its time, and each alteration begins an epoch: a share
coordinator refuses whatever comes late from before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from streamkit.broker.coordination.group.cluster import Topic
from streamkit.broker.coordination.group.modern.partitions import Partition, by_topic
from streamkit.broker.coordination.group.modern.records import EpochChange
from streamkit.broker.coordination.group.share.group import ShareDraft, ShareGroup
from streamkit.broker.coordination.group.share.records import GroupMetadataValue
from streamkit.broker.coordination.group.share.states import ShareStates
from streamkit.broker.coordination.group.share.target import (
    Alteration,
    InitializeStates,
    initialize_request,
    write_states,
)
from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestTopic,
    AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic,
)
from streamkit.protocol.messages.delete_groups import DeletableGroupResult
from streamkit.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic,
)
from streamkit.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
    DeleteStateData,
    PartitionData,
)
from streamkit.protocol.messages.initialize_share_group_state import InitializeShareGroupStateResponse

NO_SUCH_PARTITION = "This server does not host this topic-partition."
NOTHING_TO_DELETE = "There is no offset information to delete."


class OffsetsDeletion(NamedTuple):
    """Who waits for the states of topics to be gone, and what could not be deleted at all."""

    token: Token
    refused: tuple[DeleteShareGroupOffsetsResponseTopic, ...]


class GroupDeletion(NamedTuple):
    """Who waits for a whole group to be gone."""

    token: Token


class DeleteStates(NamedTuple):
    """A command: have the states of share-partitions deleted, then tell the group what became of it."""

    request: DeleteShareGroupStateRequest
    deletion: OffsetsDeletion | GroupDeletion


class Failure(NamedTuple):
    """As the share coordinator put it, be it in the codes of a later version."""

    code: int
    message: str | None


# ── alter ───────────────────────────────────────────────────────────────────────────────────────────────


def alter(
    group: ShareGroup, request: AlterShareGroupOffsetsRequest, token: Token, decision: Decision
) -> None:
    """Begin states anew; the answer waits for them, but for those that no partition has."""
    _check_empty(group)
    offsets: dict[Partition, int] = {}
    names: dict[bytes, str] = {}
    answers = []
    for wanted in request.topics:
        topic = group.cluster.topic(wanted.topic_name)
        answers.append(_alteration(topic, wanted))
        for partition in wanted.partitions if topic is not None else ():
            if topic is not None and 0 <= partition.partition_index < topic.partitions:
                names[topic.topic_id] = topic.name
                offsets[Partition(topic.topic_id, partition.partition_index)] = partition.start_offset
    response = AlterShareGroupOffsetsResponse(responses=answers)
    if not offsets:
        decision.reply(token, response)
        return
    draft = ShareDraft(group, decision)
    epoch = GroupMetadataValue(epoch=group.epoch + 1, metadata_hash=group.metadata_hash)
    draft.write(EpochChange(group.group_id, epoch))
    write_states(draft, draft.group.states.beginning(offsets, names))
    group.soft.asked.update(offsets)
    state_request = initialize_request(group, offsets, epoch.epoch)
    decision.commands.append(InitializeStates(state_request, Alteration(token, response)))


def _alteration(
    topic: Topic | None, wanted: AlterShareGroupOffsetsRequestTopic
) -> AlterShareGroupOffsetsResponseTopic:
    count = 0 if topic is None else topic.partitions
    answer = AlterShareGroupOffsetsResponseTopic(
        topic_name=wanted.topic_name,
        partitions=[
            AlterShareGroupOffsetsResponsePartition(partition_index=one.partition_index)
            if 0 <= one.partition_index < count
            else AlterShareGroupOffsetsResponsePartition(
                partition_index=one.partition_index,
                error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                error_message=NO_SUCH_PARTITION,
            )
            for one in wanted.partitions
        ],
    )
    return answer if topic is None else replace(answer, topic_id=topic.topic_id)


def initialized(
    group: ShareGroup | None,
    command: InitializeStates,
    response: InitializeShareGroupStateResponse,
    decision: Decision,
) -> None:
    """The share coordinators have answered; what did not begin is asked for again by the next heartbeat."""
    failures = _failures(response)
    if group is not None:
        asked = {Partition(t.topic_id, p.partition) for t in command.request.topics for p in t.partitions}
        group.soft.asked -= asked
        group.soft.topics_changed = True
        write_states(ShareDraft(group, decision), group.states.begun(asked - failures.keys()))
    if command.alteration is not None:
        decision.reply(command.alteration.token, _altered(command.alteration.response, failures))


def _failures(
    response: InitializeShareGroupStateResponse | DeleteShareGroupStateResponse,
) -> dict[Partition, Failure]:
    return {
        Partition(topic.topic_id, one.partition): Failure(one.error_code, one.error_message)
        for topic in response.results
        for one in topic.partitions
        if one.error_code != ErrorCode.NONE
    }


def _altered(
    response: AlterShareGroupOffsetsResponse, failures: Mapping[Partition, Failure]
) -> AlterShareGroupOffsetsResponse:
    return replace(
        response,
        responses=[
            replace(
                topic,
                partitions=[
                    _with_failure(one, failures.get(Partition(topic.topic_id, one.partition_index)))
                    for one in topic.partitions
                ],
            )
            for topic in response.responses
        ],
    )


def _with_failure(
    answer: AlterShareGroupOffsetsResponsePartition, failure: Failure | None
) -> AlterShareGroupOffsetsResponsePartition:
    if failure is None or answer.error_code:
        return answer
    return replace(answer, error_code=failure.code, error_message=failure.message)


# ── delete ──────────────────────────────────────────────────────────────────────────────────────────────


def delete(
    group: ShareGroup, request: DeleteShareGroupOffsetsRequest, token: Token, decision: Decision
) -> None:
    """Forget topics; a later member of the group begins with them anew."""
    _check_empty(group)
    ending: dict[bytes, Iterable[Partition]] = {}
    refused = []
    for wanted in request.topics:
        topic = group.cluster.topic(wanted.topic_name)
        partitions = None if topic is None else _deletable(group, topic)
        if topic is None or not partitions:
            refused.append(_refused(wanted.topic_name, topic))
        else:
            ending[topic.topic_id] = partitions
    if not ending:
        decision.reply(token, DeleteShareGroupOffsetsResponse(responses=refused))
        return
    write_states(ShareDraft(group, decision), group.states.ending(ending.keys()))
    state_request = _delete_request(group, (one for part in ending.values() for one in part))
    decision.commands.append(DeleteStates(state_request, OffsetsDeletion(token, tuple(refused))))


def _deletable(group: ShareGroup, topic: Topic) -> Iterable[Partition]:
    """The partitions of which there is state; all, where an earlier deletion may not have come to its end."""
    if topic.topic_id in group.states.deleting:
        return [Partition(topic.topic_id, number) for number in range(topic.partitions)]
    return group.states.of_topic(topic.topic_id)


def _refused(name: str, topic: Topic | None) -> DeleteShareGroupOffsetsResponseTopic:
    """Kafka tells no id of such a topic."""
    return DeleteShareGroupOffsetsResponseTopic(
        topic_name=name,
        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        error_message=NO_SUCH_PARTITION if topic is None else NOTHING_TO_DELETE,
    )


def delete_group(group: ShareGroup, token: Token, decision: Decision) -> None:
    """Delete a group without members: its states first, then what says that they were there."""
    if not group.is_empty:
        answer = DeletableGroupResult(group_id=group.group_id, error_code=ErrorCode.NON_EMPTY_GROUP)
        decision.reply(token, answer)
        return
    topics = (group.cluster.topic_by_id(topic_id) for topic_id in group.states.topics)
    partitions = [one for topic in topics if topic is not None for one in _deletable(group, topic)]
    if not partitions:
        _delete(group, token, decision)
        return
    write_states(ShareDraft(group, decision), group.states.ending(group.states.topics))
    decision.commands.append(DeleteStates(_delete_request(group, partitions), GroupDeletion(token)))


def _delete(group: ShareGroup, token: Token, decision: Decision) -> None:
    ShareDraft(group, decision).delete()
    decision.reply(token, DeletableGroupResult(group_id=group.group_id))


def _delete_request(group: ShareGroup, partitions: Iterable[Partition]) -> DeleteShareGroupStateRequest:
    return DeleteShareGroupStateRequest(
        group_id=group.group_id,
        topics=[
            DeleteStateData(
                topic_id=topic_id, partitions=[PartitionData(partition=number) for number in numbers]
            )
            for topic_id, numbers in by_topic(partitions).items()
        ],
    )


def deleted(
    group: ShareGroup | None,
    command: DeleteStates,
    response: DeleteShareGroupStateResponse,
    decision: Decision,
) -> None:
    """The share coordinators have answered."""
    failures: dict[bytes, Failure] = {}
    for partition, failure in _failures(response).items():
        failures.setdefault(partition.topic_id, failure)
    topic_ids = [topic.topic_id for topic in command.request.topics]
    gone = [topic_id for topic_id in topic_ids if topic_id not in failures]
    if isinstance(command.deletion, GroupDeletion):
        _group_states_deleted(group, command, gone, failures, decision)
        return
    if group is not None:
        answers = [_deleted_topic(group, topic_id, failures.get(topic_id)) for topic_id in topic_ids]
        write_states(ShareDraft(group, decision), _forgotten(group, gone))
        refused = command.deletion.refused
        reply = DeleteShareGroupOffsetsResponse(responses=[*answers, *refused])
    else:
        reply = DeleteShareGroupOffsetsResponse(error_code=ErrorCode.GROUP_ID_NOT_FOUND)
    decision.reply(command.deletion.token, reply)


def _group_states_deleted(
    group: ShareGroup | None,
    command: DeleteStates,
    gone: list[bytes],
    failures: Mapping[bytes, Failure],
    decision: Decision,
) -> None:
    """The group goes if nothing failed and nobody joined it meanwhile."""
    code: int = ErrorCode.NONE
    token, group_id = command.deletion.token, command.request.group_id
    if group is None:
        code = ErrorCode.GROUP_ID_NOT_FOUND
    elif failures or not group.is_empty:
        write_states(ShareDraft(group, decision), _forgotten(group, gone))
        code = ErrorCode.NON_EMPTY_GROUP if not failures else next(iter(failures.values())).code
    else:
        _delete(group, token, decision)
        return
    decision.reply(token, DeletableGroupResult(group_id=group_id, error_code=code))


def _forgotten(group: ShareGroup, topic_ids: Iterable[bytes]) -> ShareStates:
    """Without topics whose states are gone, unless they have been wanted again meanwhile."""
    return group.states.without(group.states.deleting.intersection(topic_ids))


def _deleted_topic(
    group: ShareGroup, topic_id: bytes, failure: Failure | None
) -> DeleteShareGroupOffsetsResponseTopic:
    answer = DeleteShareGroupOffsetsResponseTopic(
        topic_name=group.states.names.get(topic_id, ""), topic_id=topic_id
    )
    if failure is None:
        return answer
    return replace(answer, error_code=failure.code, error_message=failure.message)


def forget_topics(group: ShareGroup, decision: Decision) -> None:
    """Topics were deleted: their states go without us, and what the group wrote of them is in the way."""
    lost = [topic_id for topic_id in group.states.topics if group.cluster.topic_by_id(topic_id) is None]
    if lost:
        write_states(ShareDraft(group, decision), group.states.without(lost))


def _check_empty(group: ShareGroup) -> None:
    if not group.is_empty:
        raise Refusal(ErrorCode.NON_EMPTY_GROUP, "The group is not empty.")
