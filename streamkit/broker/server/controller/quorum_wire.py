"""The quorum's messages as Kafka's RPCs, both ways: topics, wrappers and endpoints put on and taken off."""

from __future__ import annotations

from typing import Any, Final

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.raft import messages as raft
from streamkit.broker.raft.control_records import voters_in
from streamkit.broker.raft.log_view import LogPosition, SnapshotId
from streamkit.broker.raft.voters import Endpoint, ReplicaKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import begin_quorum_epoch as begin
from streamkit.protocol.messages import end_quorum_epoch as end
from streamkit.protocol.messages import fetch, fetch_snapshot, update_raft_voter, vote
from streamkit.protocol.records.batch import Buffer, batches
from streamkit.protocol.schema import Message

METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
MAX_FETCH_BYTES: Final = 8 << 20
SNAPSHOT_CHUNK_BYTES: Final = 1 << 20
UNKNOWN_EPOCH: Final = -1

WIRE_VERSIONS: Final = {
    raft.VoteRequest: 2,
    raft.BeginEpochRequest: 1,
    raft.EndEpochRequest: 1,
    raft.FetchRequest: 18,
    raft.FetchSnapshotRequest: 1,
}


def error_of(code: int) -> ErrorCode:
    return ErrorCode(code)  # type: ignore[call-arg]  # looked up by value


# -- our requests, and what is answered to them


def to_wire(
    request: raft.PeerRequest, cluster_id: str | None, own_endpoints: tuple[Endpoint, ...], max_bytes: int
) -> Message:
    match request:
        case raft.VoteRequest():
            return _vote(request, cluster_id)
        case raft.BeginEpochRequest():
            partition = begin.BeginQuorumEpochRequestPartitionData(
                voter_directory_id=request.voter.directory_id,
                leader_id=request.leader_id,
                leader_epoch=request.epoch,
            )
            return begin.BeginQuorumEpochRequest(
                cluster_id=cluster_id,
                voter_id=request.voter.id,
                topics=[
                    begin.BeginQuorumEpochRequestTopicData(
                        topic_name=CLUSTER_METADATA, partitions=[partition]
                    )
                ],
                leader_endpoints=[
                    begin.LeaderEndpoint(name=e.name, host=e.host, port=e.port) for e in own_endpoints
                ],
            )
        case raft.EndEpochRequest():
            return _end_epoch(request, cluster_id, own_endpoints)
        case raft.FetchRequest():
            return _fetch(request, cluster_id, max_bytes)
        case raft.FetchSnapshotRequest():
            return _fetch_snapshot(request, cluster_id)


def _vote(request: raft.VoteRequest, cluster_id: str | None) -> vote.VoteRequest:
    partition = vote.VoteRequestPartitionData(
        replica_epoch=request.epoch,
        replica_id=request.candidate.id,
        replica_directory_id=request.candidate.directory_id,
        voter_directory_id=request.voter.directory_id,
        last_offset_epoch=request.last.epoch,
        last_offset=request.last.offset,
        pre_vote=request.pre_vote,
    )
    topic = vote.VoteRequestTopicData(topic_name=CLUSTER_METADATA, partitions=[partition])
    return vote.VoteRequest(cluster_id=cluster_id, voter_id=request.voter.id, topics=[topic])


def _end_epoch(
    request: raft.EndEpochRequest, cluster_id: str | None, own_endpoints: tuple[Endpoint, ...]
) -> end.EndQuorumEpochRequest:
    partition = end.EndQuorumEpochRequestPartitionData(
        leader_id=request.leader_id,
        leader_epoch=request.epoch,
        preferred_candidates=[
            end.ReplicaInfo(candidate_id=key.id, candidate_directory_id=key.directory_id)
            for key in request.candidates
        ],
    )
    return end.EndQuorumEpochRequest(
        cluster_id=cluster_id,
        topics=[end.EndQuorumEpochRequestTopicData(topic_name=CLUSTER_METADATA, partitions=[partition])],
        leader_endpoints=[end.LeaderEndpoint(name=e.name, host=e.host, port=e.port) for e in own_endpoints],
    )


def _fetch(request: raft.FetchRequest, cluster_id: str | None, max_bytes: int) -> fetch.FetchRequest:
    partition = fetch.FetchPartition(
        current_leader_epoch=request.epoch,
        fetch_offset=request.last.offset,
        last_fetched_epoch=request.last.epoch,
        partition_max_bytes=max_bytes,
        replica_directory_id=request.replica.directory_id,
        high_watermark=request.high_watermark,
    )
    return fetch.FetchRequest(
        cluster_id=cluster_id,
        replica_state=fetch.ReplicaState(replica_id=request.replica.id),
        max_wait_ms=request.max_wait_ms,
        max_bytes=max_bytes,
        topics=[fetch.FetchTopic(topic_id=METADATA_TOPIC_ID, partitions=[partition])],
    )


