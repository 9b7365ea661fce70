"""Who holds and leads partitions: ElectLeaders (43), AlterPartitionReassignments (45),
ListPartitionReassignments (46), what their leaders say of the ISR: AlterPartition (56), and what a broker
says of replicas that it lost: AssignReplicasToDirs (73).

The first three are answered once the broker that was asked knows the outcome. A move is answered once it has
begun. Their timeouts are not heeded: the controller's answer is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkit.broker.controller.decision import Decision
from streamkit.broker.controller.reassignment import list_reassignments
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from streamkit.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from streamkit.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker


async def elect_leaders(
    broker: Broker, request: RequestContext, message: ElectLeadersRequest
) -> ElectLeadersResponse:
    response = await broker.controller.submit(lambda controller: controller.elect_leaders(message))
    broker.count_failures(
        ApiKey.ELECT_LEADERS,
        (
            partition.error_code
            for topic in response.replica_election_results
            for partition in topic.partition_result
        ),
    )
    return response


async def reassign_partitions(
    broker: Broker, request: RequestContext, message: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    response = await broker.controller.submit(lambda controller: controller.reassign_partitions(message))
    broker.count_failures(
        ApiKey.ALTER_PARTITION_REASSIGNMENTS,
        (partition.error_code for topic in response.responses for partition in topic.partitions),
    )
    return response


async def reassignments(
    broker: Broker, request: RequestContext, message: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    return await broker.controller.submit(
        lambda controller: Decision([], list_reassignments(controller.image, message))
    )


async def alter_partition(
    broker: Broker, request: RequestContext, message: AlterPartitionRequest
) -> AlterPartitionResponse:
    response = await broker.controller.submit(lambda controller: controller.alter_partition(message))
    broker.count_failures(
        ApiKey.ALTER_PARTITION,
        (partition.error_code for topic in response.topics for partition in topic.partitions),
    )
    return response


async def assign_replicas(
    broker: Broker, request: RequestContext, message: AssignReplicasToDirsRequest
) -> AssignReplicasToDirsResponse:
    response = await broker.controller.submit(lambda controller: controller.assign_replicas(message))
    broker.count_failures(
        ApiKey.ASSIGN_REPLICAS_TO_DIRS,
        (
            partition.error_code
            for directory in response.directories
            for topic in directory.topics
            for partition in topic.partitions
        ),
    )
    return response


ROUTES = (
    Route(ApiKey.ELECT_LEADERS, 0, 2, elect_leaders, by_controller=True),
    Route(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 0, 1, reassign_partitions, by_controller=True),
    Route(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, 0, reassignments, by_controller=True),
)

CONTROLLER_ROUTES = (
    Route(ApiKey.ALTER_PARTITION, 2, 3, alter_partition, pipelined=True),
    Route(ApiKey.ASSIGN_REPLICAS_TO_DIRS, 0, 0, assign_replicas, pipelined=True),
)
