"""Whatever bytes arrive: a message, or MalformedMessageError; and no more memory than they justify."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.protocol.codec import decode, encode
from streamkit.protocol.compiler.source import least_size
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import decode_request, decode_response, encode_request
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.describe_groups import DescribeGroupsRequest
from streamkit.protocol.messages.fetch import FetchRequest, FetchResponse
from streamkit.protocol.messages.heartbeat import HeartbeatResponse
from streamkit.protocol.messages.join_group import JoinGroupRequest
from streamkit.protocol.messages.metadata import MetadataRequest
from streamkit.protocol.messages.produce import ProduceRequest
from streamkit.protocol.primitives import uvarint
from streamkit.protocol.schema import Blob, Message, RecordBatches, Text
from tests.protocol.samples import PAIRS, pair_id, sample

HUGE = [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\x7f\xff"]
NEGATIVE = [b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\xff\xfe", b"\x80\0"]
UNKNOWN_TAG = b"\xc8\x01\x00"

CLASSES = list(dict.fromkeys(cls for cls, _ in PAIRS))
ALLOWANCE_BYTES = 64 << 10
ALLOWANCE_RATIO = 8


def decode_or_refuse(cls: type[Message], data: bytes, version: int) -> None:
    with contextlib.suppress(MalformedMessageError):
        decode(cls, data, version)


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def overwritten(data: bytes, patches: list[bytes]) -> Iterator[bytes]:
    """`data` with each patch at each position: some of them hit a length or a count."""
    for patch in patches:
        for pos in range(len(data) - len(patch) + 1):
            yield data[:pos] + patch + data[pos + len(patch) :]


@pytest.mark.parametrize("cls", CLASSES, ids=pair_id)
def test_a_message_cut_short_at_any_byte_is_malformed(cls: type[Message]) -> None:
    for version in range(cls.VERSIONS.first, cls.VERSIONS.last + 1):
        data = encode(sample(cls, version), version)
        for cut in range(len(data)):
            with pytest.raises(MalformedMessageError):
                decode(cls, data[:cut], version)


@pytest.mark.parametrize("cls", CLASSES, ids=pair_id)
def test_huge_and_negative_lengths_anywhere_raise_nothing_else(cls: type[Message]) -> None:
    for version in range(cls.VERSIONS.first, cls.VERSIONS.last + 1):
        for data in overwritten(encode(sample(cls, version), version), HUGE[:2] + NEGATIVE[:2]):
            decode_or_refuse(cls, data, version)


@pytest.mark.parametrize(
    ("cls", "version"),
    [(ProduceRequest, 3), (ProduceRequest, 13), (FetchRequest, 12), (FetchResponse, 4),
     (MetadataRequest, 0), (MetadataRequest, 13), (JoinGroupRequest, 9), (ApiVersionsRequest, 3)],
    ids=pair_id,
)  # fmt: skip
def test_a_declared_count_or_length_allocates_nothing_by_itself(cls: type[Message], version: int) -> None:
    good = encode(sample(cls, version), version)
    decode(cls, good, version)
    for data in overwritten(good, HUGE[:2] + NEGATIVE[:1]):
        peak = peak_bytes(lambda data=data: decode_or_refuse(cls, data, version))  # type: ignore[misc]
        assert peak <= ALLOWANCE_RATIO * len(data) + ALLOWANCE_BYTES


@pytest.mark.parametrize(("count", "fits"), [(5, True), (6, False), (2**31 - 1, False), (-2, False)])
def test_a_count_is_held_against_the_bytes_that_are_left(count: int, fits: bool) -> None:
    """Five topics of two bytes each fill the rest; a sixth cannot be there."""
    data = count.to_bytes(4, "big", signed=True) + bytes(10)
    if fits:
        assert len(decode(MetadataRequest, data, 1).topics or []) == count
    else:
        with pytest.raises(MalformedMessageError, match=f"claims the length {count}"):
            decode(MetadataRequest, data, 1)


def test_the_least_size_of_a_string_is_not_that_of_bytes() -> None:
    """Both are a length and what follows, but their lengths differ in size: two names of one letter fit."""
    sizes = [least_size(wire, 0, False) for wire in (Blob(), Text(), RecordBatches(), Text())]
    assert sizes == [4, 2, 4, 2]
    request = DescribeGroupsRequest(groups=["", "a"])
    assert decode(DescribeGroupsRequest, encode(request, 0), 0) == request


def test_a_varint_does_not_run_on() -> None:
    for length in (b"\xff" * 20, b"\xff\xff\xff\xff\x7f", b"\x80" * 9):
        with pytest.raises(MalformedMessageError, match="varint"):
            decode(MetadataRequest, length + bytes(100), 9)


def tags(count: int) -> bytes:
    return bytes([count]) + UNKNOWN_TAG * count


@pytest.mark.parametrize(
    ("cls", "version", "before", "after"),
    [
        (ApiVersionsRequest, 3, b"\x03us\x021", b""),
        (HeartbeatResponse, 4, b"\0\0\0\0\0\0", b""),
        (FetchRequest, 12, encode(FetchRequest(), 12)[:-1], b""),
        (MetadataRequest, 9, b"\x02\x02a", b"\x01\0\0\0"),
    ],
    ids=["the root", "a response", "beside known tags", "nested"],
)
def test_sixty_four_unknown_tagged_fields_pass_and_more_do_not(
    cls: type[Message], version: int, before: bytes, after: bytes
) -> None:
    decode(cls, before + tags(64) + after, version)
    for count in (65, 100, 127, 128, 255):
        with pytest.raises(MalformedMessageError, match="more than 64 unknown tagged fields"):
            decode(cls, before + tags(count) + after, version)


def test_sixty_four_unknown_tagged_fields_pass_in_headers_and_more_do_not() -> None:
    request = b"\0\x12\0\x03\0\0\0\x07\0\x02me"
    assert decode_request(request + tags(64))[0].client_id == "me"
    response = b"\0\0\0\x07"
    assert decode_response(HeartbeatResponse, response + tags(64) + bytes(7), 4)[0] == 7
    for count in (65, 200):
        with pytest.raises(MalformedMessageError, match="more than 64 unknown tagged fields"):
            decode_request(request + tags(count))
        with pytest.raises(MalformedMessageError, match="more than 64 unknown tagged fields"):
            decode_response(HeartbeatResponse, response + tags(count) + bytes(7), 4)


def test_a_tagged_field_fills_its_size_exactly() -> None:
    good = encode(FetchRequest(cluster_id="abc"), 12)
    assert good.endswith(b"\x01\x00\x04\x04abc")
    body = good[: -len(b"\x01\x00\x04\x04abc")]
    for section in (
        b"\x01\x00\x03\x04abc",
        b"\x01\x00\x05\x04abcd",
        b"\x01\x00\x04\x03abc",
        b"\x01\x00\x7f\x04abc",
    ):
        with pytest.raises(MalformedMessageError):
            decode(FetchRequest, body + section, 12)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\0\0\0\x09\0\0\0\x01", b"\0\0\0\x09\0\0\0\x01\0", b"\0\0\0\x09\0\0\0\x01\0\x05abc",
        b"\0\0\0\x09\0\0\0\x01\xff\xfe", b"\0\0\0\x09\0\0\0\x01\0\x01\xff", b"\0\0\0\x09\0\0\0\x01\0\x01a",
    ],
)  # fmt: skip
def test_a_request_header_that_is_cut_short_or_lies_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_request(frame)


def test_a_string_that_is_not_utf_8_is_malformed() -> None:
    with pytest.raises(MalformedMessageError, match="UTF-8"):
        decode(MetadataRequest, b"\0\0\0\x01\0\x02\xff\xfe", 1)


def read_frame(frame: bytes, cls: type[Message]) -> None:
    header, body = decode_request(frame)
    if header.api_key == cls.KEY and header.api_version in cls.VERSIONS:
        decode(cls, body, header.api_version)


REQUESTS = [pair for pair in PAIRS if pair[0].__name__.endswith("Request")]


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    pair=st.sampled_from(REQUESTS),
    edits=st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 4), st.binary(max_size=6)), min_size=1, max_size=6
    ),
)
def test_a_mutated_frame_is_read_or_refused(
    pair: tuple[type[Message], int], edits: list[tuple[int, int, bytes]]
) -> None:
    cls, version = pair
    frame = bytearray(
        b"".join(encode_request(sample(cls, version), version, correlation_id=1, client_id="me"))[4:]
    )
    for position, removed, inserted in edits:
        start = position % (len(frame) + 1)
        frame[start : start + removed] = inserted
    with contextlib.suppress(MalformedMessageError):
        read_frame(bytes(frame), cls)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(pair=st.sampled_from(PAIRS), data=st.binary(max_size=300))
def test_noise_is_read_or_refused(pair: tuple[type[Message], int], data: bytes) -> None:
    decode_or_refuse(pair[0], data, pair[1])


def test_the_smallest_elements_cost_no_more_than_their_objects() -> None:
    """A frame full of nameless topics is legal; its price is a structure and a list for each, not more."""
    count = 20_000
    data = b"\0\xff\xff\0\0\0\0" + uvarint(count + 1) + b"\x01\x01\0" * count + b"\0"
    assert len(decode(ProduceRequest, data, 9).topic_data) == count
    assert peak_bytes(lambda: decode(ProduceRequest, data, 9)) <= 128 * count
