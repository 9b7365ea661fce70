"""Fetch: what is read, from where, in sessions and without."""

from __future__ import annotations

from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from streamkit.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from streamkit.protocol.records.compression import Codec
from tests.differential.scenario import Client, Topic, batch_of, scenario

API = ApiKey.FETCH
OVER = "4-18"
NO_SESSION, FIRST_OF_SESSION = -1, 0
READ_COMMITTED = 1
FIRST_WITH_IDS = 13
UNKNOWN_ID = b"\7" * 16


def part(topic: Topic, *offsets: int, partition: int = 0, **fields: Any) -> FetchTopic:
    """Partitions from `partition` on, each from its offset."""
    settings = {"partition_max_bytes": 1 << 20, **fields}
    asked = [
        FetchPartition(partition=partition + n, fetch_offset=at, **settings) for n, at in enumerate(offsets)
    ]
    return FetchTopic(topic=topic.name, topic_id=topic.id, partitions=asked)


def fetch(*topics: FetchTopic, **fields: Any) -> FetchRequest:
    return FetchRequest(
        **{"max_wait_ms": 100, "min_bytes": 0, "max_bytes": 1 << 20, "topics": list(topics), **fields}
    )


@scenario(API, OVER)
async def from_every_offset(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 3)
    await client.records(topic, 2, first=3)
    for offset in (0, 1, 3, 4):
        await client.valid(fetch(part(topic, offset)))
    await client.boundary(fetch(part(topic, 5)))
    await client.boundary(fetch(part(topic, 5), min_bytes=1))
    await client.wrong(fetch(part(topic, 6)))
    await client.wrong(fetch(part(topic, -1)))
    await client.wrong(fetch(part(topic, 2**62)))


@scenario(API, OVER)
async def limits_of_size(client: Client) -> None:
    topic = await client.topic(partitions=2)
    for partition in (0, 1):
        await client.records(topic, 3, partition)
        await client.records(topic, 2, partition, first=3)
    one = len(batch_of(3))
    await client.boundary(fetch(part(topic, 0, partition_max_bytes=1)))
    await client.boundary(fetch(part(topic, 0, partition_max_bytes=0)))
    await client.boundary(fetch(part(topic, 0, partition_max_bytes=-1)))
    await client.boundary(fetch(part(topic, 0, partition_max_bytes=one)))
    await client.boundary(fetch(part(topic, 0, partition_max_bytes=one + 1)))
    await client.boundary(fetch(part(topic, 0, 0), max_bytes=1))
    await client.boundary(fetch(part(topic, 0, 0), max_bytes=one))
    await client.boundary(fetch(part(topic, 0, 0), max_bytes=0))
    await client.valid(fetch(part(topic, 0, 3)))


@scenario(API, OVER)
async def waiting_and_nothing_asked(client: Client) -> None:
    topic = await client.topic()
    await client.valid(fetch(part(topic, 0), max_wait_ms=0))
    await client.valid(fetch(part(topic, 0), max_wait_ms=50, min_bytes=1000))
    await client.boundary(fetch())
    await client.boundary(fetch(max_wait_ms=-1))
    await client.boundary(fetch(part(topic, 0), isolation_level=2))
    await client.boundary(fetch(part(topic, 0), isolation_level=-1))
    await client.boundary(fetch(part(topic, 0), rack_id="somewhere"))


@scenario(API, OVER)
async def every_codec_comes_back(client: Client) -> None:
    topic = await client.topic()
    for codec in (Codec.NONE, Codec.GZIP, Codec.SNAPPY, Codec.LZ4):
        await client.records(topic, 2, codec=codec)
    await client.valid(fetch(part(topic, 0)))
    await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))
    zstd = await client.topic("zstd")
    await client.records(zstd, 2, codec=Codec.ZSTD)
    await (client.wrong if client.version < 10 else client.valid)(fetch(part(zstd, 0)))


@scenario(API, OVER)
async def unknown_topics_and_partitions(client: Client) -> None:
    topic = await client.topic()
    unknown = Topic(client.name("unknown"), UNKNOWN_ID)
    await client.wrong(fetch(part(unknown, 0)))
    await client.wrong(fetch(part(topic, 0, 0)))
    await client.wrong(fetch(part(topic, 0), part(unknown, 0)))
    await client.wrong(fetch(part(topic, 0, partition=-1)))
    await client.wrong(fetch(part(Topic(""), 0)))


