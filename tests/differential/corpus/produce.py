"""Produce: what is appended, what is refused, and what is a duplicate."""

from __future__ import annotations

from collections.abc import Iterator

from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.records.compression import Codec
from streamkit.protocol.records.record import Record, encode_batch
from tests.differential.scenario import FIRST_TIME_MS, Client, Kind, Topic, batch_of, scenario

API = ApiKey.PRODUCE
OVER = "3-13"
ALL, LEADER = -1, 1
FIRST_WITH_ZSTD = 7


def produce(
    topic: Topic,
    *records: bytes | None,
    partition: int = 0,
    acks: int = ALL,
    transactional_id: str | None = None,
) -> ProduceRequest:
    """Each of `records` to a partition of its own, from `partition` on."""
    data = [PartitionProduceData(index=partition + n, records=one) for n, one in enumerate(records)]
    return ProduceRequest(
        transactional_id=transactional_id,
        acks=acks,
        timeout_ms=5000,
        topic_data=[TopicProduceData(name=topic.name, topic_id=topic.id, partition_data=data)],
    )


@scenario(API, OVER)
async def batches_are_appended(client: Client) -> None:
    topic = await client.topic(partitions=2)
    await client.valid(produce(topic, batch_of(1)))
    await client.valid(produce(topic, batch_of(3), acks=LEADER))
    await client.valid(produce(topic, batch_of(2), batch_of(2)))
    tombstone = encode_batch([Record(timestamp=FIRST_TIME_MS, key=b"k", headers=(("h", b"v"), ("n", None)))])
    await client.valid(produce(topic, tombstone))
    await client.boundary(produce(topic))


@scenario(API, OVER)
async def every_codec(client: Client) -> None:
    topic = await client.topic()
    for codec in Codec:
        served = client.wrong if codec is Codec.ZSTD and client.version < FIRST_WITH_ZSTD else client.valid
        await served(produce(topic, batch_of(5, codec=codec)))


@scenario(API, OVER)
async def log_append_time(client: Client) -> None:
    topic = await client.topic(message_timestamp_type="LogAppendTime")
    await client.valid(produce(topic, batch_of(2)))
    await client.valid(produce(topic, batch_of(1, codec=Codec.GZIP)))


@scenario(API, OVER)
async def the_topics_codec(client: Client) -> None:
    """The broker writes anew what came with another codec."""
    topic = await client.topic(compression_type="gzip")
    await client.valid(produce(topic, batch_of(2)))
    await client.valid(produce(topic, batch_of(2, codec=Codec.LZ4)))


@scenario(API, OVER)
async def unknown_topics_and_partitions(client: Client) -> None:
    topic = await client.topic()
    await client.wrong(produce(Topic(client.name("unknown"), b"\7" * 16), batch_of(1)))
    await client.wrong(produce(topic, batch_of(1), partition=7))
    await client.wrong(produce(topic, batch_of(1), partition=-1))
    await client.wrong(produce(topic, batch_of(1), batch_of(1)))
    await client.wrong(produce(Topic(""), batch_of(1)))


@scenario(API, OVER)
async def bad_acks(client: Client) -> None:
    topic = await client.topic()
    for acks in (2, -2, 32767):
        await client.wrong(produce(topic, batch_of(1), acks=acks))


@scenario(API, OVER)
async def internal_topics(client: Client) -> None:
    await client.wrong(produce(Topic("__consumer_offsets"), batch_of(1)), version=min(client.version, 12))


def spoiled() -> Iterator[bytes | None]:
    good = batch_of(2)
    yield b""
    yield good[:-1]
    yield good[:60]
    yield good[:20] + bytes([good[20] ^ 1]) + good[21:]
    yield good[:16] + b"\1" + good[17:]
    yield good[:16] + b"\3" + good[17:]
    yield good + good
    yield good[:8] + (2**31 - 1).to_bytes(4) + good[12:]
    yield good[:8] + (10).to_bytes(4) + good[12:]


@scenario(API, OVER)
async def spoiled_batches(client: Client) -> None:
    topic = await client.topic()
    for records in spoiled():
        await client.wrong(produce(topic, records))
    await client.valid(produce(topic, batch_of(1)))


@scenario(API, OVER)
async def bytes_after_a_batch(client: Client) -> None:
    await client.boundary(produce(await client.topic(), batch_of(2) + b"\0" * 7))


@scenario(API, OVER)
async def no_records_at_all(client: Client) -> None:
    topic = await client.topic()
    await client.ask(Kind.WRONG, produce(topic, None), answer_s=1)


@scenario(API, OVER)
async def batches_that_only_brokers_write(client: Client) -> None:
    topic = await client.topic()
    await client.wrong(produce(topic, batch_of(1, control=True)))
    await client.wrong(produce(topic, batch_of(1, producer_id=4_000, producer_epoch=0)))
    await client.wrong(produce(topic, batch_of(1, producer_id=4_000, producer_epoch=-1, base_sequence=0)))
    await client.boundary(produce(topic, batch_of(1, base_offset=77)))
    await client.boundary(produce(topic, batch_of(1, leader_epoch=9)))


