"""The cluster's own affairs: log directories, elections, reassignments, the quorum, features, brokers."""

from __future__ import annotations

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.add_raft_voter import AddRaftVoterRequest, Listener
from streamkit.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from streamkit.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from streamkit.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from streamkit.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from streamkit.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from streamkit.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from streamkit.protocol.messages.unregister_broker import UnregisterBrokerRequest
from streamkit.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.differential.scenario import Client, scenario


def sizes(*topics: tuple[str, int]) -> DescribeLogDirsRequest:
    return DescribeLogDirsRequest(
        topics=[DescribableLogDirTopic(topic=name, partitions=[n]) for name, n in topics]
    )


@scenario(ApiKey.DESCRIBE_LOG_DIRS, "1-5")
async def sizes_of_logs(client: Client) -> None:
    topic = await client.topic(partitions=2)
    await client.records(topic, 3)
    await client.valid(sizes((topic.name, 0)))
    await client.valid(sizes((topic.name, 0), (topic.name, 1)))
    await client.valid(DescribeLogDirsRequest(topics=None))
    await client.boundary(DescribeLogDirsRequest(topics=[]))
    await client.wrong(sizes((topic.name, 9)))
    await client.wrong(sizes((client.name("unknown"), 0)))
    await client.wrong(sizes(("", -1)))


@scenario(ApiKey.ALTER_REPLICA_LOG_DIRS, "1-2")
async def logs_move(client: Client) -> None:
    topic = await client.topic(partitions=2)
    moved = lambda path, name=topic.name, n=0: AlterReplicaLogDirsRequest(  # noqa: E731
        dirs=[AlterReplicaLogDir(path=path, topics=[AlterReplicaLogDirTopic(name=name, partitions=[n])])]
    )
    answer = await client.setup(DescribeLogDirsRequest(topics=[]))
    here = answer.results[0].log_dir
    for _ in range(2):
        await client.valid(moved(here))
    await client.valid(moved(here, n=1))
    await client.wrong(moved(here, n=9))
    await client.wrong(moved(here, client.name("unknown")))
    await client.wrong(moved("/no/such/directory"))
    await client.wrong(moved("relative"))
    await client.wrong(moved(""))
    await client.wrong(moved("/no/such/directory", client.name("unknown")))
    await client.wrong(moved("/no/such/directory", n=9))
    await client.boundary(AlterReplicaLogDirsRequest())


PREFERRED, UNCLEAN = 0, 1


@scenario(ApiKey.ELECT_LEADERS, "0-2")
async def leaders_are_elected(client: Client) -> None:
    topic = await client.topic(partitions=2)
    elect = lambda *partitions, name=topic.name, kind=PREFERRED: ElectLeadersRequest(  # noqa: E731
        election_type=kind,
        topic_partitions=[TopicPartitions(topic=name, partitions=list(partitions))],
        timeout_ms=10_000,
    )
    await client.valid(elect(0))
    await client.valid(elect(0, 1))
    await client.valid(ElectLeadersRequest(topic_partitions=None, timeout_ms=10_000))
    await client.boundary(ElectLeadersRequest(topic_partitions=[], timeout_ms=10_000))
    await client.boundary(elect())
    await client.wrong(elect(9))
    await client.wrong(elect(-1))
    await client.wrong(elect(0, name=client.name("unknown")))
    await client.wrong(elect(0, name=""))
    if client.version > 0:
        await client.boundary(elect(0, kind=UNCLEAN))
        await client.wrong(elect(0, kind=2))
        await client.wrong(elect(0, kind=-1))


@scenario(ApiKey.ALTER_PARTITION_REASSIGNMENTS, "0-1")
async def partitions_are_reassigned(client: Client) -> None:
    topic = await client.topic(partitions=2)

    def move(
        *replicas: int, name: str = topic.name, partition: int = 0, cancel: bool = False, change: bool = True
    ) -> AlterPartitionReassignmentsRequest:
        row = ReassignablePartition(partition_index=partition, replicas=None if cancel else list(replicas))
        return AlterPartitionReassignmentsRequest(
            timeout_ms=10_000,
            allow_replication_factor_change=change,
            topics=[ReassignableTopic(name=name, partitions=[row])],
        )

    await client.valid(move(1))
    await client.valid(move(1, partition=1))
    await client.valid(move(1, change=False))
    await client.boundary(AlterPartitionReassignmentsRequest(timeout_ms=1000))
    await client.wrong(move(2))
    await client.wrong(move(1, 1))
    await client.wrong(move())
    await client.wrong(move(1, -1))
    await client.wrong(move(1, 2, change=False))
    await client.wrong(move(cancel=True))
    await client.wrong(move(1, partition=9))
    await client.wrong(move(1, name=client.name("unknown")))
    await client.wrong(move(1, name=""))


