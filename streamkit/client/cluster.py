"""What an operator asks of a cluster: is it well, who is in it, who decides, where are the partitions.

The answers are values; how they are shown is for whoever asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from streamkit.client.node import REQUEST_MS, AnsweredError, Node, check
from streamkit.errors import DeadlineError, NotFoundError, RefusedError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.add_raft_voter import AddRaftVoterRequest, Listener
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from streamkit.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
    DescribeQuorumResponsePartitionData,
    ReplicaState,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from streamkit.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from streamkit.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest

METADATA_TOPIC = "__cluster_metadata"
MIN_INSYNC = "min.insync.replicas"
TOPIC_RESOURCE = 2
NO_BROKER = -1
CONTROLLER_LISTENER = "CONTROLLER"
CONTROLLERS = 2
SILENT_MS = 5_000
"""A voter that has not asked the leader for so long is silent; it asks every half second."""
SOON_MS = 2_000
ADMISSION_MS = 30_000


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    broker_id: int
    host: str
    port: int
    rack: str | None
    is_fenced: bool


class Members(msgspec.Struct, frozen=True, kw_only=True):
    cluster_id: str
    controller: int | None
    brokers: list[Member]


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    leader: int | None
    replicas: list[int]
    isr: list[int]

    @property
    def place(self) -> Place:
        return Place(self.topic, self.partition)

    @property
    def is_under_replicated(self) -> bool:
        return len(self.isr) < len(self.replicas)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is not as it should be; all of it empty in a healthy cluster."""

    controller: int | None
    live_brokers: list[int]
    missing_brokers: list[int]
    silent_voters: list[int]
    """Live brokers whose controllers do not follow the quorum's leader."""
    offline_partitions: list[str]
    """No leader: neither written nor read."""
    under_min_isr_partitions: list[str]
    """Too few replicas in sync for a write with acks=all."""
    under_replicated_partitions: list[str]
    """A replica is not in sync, so less may fail than was asked for."""

    def reasons(self) -> list[str]:
        reasons = [] if self.controller is not None else ["no controller decides"]
        reasons += [f"broker {broker} is gone" for broker in self.missing_brokers]
        reasons += [f"voter {voter} does not follow the quorum" for voter in self.silent_voters]
        for what, places in (
            ("offline", self.offline_partitions),
            ("below min.insync.replicas", self.under_min_isr_partitions),
            ("under-replicated", self.under_replicated_partitions),
        ):
            if places:
                more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
                reasons.append(f"{what}: {', '.join(places[:SHOWN])}{more}")
        return reasons


SHOWN = 5


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """A partition on its way to other replicas."""

    place: Place
    replicas: list[int]
    adding: list[int]
    removing: list[int]


async def members(node: Node) -> Members:
    answer = await node.ask(DescribeClusterRequest(include_fenced_brokers=True))
    check(answer.error_code, answer.error_message)
    return Members(
        cluster_id=answer.cluster_id,
        controller=None if answer.controller_id == NO_BROKER else answer.controller_id,
        brokers=sorted(
            (
                Member(broker_id=one.broker_id, host=one.host, port=one.port, rack=one.rack,
                       is_fenced=one.is_fenced)
                for one in answer.brokers
            ),
            key=lambda broker: broker.broker_id,
        ),
    )  # fmt: skip


async def partitions(node: Node, topics: Iterable[str] | None = None) -> list[Partition]:
    """The partitions of these topics, or of all; raises AnsweredError for a topic that does not exist."""
    wanted = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
    answer = await node.ask(MetadataRequest(topics=wanted, allow_auto_topic_creation=False))
    found = []
    for topic in answer.topics:
        check(topic.error_code, topic.name)
        found += [
            Partition(
                topic=topic.name or "",
                partition=one.partition_index,
                leader=None if one.leader_id == NO_BROKER else one.leader_id,
                replicas=one.replica_nodes,
                isr=one.isr_nodes,
            )
            for one in topic.partitions
        ]
    return sorted(found, key=lambda one: one.place)