@scenario(API, "9-18")
async def epochs_of_the_leader(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 2)
    await client.valid(fetch(part(topic, 0, current_leader_epoch=0)))
    await client.wrong(fetch(part(topic, 0, current_leader_epoch=1)))
    await client.boundary(fetch(part(topic, 0, current_leader_epoch=-1)))
    await client.boundary(fetch(part(topic, 0, current_leader_epoch=-2)))


@scenario(API, "12-18")
async def epochs_that_were_fetched_last(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 3)
    await client.valid(fetch(part(topic, 2, last_fetched_epoch=0)))
    await client.boundary(fetch(part(topic, 2, last_fetched_epoch=5)))
    await client.boundary(fetch(part(topic, 2, last_fetched_epoch=-2)))


@scenario(API, OVER)
async def after_records_were_deleted(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 5)
    deleted = DeleteRecordsTopic(name=topic.name, partitions=[DeleteRecordsPartition(offset=3)])
    await client.setup(DeleteRecordsRequest(topics=[deleted], timeout_ms=5000))
    await client.wrong(fetch(part(topic, 2)))
    await client.valid(fetch(part(topic, 3)))


@scenario(API, "7-18")
async def a_session(client: Client) -> None:
    a, b = await client.topic("a", 2), await client.topic("b")
    await client.records(a, 1)
    opened = await client.valid(
        fetch(part(a, 0, 0), part(b, 0), session_id=0, session_epoch=FIRST_OF_SESSION)
    )
    session = {"session_id": opened.session_id}
    await client.valid(fetch(session_epoch=1, **session))
    await client.valid(fetch(part(a, 1), session_epoch=2, **session))
    await client.records(b, 2)
    await client.valid(fetch(session_epoch=3, **session))
    forgotten = ForgottenTopic(topic=b.name, topic_id=b.id, partitions=[0])
    await client.valid(fetch(session_epoch=4, forgotten_topics_data=[forgotten], **session))
    await client.records(a, 1, 1)
    await client.valid(fetch(session_epoch=5, **session))
    await client.wrong(fetch(session_epoch=9, **session))
    await client.wrong(fetch(session_epoch=6, session_id=opened.session_id ^ 1))
    await client.valid(fetch(session_epoch=NO_SESSION, **session))
    await client.wrong(fetch(session_epoch=6, **session))


@scenario(API, "7-18")
async def sessions_with_errors(client: Client) -> None:
    a = await client.topic("a")
    unknown = Topic(client.name("unknown"), UNKNOWN_ID)
    await client.records(a, 1)
    opened = await client.wrong(fetch(part(a, 1), part(unknown, 0), session_epoch=FIRST_OF_SESSION))
    session = {"session_id": opened.session_id}
    await client.wrong(fetch(session_epoch=1, **session))
    await client.wrong(fetch(part(a, 99), session_epoch=2, **session))
    await client.boundary(fetch(part(a, 1), session_epoch=3, **session))
    forgotten = ForgottenTopic(topic=a.name, topic_id=a.id, partitions=[5])
    await client.boundary(fetch(session_epoch=4, forgotten_topics_data=[forgotten], **session))
    await client.boundary(fetch(session_id=opened.session_id, session_epoch=FIRST_OF_SESSION))
    await client.boundary(fetch(session_id=0, session_epoch=FIRST_OF_SESSION))
    await client.wrong(fetch(session_id=1, session_epoch=1))
    await client.wrong(fetch(part(a, 0), session_id=0, session_epoch=5))


@scenario(API, OVER)
async def the_same_partition_twice(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 2)
    await client.boundary(fetch(part(topic, 0), part(topic, 1)))


@scenario(API, OVER)
async def as_a_replica_that_nobody_knows(client: Client) -> None:
    topic = await client.topic()
    await client.records(topic, 1)
    if client.version <= 14:
        await client.boundary(fetch(part(topic, 0), replica_id=-2))
        await client.wrong(fetch(part(topic, 0), replica_id=99))
