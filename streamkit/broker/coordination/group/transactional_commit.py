"""TxnOffsetCommit (28) in terms of OffsetCommit (8): the same offsets, sent by a producer."""

from __future__ import annotations

from msgspec.structs import replace

from streamkit.broker.coordination.group.transactional_offsets import TransactionalOffsets
from streamkit.broker.coordination.shard import Refusal
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
)
from streamkit.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)


def as_offset_commit(request: TxnOffsetCommitRequest) -> OffsetCommitRequest:
    return OffsetCommitRequest(
        group_id=request.group_id,
        generation_id_or_member_epoch=request.generation_id,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        topics=[
            OffsetCommitRequestTopic(
                name=topic.name,
                partitions=[
                    OffsetCommitRequestPartition(
                        partition_index=partition.partition_index,
                        committed_offset=partition.committed_offset,
                        committed_leader_epoch=partition.committed_leader_epoch,
                        committed_metadata=partition.committed_metadata,
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )


def as_transactional(response: OffsetCommitResponse) -> TxnOffsetCommitResponse:
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    TxnOffsetCommitResponsePartition(
                        partition_index=partition.partition_index, error_code=partition.error_code
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in response.topics
        ]
    )


def claims_membership(request: TxnOffsetCommitRequest) -> bool:
    """Before version 3, and from producers that consume without a group, there is nothing to check."""
    return bool(request.generation_id >= 0 or request.member_id or request.group_instance_id is not None)


def refusal_in_transaction(refusal: Refusal) -> ErrorCode:
    """Producers know of generations only."""
    is_epoch = refusal.code in (ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND)
    return ErrorCode.ILLEGAL_GENERATION if is_epoch else refusal.code


def unstable(found: OffsetFetchResponseGroup, pending: TransactionalOffsets) -> OffsetFetchResponseGroup:
    """What was found, but an error for each partition whose offset a transaction may still change."""
    if not pending.has_group(found.group_id):
        return found
    return replace(
        found,
        topics=[
            replace(
                topic,
                partitions=[
                    OffsetFetchResponsePartitions(
                        partition_index=one.partition_index,
                        committed_offset=-1,
                        error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT,
                    )
                    if pending.is_open(found.group_id, topic.name, one.partition_index)
                    else one
                    for one in topic.partitions
                ],
            )
            for topic in found.topics
        ],
    )