def _fetch_snapshot(
    request: raft.FetchSnapshotRequest, cluster_id: str | None
) -> fetch_snapshot.FetchSnapshotRequest:
    partition = fetch_snapshot.FetchSnapshotRequestPartitionSnapshot(
        current_leader_epoch=request.epoch,
        snapshot_id=fetch_snapshot.FetchSnapshotRequestSnapshotId(
            end_offset=request.snapshot.end_offset, epoch=request.snapshot.epoch
        ),
        position=request.position,
        replica_directory_id=request.replica.directory_id,
    )
    topic = fetch_snapshot.FetchSnapshotRequestTopicSnapshot(name=CLUSTER_METADATA, partitions=[partition])
    return fetch_snapshot.FetchSnapshotRequest(
        cluster_id=cluster_id,
        replica_id=request.replica.id,
        max_bytes=SNAPSHOT_CHUNK_BYTES,
        topics=[topic],
    )


def update_to_wire(
    request: raft.UpdateVoterRequest, cluster_id: str
) -> update_raft_voter.UpdateRaftVoterRequest:
    voter = request.voter
    return update_raft_voter.UpdateRaftVoterRequest(
        cluster_id=cluster_id,
        current_leader_epoch=request.epoch,
        voter_id=voter.key.id,
        voter_directory_id=voter.key.directory_id,
        listeners=[
            update_raft_voter.Listener(name=one.name, host=one.host, port=one.port) for one in voter.endpoints
        ],
        k_raft_version_feature=update_raft_voter.KRaftVersionFeature(
            min_supported_version=voter.min_kraft_version, max_supported_version=voter.max_kraft_version
        ),
    )


def reply_from_wire(request: raft.PeerRequest, response: Any) -> raft.Reply:
    """What a peer answered; an answer without our partition says nothing of epochs and leaders."""
    partition, error = _our_partition(response)
    match request:
        case raft.VoteRequest():
            return raft.VoteReply(UNKNOWN_EPOCH, error=error) if error else _vote_reply(partition)
        case raft.BeginEpochRequest() | raft.EndEpochRequest():
            return raft.EpochReply(UNKNOWN_EPOCH, error=error) if error else _epoch_reply(partition)
        case raft.FetchRequest():
            return raft.FetchReply(UNKNOWN_EPOCH, error=error) if error else _fetch_reply(partition)
        case raft.FetchSnapshotRequest():
            if error:
                return raft.FetchSnapshotReply(UNKNOWN_EPOCH, error=error)
            return _fetch_snapshot_reply(partition)


def _our_partition(response: Any) -> tuple[Any, ErrorCode]:
    """The one partition that was asked about, or why it is not there."""
    topics = response.responses if isinstance(response, fetch.FetchResponse) else response.topics
    if response.error_code == ErrorCode.NONE and topics and topics[0].partitions:
        return topics[0].partitions[0], ErrorCode.NONE
    return None, error_of(response.error_code or ErrorCode.UNKNOWN_SERVER_ERROR)


def _vote_reply(partition: vote.VoteResponsePartitionData) -> raft.VoteReply:
    return raft.VoteReply(
        epoch=partition.leader_epoch,
        leader_id=partition.leader_id,
        granted=partition.vote_granted,
        error=error_of(partition.error_code),
    )


def _epoch_reply(partition: begin.BeginQuorumEpochResponsePartitionData) -> raft.EpochReply:
    return raft.EpochReply(
        epoch=partition.leader_epoch, leader_id=partition.leader_id, error=error_of(partition.error_code)
    )


def _fetch_reply(partition: fetch.PartitionData) -> raft.FetchReply:
    diverging, snapshot = partition.diverging_epoch, partition.snapshot_id
    return raft.FetchReply(
        epoch=partition.current_leader.leader_epoch,
        leader_id=partition.current_leader.leader_id,
        error=error_of(partition.error_code),
        high_watermark=partition.high_watermark,
        log_start_offset=partition.log_start_offset,
        diverging=(LogPosition(diverging.epoch, diverging.end_offset) if diverging.end_offset >= 0 else None),
        snapshot=SnapshotId(snapshot.end_offset, snapshot.epoch) if snapshot.end_offset >= 0 else None,
        batches=_fetched(partition.records),
    )