async def health(node: Node) -> Health:
    now, all_partitions = await members(node), await partitions(node)
    live = {broker.broker_id for broker in now.brokers if not broker.is_fenced}
    known = {broker.broker_id for broker in now.brokers}.union(*(one.replicas for one in all_partitions))
    at_risk = [one for one in all_partitions if one.leader is None or one.is_under_replicated]
    least = await _min_insync(node, {one.topic for one in at_risk})
    # Last: who is not answered in time may have lost the connection.
    silent = None if now.controller is None else await _silent_voters(node)
    return Health(
        controller=None if silent is None else now.controller,
        live_brokers=sorted(live),
        missing_brokers=sorted((known | (silent or set())) - live),
        silent_voters=sorted((silent or set()) & live),
        offline_partitions=[str(one.place) for one in at_risk if one.leader is None],
        under_min_isr_partitions=[
            str(one.place)
            for one in at_risk
            if one.leader is not None and len(one.isr) < min(least.get(one.topic, 1), len(one.replicas))
        ],
        under_replicated_partitions=[str(one.place) for one in at_risk if one.is_under_replicated],
    )


async def _silent_voters(node: Node) -> set[int] | None:
    """The voters that do not follow; None if the quorum has no leader that could say."""
    try:
        found = await quorum(node, timeout_ms=SOON_MS)
    except RefusedError:
        return set()  # a cluster that has no quorum to be asked about
    except (AnsweredError, DeadlineError):
        return None
    leaders = [one for one in found.current_voters if one.replica_id == found.leader_id]
    now_ms = max((one.last_caught_up_timestamp for one in leaders), default=0)
    return {
        one.replica_id
        for one in found.current_voters
        if one.replica_id != found.leader_id and one.last_fetch_timestamp < now_ms - SILENT_MS
    }


async def _min_insync(node: Node, topics: Iterable[str]) -> Mapping[str, int]:
    resources = [
        DescribeConfigsResource(
            resource_type=TOPIC_RESOURCE, resource_name=topic, configuration_keys=[MIN_INSYNC]
        )
        for topic in sorted(topics)
    ]
    if not resources:
        return {}
    answer = await node.ask(DescribeConfigsRequest(resources=resources))
    return {
        result.resource_name: int(result.configs[0].value or 1)
        for result in answer.results
        if result.error_code == ErrorCode.NONE and result.configs
    }


async def quorum(node: Node, *, timeout_ms: float = REQUEST_MS) -> DescribeQuorumResponsePartitionData:
    """The metadata quorum as its leader sees it."""
    partition = DescribeQuorumRequestPartitionData(partition_index=0)
    topic = DescribeQuorumRequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])
    answer = await node.ask(DescribeQuorumRequest(topics=[topic]), timeout_ms)
    check(answer.error_code, answer.error_message)
    found: DescribeQuorumResponsePartitionData = answer.topics[0].partitions[0]
    check(found.error_code, found.error_message)
    return found


async def admit(node: Node, node_id: int, controller: Node) -> None:
    """Make an observer of the quorum a voter; `controller` is a connection to its controller listener.

    Raises NotFoundError if no such node follows the quorum, RefusedError if it votes already or `controller`
    is not of this cluster, AnsweredError.
    """
    found = await quorum(node)
    if _replica(found.current_voters, node_id) is not None:
        raise RefusedError(f"node {node_id} is a voter already", hint="streamkit cluster quorum")
    observer = _replica(found.observers, node_id)
    if observer is None:
        raise NotFoundError(
            f"node {node_id} does not follow the quorum; start it first, with the voters there are",
            hint="streamkit cluster quorum",
        )
    there = await controller.ask(DescribeClusterRequest(endpoint_type=CONTROLLERS))
    check(there.error_code, there.error_message)
    here = await members(node)
    if there.cluster_id != here.cluster_id:
        raise RefusedError(f"{controller.address} is the controller of another cluster")
    host, _, port = controller.address.rpartition(":")
    request = AddRaftVoterRequest(
        cluster_id=here.cluster_id,
        timeout_ms=ADMISSION_MS,
        voter_id=node_id,
        voter_directory_id=observer.replica_directory_id,
        listeners=[Listener(name=CONTROLLER_LISTENER, host=host, port=int(port))],
    )
    answer = await node.ask(request, ADMISSION_MS)
    check(answer.error_code, answer.error_message)


