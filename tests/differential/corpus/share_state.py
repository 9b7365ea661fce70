"""What the share coordinator keeps of share-partitions: five APIs by which brokers ask each other."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages import (
    delete_share_group_state as deletion,
)
from streamkit.protocol.messages import (
    initialize_share_group_state as initialization,
)
from streamkit.protocol.messages import (
    read_share_group_state as reading,
)
from streamkit.protocol.messages import (
    read_share_group_state_summary as summary,
)
from streamkit.protocol.messages import (
    write_share_group_state as writing,
)
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from tests.differential.scenario import Client, Topic, scenario

SHARE = 2
UNKNOWN = Topic("", b"\7" * 16)
NOWHERE = Topic("", bytes(16))


def initialize(
    group: str, topic: Topic, epoch: int = 0, start: int = 0, partition: int = 0
) -> initialization.InitializeShareGroupStateRequest:
    row = initialization.PartitionData(partition=partition, state_epoch=epoch, start_offset=start)
    return initialization.InitializeShareGroupStateRequest(
        group_id=group, topics=[initialization.InitializeStateData(topic_id=topic.id, partitions=[row])]
    )


def read(
    group: str, topic: Topic, leader_epoch: int = 0, partition: int = 0
) -> reading.ReadShareGroupStateRequest:
    row = reading.PartitionData(partition=partition, leader_epoch=leader_epoch)
    return reading.ReadShareGroupStateRequest(
        group_id=group, topics=[reading.ReadStateData(topic_id=topic.id, partitions=[row])]
    )


def write(
    group: str,
    topic: Topic,
    epoch: int = 0,
    *,
    leader_epoch: int = 0,
    start: int = -1,
    partition: int = 0,
    batches: tuple[tuple[int, int, int, int], ...] = ((0, 4, 0, 1),),
) -> writing.WriteShareGroupStateRequest:
    """Batches are (first offset, last offset, delivery state, delivery count)."""
    state = [
        writing.StateBatch(first_offset=first, last_offset=last, delivery_state=one, delivery_count=count)
        for first, last, one, count in batches
    ]
    row = writing.PartitionData(
        partition=partition,
        state_epoch=epoch,
        leader_epoch=leader_epoch,
        start_offset=start,
        state_batches=state,
    )
    return writing.WriteShareGroupStateRequest(
        group_id=group, topics=[writing.WriteStateData(topic_id=topic.id, partitions=[row])]
    )


def delete(group: str, topic: Topic, partition: int = 0) -> deletion.DeleteShareGroupStateRequest:
    row = deletion.PartitionData(partition=partition)
    return deletion.DeleteShareGroupStateRequest(
        group_id=group, topics=[deletion.DeleteStateData(topic_id=topic.id, partitions=[row])]
    )


def summarize(
    group: str, topic: Topic, leader_epoch: int = 0, partition: int = 0
) -> summary.ReadShareGroupStateSummaryRequest:
    row = summary.PartitionData(partition=partition, leader_epoch=leader_epoch)
    return summary.ReadShareGroupStateSummaryRequest(
        group_id=group, topics=[summary.ReadStateSummaryData(topic_id=topic.id, partitions=[row])]
    )


async def coordinated(client: Client, group: str, topic: Topic) -> None:
    """Until the coordinator of this share-partition has loaded what it keeps."""
    key = f"{group}:{encoded(topic.id)}:0"
    await client.until_ready(
        FindCoordinatorRequest(coordinator_keys=[key], key_type=SHARE),
        lambda answer: answer.coordinators[0].error_code,
    )
    await client.until_ready(
        summarize(group, topic), lambda answer: answer.results[0].partitions[0].error_code
    )


def encoded(topic_id: bytes) -> str:
    return urlsafe_b64encode(topic_id).decode().rstrip("=")


async def partition_of(client: Client, suffix: str = "g") -> tuple[str, Topic]:
    topic, group = await client.topic(suffix), client.name(suffix)
    await coordinated(client, group, topic)
    return group, topic


@scenario(ApiKey.FIND_COORDINATOR, "6")
async def coordinators_of_share_partitions(client: Client) -> None:
    group, topic = client.name(), UNKNOWN
    for partition in range(3):
        key = f"{group}:{encoded(topic.id)}:{partition}"
        await client.valid(FindCoordinatorRequest(coordinator_keys=[key], key_type=SHARE))
    for key in (
        group,
        "",
        ":",
        f"{group}:{encoded(topic.id)}",
        f"{group}:{encoded(topic.id)}:x",
        f":{encoded(topic.id)}:0",
        f"{group}:abc:0",
    ):
        await client.wrong(FindCoordinatorRequest(coordinator_keys=[key], key_type=SHARE))


async def refused(client: Client, ask: Any, group: str, topic: Topic) -> None:
    await client.wrong(ask("", topic))
    await client.wrong(ask(group, NOWHERE))
    await client.wrong(ask(group, UNKNOWN))
    await client.wrong(ask(group, topic, partition=-1))
    await client.wrong(ask(group, topic, partition=9))


@scenario(ApiKey.INITIALIZE_SHARE_GROUP_STATE, "0")
async def state_begins(client: Client) -> None:
    group, topic = await partition_of(client)
    await client.valid(initialize(group, topic, 1, 10))
    await client.valid(initialize(group, topic, 1, 20))
    await client.valid(initialize(group, topic, 2, -1))
    await client.wrong(initialize(group, topic, 0, 5))
    await client.wrong(initialize(group, topic, -1, 5))
    await client.wrong(initialize(group, topic, 3, -9))
    await refused(client, initialize, group, topic)
    await client.boundary(initialization.InitializeShareGroupStateRequest(group_id=group))


@scenario(ApiKey.READ_SHARE_GROUP_STATE, "0")
async def state_is_read(client: Client) -> None:
    group, topic = await partition_of(client)
    await client.boundary(read(group, topic))
    await client.setup(initialize(group, topic, 1, 10))
    await client.valid(read(group, topic))
    await client.setup(write(group, topic, 1, start=10, batches=((10, 14, 0, 1), (15, 19, 2, 1))))
    await client.valid(read(group, topic))
    await client.valid(read(group, topic, 5))
    await client.wrong(read(group, topic, 4))
    await refused(client, read, group, topic)


@scenario(ApiKey.WRITE_SHARE_GROUP_STATE, "0-1")
async def state_is_written(client: Client) -> None:
    group, topic = await partition_of(client)
    await client.wrong(write(group, topic))
    await client.setup(initialize(group, topic, 1, 0))
    await client.valid(write(group, topic, 1, batches=((0, 4, 0, 1), (5, 9, 2, 1))))
    await client.valid(write(group, topic, 1, start=5, batches=()))
    await client.valid(write(group, topic, 1, start=10, batches=((10, 12, 4, 3),)))
    await client.valid(read(group, topic))
    await client.wrong(write(group, topic, 0))
    await client.wrong(write(group, topic, 1, leader_epoch=-1))
    await client.wrong(write(group, topic, 1, batches=((5, 4, 0, 1),)))
    await client.wrong(write(group, topic, 1, batches=((20, 24, 9, 1),)))
    await refused(client, write, group, topic)


@scenario(ApiKey.READ_SHARE_GROUP_STATE_SUMMARY, "0-1")
async def state_is_summarized(client: Client) -> None:
    group, topic = await partition_of(client)
    await client.boundary(summarize(group, topic))
    await client.setup(initialize(group, topic, 1, 10))
    await client.valid(summarize(group, topic))
    await client.setup(write(group, topic, 1, start=12, batches=((12, 14, 2, 1),)))
    await client.valid(summarize(group, topic))
    await client.valid(summarize(group, topic, 3))
    await refused(client, summarize, group, topic)


@scenario(ApiKey.DELETE_SHARE_GROUP_STATE, "0")
async def state_is_deleted(client: Client) -> None:
    for suffix in ("a", "b", "c"):
        group, topic = await partition_of(client, suffix)
        await client.setup(initialize(group, topic, 1, 10))
        await client.valid(delete(group, topic))
        await client.valid(summarize(group, topic))
        await client.boundary(delete(group, topic))
    await refused(client, delete, group, topic)