def _fetched(records: Any) -> tuple[raft.Batch, ...]:
    """The batches in a fetch's answer; the first that is cut off or unreadable ends them."""
    return tuple(
        raft.Batch(
            base_offset=header.base_offset,
            next_offset=header.next_offset,
            epoch=header.leader_epoch,
            payload=bytes(batch),
            voters=voters_in(batch) if header.is_control else None,
        )
        for header, batch in batches(records or b"")
    )


def _fetch_snapshot_reply(
    partition: fetch_snapshot.FetchSnapshotResponsePartitionSnapshot,
) -> raft.FetchSnapshotReply:
    data = partition.unaligned_records
    assert not isinstance(data, list), "decoded records are one buffer"
    return raft.FetchSnapshotReply(
        epoch=partition.current_leader.leader_epoch,
        leader_id=partition.current_leader.leader_id,
        error=error_of(partition.error_code),
        snapshot=SnapshotId(partition.snapshot_id.end_offset, partition.snapshot_id.epoch),
        size=partition.size,
        position=partition.position,
        data=bytes(data or b""),
    )


def leader_endpoint_in(response: Any) -> tuple[int, str, int] | None:
    """(id, host, port) of the leader that an answer names."""
    for one in response.node_endpoints:
        return one.node_id, one.host, one.port
    return None


# -- what others ask, and our answers


def vote_from_wire(message: vote.VoteRequest) -> raft.VoteRequest:
    partition = message.topics[0].partitions[0]
    return raft.VoteRequest(
        epoch=partition.replica_epoch,
        candidate=ReplicaKey(partition.replica_id, partition.replica_directory_id),
        voter=ReplicaKey(message.voter_id, partition.voter_directory_id),
        last=LogPosition(partition.last_offset_epoch, partition.last_offset),
        pre_vote=partition.pre_vote,
    )


def begin_from_wire(message: begin.BeginQuorumEpochRequest) -> raft.BeginEpochRequest:
    partition = message.topics[0].partitions[0]
    return raft.BeginEpochRequest(
        epoch=partition.leader_epoch,
        leader_id=partition.leader_id,
        voter=ReplicaKey(message.voter_id, partition.voter_directory_id),
    )


def end_from_wire(message: end.EndQuorumEpochRequest) -> raft.EndEpochRequest:
    partition = message.topics[0].partitions[0]
    return raft.EndEpochRequest(
        epoch=partition.leader_epoch,
        leader_id=partition.leader_id,
        candidates=tuple(
            ReplicaKey(one.candidate_id, one.candidate_directory_id) for one in partition.preferred_candidates
        ),
    )


def fetch_from_wire(message: fetch.FetchRequest, partition: fetch.FetchPartition) -> raft.FetchRequest:
    return raft.FetchRequest(
        epoch=partition.current_leader_epoch,
        replica=ReplicaKey(message.replica_state.replica_id, partition.replica_directory_id),
        last=LogPosition(partition.last_fetched_epoch, partition.fetch_offset),
        high_watermark=partition.high_watermark,
        max_wait_ms=message.max_wait_ms,
    )


def fetch_to_wire(
    reply: raft.FetchReply, records: Buffer | None, leader: tuple[str, int] | None
) -> fetch.FetchResponse:
    diverging, snapshot = reply.diverging, reply.snapshot
    partition = fetch.PartitionData(
        error_code=reply.error,
        high_watermark=reply.high_watermark,
        log_start_offset=reply.log_start_offset,
        diverging_epoch=(
            fetch.EpochEndOffset()
            if diverging is None
            else fetch.EpochEndOffset(epoch=diverging.epoch, end_offset=diverging.offset)
        ),
        current_leader=fetch.LeaderIdAndEpoch(leader_id=reply.leader_id, leader_epoch=reply.epoch),
        snapshot_id=(
            fetch.SnapshotId()
            if snapshot is None
            else fetch.SnapshotId(end_offset=snapshot.end_offset, epoch=snapshot.epoch)
        ),
        records=records,
    )
    topic = fetch.FetchableTopicResponse(topic_id=METADATA_TOPIC_ID, partitions=[partition])
    endpoints = (
        []
        if leader is None
        else [fetch.NodeEndpoint(node_id=reply.leader_id, host=leader[0], port=leader[1])]
    )
    return fetch.FetchResponse(responses=[topic], node_endpoints=endpoints)