@scenario(ApiKey.LIST_PARTITION_REASSIGNMENTS, "0")
async def reassignments_listed(client: Client) -> None:
    topic = await client.topic()
    of = lambda name, *partitions: ListPartitionReassignmentsRequest(  # noqa: E731
        topics=[ListPartitionReassignmentsTopics(name=name, partition_indexes=list(partitions))]
    )
    await client.valid(ListPartitionReassignmentsRequest(topics=None))
    await client.valid(of(topic.name, 0))
    await client.valid(of(topic.name))
    await client.boundary(ListPartitionReassignmentsRequest(topics=[]))
    await client.wrong(of(topic.name, 9))
    await client.wrong(of(client.name("unknown"), 0))
    await client.wrong(of("", -1))


@scenario(ApiKey.DESCRIBE_QUORUM, "0-2")
async def the_quorum(client: Client) -> None:
    of = lambda name, *partitions: DescribeQuorumRequest(  # noqa: E731
        topics=[
            DescribeQuorumRequestTopicData(
                topic_name=name,
                partitions=[DescribeQuorumRequestPartitionData(partition_index=n) for n in partitions],
            )
        ]
    )
    for _ in range(3):
        await client.valid(of("__cluster_metadata", 0))
    await client.wrong(of("__cluster_metadata", 1))
    await client.wrong(of("__cluster_metadata"))
    await client.wrong(of("__cluster_metadata", 0, 1))
    await client.wrong(of(client.name("unknown"), 0))
    await client.wrong(of("", 0))
    await client.wrong(DescribeQuorumRequest())


@scenario(ApiKey.UNREGISTER_BROKER, "0")
async def brokers_leave(client: Client) -> None:
    for broker_id in (7, 2**31 - 1, -1):
        await client.wrong(UnregisterBrokerRequest(broker_id=broker_id))


@scenario(ApiKey.ADD_RAFT_VOTER, "0-1")
async def voters_are_added(client: Client) -> None:
    listener = Listener(name="CONTROLLER", host="127.0.0.1", port=9093)
    add = lambda **fields: AddRaftVoterRequest(  # noqa: E731
        **{
            "cluster_id": None, "timeout_ms": 1000, "voter_id": 9, "voter_directory_id": b"\7" * 16,
            "listeners": [listener], **fields,
        }
    )  # fmt: skip
    await client.wrong(add())
    await client.wrong(add(cluster_id="another cluster"))
    await client.wrong(add(voter_id=-1))
    await client.wrong(add(voter_id=1))
    await client.wrong(add(listeners=[]))


@scenario(ApiKey.REMOVE_RAFT_VOTER, "0")
async def voters_are_removed(client: Client) -> None:
    remove = lambda **fields: RemoveRaftVoterRequest(  # noqa: E731
        **{"cluster_id": None, "voter_id": 9, "voter_directory_id": b"\7" * 16, **fields}
    )
    await client.wrong(remove())
    await client.wrong(remove(cluster_id="another cluster"))
    await client.wrong(remove(voter_id=-1))
    await client.wrong(remove(voter_id=1))


UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3


@scenario(ApiKey.UPDATE_FEATURES, "0-2")
async def features_change(client: Client) -> None:
    def update(feature: str, level: int, kind: int = UPGRADE, **fields: bool) -> UpdateFeaturesRequest:
        one = FeatureUpdateKey(
            feature=feature, max_version_level=level, upgrade_type=kind, allow_downgrade=kind != UPGRADE
        )
        return UpdateFeaturesRequest(timeout_ms=10_000, feature_updates=[one], **fields)

    await client.wrong(update("no.such.feature", 1))
    await client.wrong(update("transaction.version", 99))
    await client.wrong(update("group.version", -1))
    await client.wrong(update("group.version", 0))
    await client.wrong(update("metadata.version", 999))
    await client.wrong(update("metadata.version", 1, UNSAFE_DOWNGRADE))
    await client.wrong(update("", 1))
    if client.version > 0:
        await client.wrong(update("group.version", 1, 0, validate_only=True))
        await client.wrong(update("group.version", 1, 9, validate_only=True))
    await client.valid(update("group.version", 1))
    await client.valid(update("transaction.version", 2))
    await client.valid(update("group.version", 1, validate_only=client.version > 0))
    await client.boundary(UpdateFeaturesRequest(timeout_ms=1000))
