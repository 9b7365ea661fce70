"""A glance at a request tells exactly what the codec would have told, or nothing."""

from __future__ import annotations

import random

import pytest

from streamkit.broker.server.likeness import MOST_BYTES, Likeness
from streamkit.protocol.codec import decode
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import RequestHeader, decode_request, encode_request
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

TOPIC_ID = bytes(range(16))


def frame(
    version: int = 9,
    *,
    correlation_id: int = 1,
    partition: int = 0,
    records: bytes | None = b"records",
    topic: str = "t",
    acks: int = 1,
    client_id: str | None = "me",
    partitions: int = 1,
) -> memoryview:
    data = [PartitionProduceData(index=partition + n, records=records) for n in range(partitions)]
    request = ProduceRequest(
        acks=acks,
        timeout_ms=500,
        topic_data=[TopicProduceData(name=topic, topic_id=TOPIC_ID, partition_data=data)],
    )
    buffers = encode_request(request, version, correlation_id=correlation_id, client_id=client_id)
    return memoryview(b"".join(buffers))[4:]


def decoded(one: memoryview) -> tuple[RequestHeader, ProduceRequest]:
    header, body = decode_request(one)
    return header, decode(ProduceRequest, body, header.api_version)


def learned(one: memoryview) -> Likeness:
    likeness = Likeness()
    likeness.learn(one, *decoded(one))
    return likeness


@pytest.mark.parametrize("version", range(9, 14))
@pytest.mark.parametrize("client_id", [None, "", "é" * 200])
def test_what_is_new_in_it_is_read(version: int, client_id: str | None) -> None:
    likeness = learned(frame(version, client_id=client_id, topic="topic" * 30))
    for partition, size in (
        (0, 0),
        (-1, 126),
        (7, 127),
        (70_000, 128),
        (1, 16_382),
        (2, 16_383),
        (3, 3 << 20),
    ):
        one = frame(
            version, correlation_id=-size, partition=partition, records=bytes(size), client_id=client_id,
            topic="topic" * 30,
        )  # fmt: skip
        assert likeness.read(one) == decoded(one)


@pytest.mark.parametrize(
    "other",
    [
        frame(topic="u"),
        frame(topic="tt"),
        frame(acks=-1),
        frame(client_id="you"),
        frame(client_id=None),
        frame(version=10),
        frame(version=8),
        frame(partitions=2),
        frame(partitions=0),
        frame(records=None),
        frame()[:-1],
        frame()[:20],
        frame()[:3],
        memoryview(bytes(frame()) + b"\0"),
        memoryview(b""),
    ],
)
def test_what_is_unlike_is_left_to_the_codec(other: memoryview) -> None:
    assert learned(frame()).read(other) is None


@pytest.mark.parametrize(
    "one",
    [
        frame(version=8),
        frame(partitions=2),
        frame(partitions=0),
        frame(records=None),
        frame(records=bytes(MOST_BYTES)),
    ],
)
def test_what_has_no_likeness_is_not_learned(one: memoryview) -> None:
    assert learned(one).read(one) is None


@pytest.mark.parametrize("version", [9, 13])
def test_whatever_byte_is_changed_a_glance_never_tells_anything_else(version: int) -> None:
    rng = random.Random(version)
    likeness = learned(frame(version, records=bytes(300)))
    seen = 0
    for _ in range(4_000):
        changed = bytearray(frame(version, records=bytes(rng.choice((1, 126, 127, 300)))))
        for _ in range(rng.randint(1, 3)):
            changed[rng.choice((rng.randrange(len(changed)), rng.randrange(60) % len(changed)))] = rng.choice(
                (0, 1, 127, 128, 255, rng.randrange(256))
            )
        one = memoryview(changed)
        try:
            read = likeness.read(one)
        except MalformedMessageError:
            read = None
        if read is not None:
            assert read == decoded(one)
            seen += 1
    assert seen


def test_tags_that_nobody_knows_are_no_trouble() -> None:
    plain = bytes(frame())
    tagged = memoryview(plain[:-1] + b"\x01\x63\x02hi")
    likeness = learned(tagged)
    assert likeness.read(tagged) is None
    assert likeness.read(frame()) is None


def test_nor_are_they_where_the_length_of_the_records_would_be_none() -> None:
    tagged = memoryview(bytes(frame(records=b"\xff" * 20))[:-1] + b"\x01\x63\x02hi")
    assert learned(tagged).read(tagged) is None


def test_a_length_over_32_bits_is_left_to_the_codec() -> None:
    plain = bytes(frame(records=b""))
    assert learned(frame()).read(memoryview(plain[:-4] + b"\xff" * 5 + plain[-3:])) is None


def test_it_holds_on_to_no_records() -> None:
    one = bytearray(frame())
    likeness = learned(memoryview(one))
    one.extend(b"a bytearray that somebody views cannot grow")
    assert likeness.read(frame(partition=5)) == decoded(frame(partition=5))


def test_a_client_whose_requests_always_differ_is_not_learned_for_ever() -> None:
    likeness = Likeness()
    for number in range(10):
        one = frame(topic=f"topic-{number}")
        assert likeness.read(one) is None
        likeness.learn(one, *decoded(one))
    assert likeness.read(frame(topic="topic-9")) is None
