"""What the nodes of a quorum ask each other, and what admins ask of it.

Vote (52), BeginQuorumEpoch (53), EndQuorumEpoch (54), Fetch (1) and FetchSnapshot (59) of the metadata log,
DescribeQuorum (55), AddRaftVoter (80), RemoveRaftVoter (81), UpdateRaftVoter (82).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamkit.broker.controller.topic_names import CLUSTER_METADATA
from streamkit.broker.raft import messages as raft
from streamkit.broker.raft.log_view import SnapshotId
from streamkit.broker.raft.replicas import Replica
from streamkit.broker.raft.roles import Role
from streamkit.broker.raft.voters import Endpoint, ReplicaKey, Voter
from streamkit.broker.server.controller.active_controller import NotControllerError
from streamkit.broker.server.controller.quorum import Quorum
from streamkit.broker.server.controller.quorum_wire import (
    METADATA_TOPIC_ID,
    SNAPSHOT_CHUNK_BYTES,
    begin_from_wire,
    end_from_wire,
    fetch_from_wire,
    fetch_to_wire,
    vote_from_wire,
)
from streamkit.broker.server.dispatch import InnerRequest, RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import (
    add_raft_voter,
    begin_quorum_epoch,
    describe_quorum,
    end_quorum_epoch,
    fetch,
    fetch_snapshot,
    remove_raft_voter,
    update_raft_voter,
    vote,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

ANOTHER_CLUSTER = "The request is for another cluster."

Request = RequestContext | InnerRequest


async def vote_(broker: Broker, request: Request, message: vote.VoteRequest) -> vote.VoteResponse:
    error = refusal(broker, message)
    if error is not ErrorCode.NONE:
        return vote.VoteResponse(error_code=error)
    reply: Any = await broker.quorum.ask(vote_from_wire(message))
    partition = vote.VoteResponsePartitionData(
        error_code=reply.error,
        leader_id=reply.leader_id,
        leader_epoch=reply.epoch,
        vote_granted=reply.granted,
    )
    return vote.VoteResponse(
        topics=[vote.VoteResponseTopicData(topic_name=CLUSTER_METADATA, partitions=[partition])],
        node_endpoints=[
            vote.NodeEndpoint(node_id=node_id, host=host, port=port)
            for node_id, host, port in leader_endpoints(broker.quorum, reply.leader_id)
        ],
    )


async def begin_epoch(
    broker: Broker, request: Request, message: begin_quorum_epoch.BeginQuorumEpochRequest
) -> begin_quorum_epoch.BeginQuorumEpochResponse:
    error = refusal(broker, message)
    if error is not ErrorCode.NONE:
        return begin_quorum_epoch.BeginQuorumEpochResponse(error_code=error)
    begun = begin_from_wire(message)
    for endpoint in message.leader_endpoints[:1]:
        broker.quorum.heard_of(begun.leader_id, endpoint.host, endpoint.port)
    reply: Any = await broker.quorum.ask(begun)
    partition = begin_quorum_epoch.BeginQuorumEpochResponsePartitionData(
        error_code=reply.error, leader_id=reply.leader_id, leader_epoch=reply.epoch
    )
    topic = begin_quorum_epoch.BeginQuorumEpochResponseTopicData(
        topic_name=CLUSTER_METADATA, partitions=[partition]
    )
    return begin_quorum_epoch.BeginQuorumEpochResponse(topics=[topic])


async def end_epoch(
    broker: Broker, request: Request, message: end_quorum_epoch.EndQuorumEpochRequest
) -> end_quorum_epoch.EndQuorumEpochResponse:
    error = refusal(broker, message)
    if error is not ErrorCode.NONE:
        return end_quorum_epoch.EndQuorumEpochResponse(error_code=error)
    reply: Any = await broker.quorum.ask(end_from_wire(message))
    partition = end_quorum_epoch.EndQuorumEpochResponsePartitionData(
        error_code=reply.error, leader_id=reply.leader_id, leader_epoch=reply.epoch
    )
    topic = end_quorum_epoch.EndQuorumEpochResponseTopicData(
        topic_name=CLUSTER_METADATA, partitions=[partition]
    )
    return end_quorum_epoch.EndQuorumEpochResponse(topics=[topic])


async def fetch_metadata(
    broker: Broker, request: Request, message: fetch.FetchRequest
) -> fetch.FetchResponse:
    """The metadata log alone is served to other nodes here, without sessions."""
    if disagrees(broker, message.cluster_id):
        return fetch.FetchResponse(error_code=ErrorCode.INCONSISTENT_CLUSTER_ID)
    topic = message.topics[0] if message.topics else fetch.FetchTopic()
    is_metadata = topic.topic_id == METADATA_TOPIC_ID or topic.topic == CLUSTER_METADATA
    if not is_metadata or len(topic.partitions) != 1 or topic.partitions[0].partition != 0:
        return fetch.FetchResponse(error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    partition = topic.partitions[0]
    max_bytes = min(message.max_bytes, partition.partition_max_bytes)
    reply, records = await broker.quorum.fetch(fetch_from_wire(message, partition), max_bytes)
    return fetch_to_wire(reply, records, broker.quorum.address_of(reply.leader_id))


async def fetch_snapshot_(
    broker: Broker, request: Request, message: fetch_snapshot.FetchSnapshotRequest
) -> fetch_snapshot.FetchSnapshotResponse:
    if disagrees(broker, message.cluster_id):
        return fetch_snapshot.FetchSnapshotResponse(error_code=ErrorCode.INCONSISTENT_CLUSTER_ID)
    if not names_metadata([topic.name for topic in message.topics], message.topics):
        return fetch_snapshot.FetchSnapshotResponse(error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    asked = message.topics[0].partitions[0]
    snapshot = SnapshotId(asked.snapshot_id.end_offset, asked.snapshot_id.epoch)
    reply: Any = await broker.quorum.ask(
        raft.FetchSnapshotRequest(
            epoch=asked.current_leader_epoch,
            replica=ReplicaKey(message.replica_id, asked.replica_directory_id),
            snapshot=snapshot,
            position=asked.position,
        )
    )
    error, data, size = reply.error, None, 0
    if error is ErrorCode.NONE:
        read = await broker.quorum.snapshots.read(
            snapshot, asked.position, min(message.max_bytes, SNAPSHOT_CHUNK_BYTES)
        )
        if read is None:
            error = ErrorCode.SNAPSHOT_NOT_FOUND
        elif not 0 <= asked.position < read[1]:
            error = ErrorCode.POSITION_OUT_OF_RANGE
        else:
            data, size = read
    partition = fetch_snapshot.FetchSnapshotResponsePartitionSnapshot(
        error_code=error,
        snapshot_id=fetch_snapshot.FetchSnapshotResponseSnapshotId(
            end_offset=snapshot.end_offset, epoch=snapshot.epoch
        ),
        current_leader=fetch_snapshot.LeaderIdAndEpoch(leader_id=reply.leader_id, leader_epoch=reply.epoch),
        size=size,
        position=asked.position,
        unaligned_records=data,
    )
    topic = fetch_snapshot.FetchSnapshotResponseTopicSnapshot(name=CLUSTER_METADATA, partitions=[partition])
    return fetch_snapshot.FetchSnapshotResponse(topics=[topic])


def describe(
    broker: Broker, request: Request, message: describe_quorum.DescribeQuorumRequest
) -> describe_quorum.DescribeQuorumResponse:
    """Who votes, who observes, and how far each has got; only the leader knows."""
    node = broker.quorum.raft
    if node.role is not Role.LEADER:
        raise NotControllerError("this node does not lead the quorum")
    asked = [(topic.topic_name, one.partition_index) for topic in message.topics for one in topic.partitions]
    if asked != [(CLUSTER_METADATA, 0)]:
        return nothing_to_describe(message)
    to_wall_ms = broker.clock.now_ms() - broker.clock.monotonic_s() * 1000
    own = describe_quorum.ReplicaState(
        replica_id=node.key.id,
        replica_directory_id=node.key.directory_id,
        log_end_offset=node.log.end_offset,
        last_fetch_timestamp=broker.clock.now_ms(),
        last_caught_up_timestamp=broker.clock.now_ms(),
    )
    voters = [
        own if voter.is_same_replica(node.key) else replica_state(
            voter.key, node.replicas.of_voter(voter.key), to_wall_ms
        )
        for voter in node.voters
    ]  # fmt: skip
    observers = [
        replica_state(replica.key, replica, to_wall_ms)
        for replica in node.replicas
        if not node.voters.has(replica.key)
    ]
    partition = describe_quorum.DescribeQuorumResponsePartitionData(
        error_message=None,
        leader_id=node.leader_id,
        leader_epoch=node.epoch,
        high_watermark=broker.quorum.high_watermark,
        current_voters=voters,
        observers=observers,
    )
    topic = describe_quorum.DescribeQuorumResponseTopicData(
        topic_name=CLUSTER_METADATA, partitions=[partition]
    )
    nodes = [
        describe_quorum.Node(
            node_id=voter.key.id,
            listeners=[
                describe_quorum.Listener(name=one.name, host=one.host, port=one.port)
                for one in voter.endpoints
            ],
        )
        for voter in node.voters
    ]
    return describe_quorum.DescribeQuorumResponse(error_message=None, topics=[topic], nodes=nodes)


def nothing_to_describe(
    message: describe_quorum.DescribeQuorumRequest,
) -> describe_quorum.DescribeQuorumResponse:
    """Asked of anything but the metadata log alone."""
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return describe_quorum.DescribeQuorumResponse(
        topics=[
            describe_quorum.DescribeQuorumResponseTopicData(
                topic_name=topic.topic_name,
                partitions=[
                    describe_quorum.DescribeQuorumResponsePartitionData(
                        partition_index=one.partition_index,
                        error_code=code,
                        error_message=f"Only partition 0 of {CLUSTER_METADATA} has a quorum.",
                    )
                    for one in topic.partitions
                ],
            )
            for topic in message.topics
        ]
    )


def replica_state(
    key: ReplicaKey, replica: Replica | None, to_wall_ms: float
) -> describe_quorum.ReplicaState:
    if replica is None:
        return describe_quorum.ReplicaState(
            replica_id=key.id, replica_directory_id=key.directory_id, log_end_offset=-1
        )
    return describe_quorum.ReplicaState(
        replica_id=key.id,
        replica_directory_id=replica.key.directory_id,
        log_end_offset=replica.end_offset,
        last_fetch_timestamp=-1 if replica.fetched_ms < 0 else int(replica.fetched_ms + to_wall_ms),
        last_caught_up_timestamp=-1 if replica.caught_up_ms < 0 else int(replica.caught_up_ms + to_wall_ms),
    )


async def add_voter(
    broker: Broker, request: Request, message: add_raft_voter.AddRaftVoterRequest
) -> add_raft_voter.AddRaftVoterResponse:
    if disagrees(broker, message.cluster_id):
        return add_raft_voter.AddRaftVoterResponse(
            error_code=ErrorCode.INCONSISTENT_CLUSTER_ID, error_message=ANOTHER_CLUSTER
        )
    if message.voter_id < 0 or not message.listeners:
        return add_raft_voter.AddRaftVoterResponse(
            error_code=ErrorCode.INVALID_REQUEST, error_message="A voter has an id from 0 and a listener."
        )
    for listener in message.listeners[:1]:
        broker.quorum.heard_of(message.voter_id, listener.host, listener.port)
    reply = await changed(
        broker,
        raft.AddVoterRequest(
            voter=Voter(
                ReplicaKey(message.voter_id, message.voter_directory_id), endpoints(message.listeners)
            ),
            timeout_ms=message.timeout_ms,
            ack_when_committed=message.ack_when_committed,
        ),
    )
    return add_raft_voter.AddRaftVoterResponse(error_code=reply.error, error_message=reply.message or None)


async def remove_voter(
    broker: Broker, request: Request, message: remove_raft_voter.RemoveRaftVoterRequest
) -> remove_raft_voter.RemoveRaftVoterResponse:
    if disagrees(broker, message.cluster_id):
        return remove_raft_voter.RemoveRaftVoterResponse(
            error_code=ErrorCode.INCONSISTENT_CLUSTER_ID, error_message=ANOTHER_CLUSTER
        )
    if message.voter_id < 0:
        return remove_raft_voter.RemoveRaftVoterResponse(
            error_code=ErrorCode.INVALID_REQUEST, error_message="A voter has an id from 0."
        )
    key = ReplicaKey(message.voter_id, message.voter_directory_id)
    reply = await changed(broker, raft.RemoveVoterRequest(key))
    return remove_raft_voter.RemoveRaftVoterResponse(
        error_code=reply.error, error_message=reply.message or None
    )


async def changed(
    broker: Broker, request: raft.AddVoterRequest | raft.RemoveVoterRequest
) -> raft.VoterChangeReply:
    """Raises NotControllerError where another node would have to do it."""
    reply = await broker.quorum.change_voters(request)
    if reply.error is ErrorCode.NOT_LEADER_OR_FOLLOWER:
        raise NotControllerError(reply.message)
    return reply


async def update_voter(
    broker: Broker, request: Request, message: update_raft_voter.UpdateRaftVoterRequest
) -> update_raft_voter.UpdateRaftVoterResponse:
    if disagrees(broker, message.cluster_id):
        return update_raft_voter.UpdateRaftVoterResponse(error_code=ErrorCode.INCONSISTENT_CLUSTER_ID)
    supported = message.k_raft_version_feature
    reply = await broker.quorum.change_voters(
        raft.UpdateVoterRequest(
            epoch=message.current_leader_epoch,
            voter=Voter(
                key=ReplicaKey(message.voter_id, message.voter_directory_id),
                endpoints=endpoints(message.listeners),
                min_kraft_version=supported.min_supported_version,
                max_kraft_version=supported.max_supported_version,
            ),
        )
    )
    host, port = broker.quorum.address_of(reply.leader_id) or ("", 0)
    return update_raft_voter.UpdateRaftVoterResponse(
        error_code=reply.error,
        current_leader=update_raft_voter.CurrentLeader(
            leader_id=reply.leader_id, leader_epoch=reply.epoch, host=host, port=port
        ),
    )


# -- what they share -----------------------------------------------------------------------------------------


def refusal(broker: Broker, message: Any) -> ErrorCode:
    """Why a request is not for this quorum; NONE if it is."""
    if disagrees(broker, message.cluster_id):
        return ErrorCode.INCONSISTENT_CLUSTER_ID
    if not names_metadata([topic.topic_name for topic in message.topics], message.topics):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return ErrorCode.NONE


def disagrees(broker: Broker, cluster_id: str | None) -> bool:
    """Whether both sides know their cluster, and it is not the same."""
    own = broker.directory.cluster_id
    return bool(cluster_id) and bool(own) and cluster_id != own


def names_metadata(names: Sequence[str], topics: Sequence[Any]) -> bool:
    return list(names) == [CLUSTER_METADATA] and len(topics[0].partitions) == 1


def leader_endpoints(quorum: Quorum, leader_id: int) -> list[tuple[int, str, int]]:
    address = None if leader_id == raft.NO_LEADER else quorum.address_of(leader_id)
    return [] if address is None else [(leader_id, *address)]


def endpoints(listeners: Sequence[Any]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(one.name, one.host, one.port) for one in listeners)


_FOR_ALL: tuple[Route, ...] = (
    Route(ApiKey.DESCRIBE_QUORUM, 0, 2, describe, by_controller=True),
    Route(ApiKey.ADD_RAFT_VOTER, 0, 1, add_voter, by_controller=True),
    Route(ApiKey.REMOVE_RAFT_VOTER, 0, 0, remove_voter, by_controller=True),
)
ROUTES: tuple[Route, ...] = _FOR_ALL
CONTROLLER_ROUTES: tuple[Route, ...] = (
    Route(ApiKey.VOTE, 0, 2, vote_, pipelined=True),
    Route(ApiKey.BEGIN_QUORUM_EPOCH, 0, 1, begin_epoch, pipelined=True),
    Route(ApiKey.END_QUORUM_EPOCH, 0, 1, end_epoch, pipelined=True),
    Route(ApiKey.FETCH, 17, 18, fetch_metadata, pipelined=True),
    Route(ApiKey.FETCH_SNAPSHOT, 0, 1, fetch_snapshot_, pipelined=True),
    Route(ApiKey.UPDATE_RAFT_VOTER, 0, 0, update_voter, pipelined=True),
)
