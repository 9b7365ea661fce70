"""Who looks after the quorum: takes a voter out of it, and lets one in again, through any broker (KIP-853).

One voter fewer than there were at first is the least. A voter whose disk was lost is known to the quorum by a
directory that is no more: it goes first, and comes back under its new one. Right after a loss nobody else is
taken out; later this is for the leader to refuse.
"""

from __future__ import annotations

from collections import Counter

from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.add_raft_voter import (
    AddRaftVoterRequest,
    AddRaftVoterResponse,
    Listener,
)
from streamkit.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
    DescribeQuorumResponse,
    DescribeQuorumResponsePartitionData,
    ReplicaState,
)
from streamkit.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
from streamkit.simulation.quorum_risk import QuorumRisk
from streamkit.simulation.workload.client import Address, Client

DESCRIBE_VERSION = 2
ADD_VERSION = 1
REMOVE_VERSION = 0
TIMEOUT_MS = 5000
METADATA = "__cluster_metadata"
CONTROLLER = "CONTROLLER"


class Operator:
    def __init__(
        self,
        client: Client,
        voters: int,
        controllers: list[Address],
        risk: QuorumRisk,
        changes: Counter[str],
    ) -> None:
        """`voters`: how many there were at first, nodes 1 to that; `controllers` are the addresses of all
        nodes, in order.
        """
        self._client = client
        self._voters = voters
        self._controllers = controllers
        self._risk = risk
        self._changes = changes

    async def change(self, number: int) -> None:
        """Let somebody in who is out, or take out whom `number` chooses."""
        try:
            described = await self._described()
            if described is None:
                return
            known = {voter.replica_id: voter for voter in described.current_voters}
            outside = [one for one in described.observers if one.replica_id <= self._voters]
            replaced = [known[one.replica_id] for one in outside if one.replica_id in known]
            if replaced:
                await self._remove(replaced[0])
            elif len(known) < self._voters and outside:
                await self._add(outside[number % len(outside)])
            elif len(known) == self._voters and self._risk.may_remove:
                await self._remove(described.current_voters[number % len(known)])
        except PeerError:
            await self._client.back_off()

    async def _described(self) -> DescribeQuorumResponsePartitionData | None:
        partition = DescribeQuorumRequestPartitionData(partition_index=0)
        request = DescribeQuorumRequest(
            topics=[DescribeQuorumRequestTopicData(topic_name=METADATA, partitions=[partition])]
        )
        response: DescribeQuorumResponse = await self._client.ask_anybody(
            request, DESCRIBE_VERSION, TIMEOUT_MS
        )
        if response.error_code or response.topics[0].partitions[0].error_code:
            return None
        return response.topics[0].partitions[0]

    async def _remove(self, voter: ReplicaState) -> None:
        request = RemoveRaftVoterRequest(
            cluster_id=None, voter_id=voter.replica_id, voter_directory_id=voter.replica_directory_id
        )
        self._risk.removal_asked(voter.replica_id)
        response: RemoveRaftVoterResponse = await self._client.ask_anybody(
            request, REMOVE_VERSION, TIMEOUT_MS
        )
        self._risk.removal_answered(voter.replica_id)
        self._changes["voters removed"] += response.error_code == ErrorCode.NONE

    async def _add(self, observer: ReplicaState) -> None:
        host, port = self._controllers[observer.replica_id - 1]
        request = AddRaftVoterRequest(
            cluster_id=None,
            timeout_ms=TIMEOUT_MS,
            voter_id=observer.replica_id,
            voter_directory_id=observer.replica_directory_id,
            listeners=[Listener(name=CONTROLLER, host=host, port=port)],
        )
        response: AddRaftVoterResponse = await self._client.ask_anybody(request, ADD_VERSION, TIMEOUT_MS)
        self._changes["voters added"] += response.error_code == ErrorCode.NONE