async def dismiss(node: Node, node_id: int) -> None:
    """Make a voter of the quorum an observer; raises NotFoundError, RefusedError, AnsweredError."""
    found = await quorum(node)
    voter = _replica(found.current_voters, node_id)
    if voter is None:
        raise NotFoundError(f"node {node_id} is not a voter", hint="streamkit cluster quorum")
    if len(found.current_voters) == 1:
        raise RefusedError(
            f"node {node_id} is the only voter; nobody would decide",
            hint="streamkit cluster admit NODE HOST:PORT",
        )
    request = RemoveRaftVoterRequest(
        cluster_id=(await members(node)).cluster_id,
        voter_id=node_id,
        voter_directory_id=voter.replica_directory_id,
    )
    answer = await node.ask(request, ADMISSION_MS)
    check(answer.error_code, answer.error_message)


async def forget(node: Node, broker_id: int) -> None:
    """Strike a broker that is gone off the list; raises NotFoundError, RefusedError, AnsweredError.

    Refused while it is live, votes or holds replicas: it would come back, or be missed.
    """
    brokers = {one.broker_id: one for one in (await members(node)).brokers}
    if broker_id not in brokers:
        raise NotFoundError(f"there is no broker {broker_id}", hint="streamkit cluster info")
    held = [one.place for one in await partitions(node) if broker_id in one.replicas]
    if held:
        raise RefusedError(
            f"broker {broker_id} holds {len(held)} partitions, for example {held[0]}",
            hint=f"streamkit partition move --off {broker_id} --yes",
        )
    if _replica((await quorum(node)).current_voters, broker_id) is not None:
        raise RefusedError(
            f"broker {broker_id} is a voter of the quorum", hint=f"streamkit cluster dismiss {broker_id}"
        )
    if not brokers[broker_id].is_fenced:
        raise RefusedError(f"broker {broker_id} is live", hint="stop it first; it would only register again")
    answer = await node.ask(UnregisterBrokerRequest(broker_id=broker_id))
    check(answer.error_code, answer.error_message)


def _replica(replicas: Iterable[ReplicaState], node_id: int) -> ReplicaState | None:
    return next((one for one in replicas if one.replica_id == node_id), None)


async def moving(node: Node) -> list[Moving]:
    answer = await node.ask(ListPartitionReassignmentsRequest())
    check(answer.error_code, answer.error_message)
    return [
        Moving(
            place=Place(topic.name, one.partition_index),
            replicas=one.replicas,
            adding=one.adding_replicas,
            removing=one.removing_replicas,
        )
        for topic in answer.topics
        for one in topic.partitions
    ]


async def move(node: Node, plan: Mapping[Place, Sequence[int] | None]) -> None:
    """Begin to move each partition to its replicas, or stop moving it (None); raises AnsweredError."""
    topics: dict[str, list[ReassignablePartition]] = {}
    for place, replicas in plan.items():
        wanted = None if replicas is None else list(replicas)
        topics.setdefault(place.topic, []).append(
            ReassignablePartition(partition_index=place.partition, replicas=wanted)
        )
    request = AlterPartitionReassignmentsRequest(
        topics=[ReassignableTopic(name=name, partitions=found) for name, found in topics.items()]
    )
    answer = await node.ask(request)
    check(answer.error_code, answer.error_message)
    for topic in answer.responses:
        for one in topic.partitions:
            place = Place(topic.name, one.partition_index)
            check(one.error_code, f"{place}: {one.error_message or ''}")


async def elect(node: Node, places: Iterable[Place] | None, *, unclean: bool) -> dict[Place, ErrorCode]:
    """Hold an election in these partitions, or wherever one is due; what came of it.

    ELECTION_NOT_NEEDED: the leader was the right one already.
    """
    wanted: list[TopicPartitions] | None = None
    if places is not None:
        topics: dict[str, list[int]] = {}
        for place in places:
            topics.setdefault(place.topic, []).append(place.partition)
        wanted = [TopicPartitions(topic=name, partitions=found) for name, found in topics.items()]
    answer = await node.ask(ElectLeadersRequest(election_type=int(unclean), topic_partitions=wanted))
    check(answer.error_code)
    return {
        Place(topic.topic, one.partition_id): ErrorCode(one.error_code)  # type: ignore[call-arg]
        for topic in answer.replica_election_results
        for one in topic.partition_result
    }