@scenario(API, OVER)
async def too_large(client: Client) -> None:
    topic = await client.topic(max_message_bytes="200", segment_bytes="1048576")
    await client.valid(produce(topic, batch_of(3)))
    await client.wrong(produce(topic, batch_of(20)))
    size = len(batch_of(3))
    exact = await client.topic("exact", max_message_bytes=str(size))
    below = await client.topic("below", max_message_bytes=str(size - 1))
    await client.boundary(produce(exact, batch_of(3)))
    await client.boundary(produce(below, batch_of(3)))


@scenario(API, OVER)
async def timestamps_out_of_bounds(client: Client) -> None:
    topic = await client.topic(message_timestamp_after_max_ms="1000", message_timestamp_before_max_ms="1000")
    await client.wrong(produce(topic, batch_of(1)))
    await client.wrong(produce(topic, batch_of(2, time_ms=4_000_000_000_000)))
    await client.boundary(produce(await client.topic("free"), batch_of(1, time_ms=-1)))


@scenario(API, OVER)
async def keys_on_compacted_topics(client: Client) -> None:
    topic = await client.topic(cleanup_policy="compact")
    await client.valid(produce(topic, batch_of(2)))
    keyless = [Record(timestamp=FIRST_TIME_MS, value=b"v")]
    await client.wrong(produce(topic, encode_batch(keyless)))
    mixed = [Record(timestamp=FIRST_TIME_MS, key=b"k"), *keyless, *keyless]
    await client.wrong(produce(topic, encode_batch(mixed)))


@scenario(API, OVER)
async def too_few_replicas(client: Client) -> None:
    topic = await client.topic(min_insync_replicas="2")
    await client.wrong(produce(topic, batch_of(1)))
    await client.boundary(produce(topic, batch_of(1), acks=LEADER))


@scenario(API, OVER)
async def sequences_of_a_producer(client: Client) -> None:
    topic = await client.topic()
    mine = await client.setup(InitProducerIdRequest(transactional_id=None))
    ids = {"producer_id": mine.producer_id, "producer_epoch": mine.producer_epoch}
    for sequence in (0, 2, 4, 6, 8, 10):
        await client.valid(produce(topic, batch_of(2, base_sequence=sequence, **ids)))
    for duplicate in (10, 8, 2):
        await client.boundary(produce(topic, batch_of(2, base_sequence=duplicate, **ids)))
    await client.wrong(produce(topic, batch_of(2, base_sequence=0, **ids)))
    await client.wrong(produce(topic, batch_of(1, base_sequence=99, **ids)))
    await client.wrong(produce(topic, batch_of(3, base_sequence=10, **ids)))
    later = {**ids, "producer_epoch": 5}
    await client.wrong(produce(topic, batch_of(1, base_sequence=3, **later)))
    await client.boundary(produce(topic, batch_of(1, base_sequence=0, **later)))
    await client.wrong(produce(topic, batch_of(1, base_sequence=12, **ids)))


@scenario(API, OVER)
async def sequences_wrap(client: Client) -> None:
    topic = await client.topic()
    ids = {"producer_id": 9_000_000, "producer_epoch": 0}
    await client.boundary(produce(topic, batch_of(2, base_sequence=2**31 - 2, **ids)))
    await client.boundary(produce(topic, batch_of(1, base_sequence=0, **ids)))
    await client.boundary(produce(topic, batch_of(1, base_sequence=1, **ids)))


@scenario(API, OVER)
async def transactional_batches_without_a_transaction(client: Client) -> None:
    topic = await client.topic()
    name = await client.transactional_id()
    mine = await client.setup(InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000))
    ids = {"producer_id": mine.producer_id, "producer_epoch": mine.producer_epoch, "base_sequence": 0}
    outside = batch_of(1, transactional=True, **ids)
    await client.wrong(produce(topic, outside, transactional_id=None))
    if client.version < 12:
        await client.wrong(produce(topic, outside, transactional_id=name))
    await client.wrong(produce(topic, batch_of(1, transactional=True), transactional_id=name))
    await client.wrong(produce(topic, outside, transactional_id=""))


@scenario(API, OVER)
async def the_same_partition_twice(client: Client) -> None:
    topic = await client.topic()
    once = PartitionProduceData(index=0, records=batch_of(1))
    data = TopicProduceData(name=topic.name, topic_id=topic.id, partition_data=[once])
    await client.boundary(ProduceRequest(acks=ALL, timeout_ms=5000, topic_data=[data, data]))
    await client.boundary(ProduceRequest(acks=ALL, timeout_ms=5000, topic_data=[]))
