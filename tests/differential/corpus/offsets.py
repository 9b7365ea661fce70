"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords: where a log begins and ends."""

from __future__ import annotations

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from streamkit.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from streamkit.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.differential.scenario import FIRST_TIME_MS, Client, Topic, scenario

LATEST, EARLIEST, MAX_TIMESTAMP, LOCAL_EARLIEST, TIERED, PENDING = -1, -2, -3, -4, -5, -6
FIRST_WITH = {MAX_TIMESTAMP: 7, LOCAL_EARLIEST: 8, TIERED: 9, PENDING: 11}


def at(
    topic: Topic | str,
    time: int,
    *,
    partition: int = 0,
    epoch: int = -1,
    isolation: int = 0,
    replica: int = -1,
) -> ListOffsetsRequest:
    name = topic if isinstance(topic, str) else topic.name
    asked = ListOffsetsPartition(partition_index=partition, current_leader_epoch=epoch, timestamp=time)
    return ListOffsetsRequest(
        replica_id=replica,
        isolation_level=isolation,
        topics=[ListOffsetsTopic(name=name, partitions=[asked])],
        timeout_ms=5000,
    )


@scenario(ApiKey.LIST_OFFSETS, "1-11")
async def by_time(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 3)
    await client.records(topic, 3, first=10)
    for time in (FIRST_TIME_MS, FIRST_TIME_MS + 1, FIRST_TIME_MS + 2000, FIRST_TIME_MS + 11_000):
        await client.valid(at(topic, time))
    for time in (0, 1, FIRST_TIME_MS + 12_000, FIRST_TIME_MS + 12_001, 2**62):
        await client.boundary(at(topic, time))


@scenario(ApiKey.LIST_OFFSETS, "1-11")
async def the_ends(client: Client) -> None:
    topic, empty = await client.topic(), await client.topic("empty")
    await client.records(topic, 4)
    deleted = DeleteRecordsTopic(name=topic.name, partitions=[DeleteRecordsPartition(offset=1)])
    await client.setup(DeleteRecordsRequest(topics=[deleted], timeout_ms=5000))
    for time in (LATEST, EARLIEST, MAX_TIMESTAMP, LOCAL_EARLIEST, TIERED, PENDING):
        served = client.valid if client.version >= FIRST_WITH.get(time, 0) else client.wrong
        await served(at(topic, time))
        await served(at(empty, time))
    await client.valid(at(topic, LATEST, isolation=1))


@scenario(ApiKey.LIST_OFFSETS, "1-11")
async def of_what_is_not_there(client: Client) -> None:
    topic = await client.topic()
    for time in (LATEST, 5):
        await client.wrong(at(client.name("unknown"), time))
        await client.wrong(at(topic, time, partition=4))
        await client.wrong(at(topic, time, partition=-1))
    for time in (-7, -100, -(2**63)):
        await client.wrong(at(topic, time))
    await client.wrong(at("", LATEST))
    await client.wrong(at(topic, LATEST, replica=99))
    await client.boundary(at(topic, LATEST, replica=-2))
    await client.boundary(at(topic, LATEST, isolation=7))


@scenario(ApiKey.LIST_OFFSETS, "4-11")
async def with_epochs(client: Client) -> None:
    topic = await client.topic()
    await client.valid(at(topic, LATEST, epoch=0))
    await client.wrong(at(topic, LATEST, epoch=3))
    await client.wrong(at(topic, EARLIEST, epoch=3))
    await client.boundary(at(topic, EARLIEST, epoch=-2))


@scenario(ApiKey.LIST_OFFSETS, "1-11")
async def the_same_partition_twice(client: Client) -> None:
    topic = await client.topic()
    twice = [ListOffsetsPartition(timestamp=LATEST), ListOffsetsPartition(timestamp=EARLIEST)]
    asked = ListOffsetsTopic(name=topic.name, partitions=twice)
    await client.wrong(ListOffsetsRequest(replica_id=-1, topics=[asked]))
    await client.boundary(ListOffsetsRequest(replica_id=-1, topics=[]))


def end_of(
    topic: Topic | str, epoch: int, *, current: int = -1, partition: int = 0, replica: int = -1
) -> OffsetForLeaderEpochRequest:
    name = topic if isinstance(topic, str) else topic.name
    asked = OffsetForLeaderPartition(partition=partition, current_leader_epoch=current, leader_epoch=epoch)
    return OffsetForLeaderEpochRequest(
        replica_id=replica, topics=[OffsetForLeaderTopic(topic=name, partitions=[asked])]
    )


@scenario(ApiKey.OFFSET_FOR_LEADER_EPOCH, "2-4")
async def ends_of_epochs(client: Client) -> None:
    topic, empty = await client.topic(), await client.topic("empty")
    await client.records(topic, 4)
    await client.valid(end_of(topic, 0))
    await client.valid(end_of(topic, 0, current=0))
    await client.valid(end_of(empty, 0))
    await client.boundary(end_of(topic, 1))
    await client.boundary(end_of(topic, 99))
    await client.boundary(end_of(topic, -1))
    await client.boundary(end_of(topic, 0, replica=-2))


@scenario(ApiKey.OFFSET_FOR_LEADER_EPOCH, "2-4")
async def epochs_of_what_is_not_there(client: Client) -> None:
    topic = await client.topic()
    await client.wrong(end_of(client.name("unknown"), 0))
    await client.wrong(end_of(topic, 0, partition=9))
    await client.wrong(end_of(topic, 0, partition=-1))
    await client.wrong(end_of(topic, 0, current=8))
    await client.wrong(end_of(topic, -2, current=-2))
    await client.wrong(end_of(topic, 0, replica=99))
    await client.wrong(end_of("", 0))


def delete(topic: Topic | str, offset: int, partition: int = 0) -> DeleteRecordsRequest:
    name = topic if isinstance(topic, str) else topic.name
    before = DeleteRecordsPartition(partition_index=partition, offset=offset)
    return DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=name, partitions=[before])], timeout_ms=5000)


@scenario(ApiKey.DELETE_RECORDS, "0-2")
async def records_are_deleted(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 6)
    await client.valid(delete(topic, 2))
    await client.valid(delete(topic, 2))
    await client.valid(delete(topic, 4))
    await client.boundary(delete(topic, 1))
    await client.boundary(delete(topic, -1))
    await client.boundary(delete(await client.topic("empty"), 0))
    await client.boundary(DeleteRecordsRequest(topics=[], timeout_ms=1000))


@scenario(ApiKey.DELETE_RECORDS, "0-2")
async def records_are_not_deleted(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 2)
    await client.wrong(delete(topic, 3))
    await client.wrong(delete(topic, -2))
    await client.wrong(delete(topic, 1, partition=5))
    await client.wrong(delete(client.name("unknown"), 0))
    await client.wrong(delete("__consumer_offsets", 0))
    compacted = await client.topic("compacted", cleanup_policy="compact")
    await client.records(compacted, 2)
    await client.wrong(delete(compacted, 1))
    await client.wrong(delete("", 0))
