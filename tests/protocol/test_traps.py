"""Corners of the wire format where implementations are known to differ, against bytes written by hand."""

from __future__ import annotations

import pytest

from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.codec import decode, encode
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.errors import MalformedMessageError, UnsupportedVersionError
from streamkit.protocol.framing import decode_request, decode_response, encode_request, encode_response
from streamkit.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from streamkit.protocol.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest
from streamkit.protocol.messages.heartbeat import HeartbeatResponse
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic


def test_1_the_response_to_api_versions_has_no_tag_section_in_its_header_in_any_version() -> None:
    for version in range(5):
        response = ApiVersionsResponse(api_keys=[ApiVersion(api_key=18, max_version=4)])
        frame = b"".join(encode_response(9, response, version))
        assert frame == len(frame[4:]).to_bytes(4, "big") + b"\0\0\0\x09" + encode(response, version)
        assert decode_response(ApiVersionsResponse, frame[4:], version) == (9, response)


def test_1_other_flexible_responses_have_one() -> None:
    response = HeartbeatResponse(error_code=3)
    assert b"".join(encode_response(9, response, 3))[4:] == b"\0\0\0\x09" + encode(response, 3)
    assert b"".join(encode_response(9, response, 4))[4:] == b"\0\0\0\x09\0" + encode(response, 4)
    assert decode_response(HeartbeatResponse, b"\0\0\0\x09\0" + encode(response, 4), 4) == (9, response)


@pytest.mark.parametrize(("client_id", "encoded"), [(None, b"\xff\xff"), ("", b"\0\0"), ("me", b"\0\x02me")])
def test_1_the_client_id_is_a_legacy_string_in_flexible_headers_too(
    client_id: str | None, encoded: bytes
) -> None:
    request = ApiVersionsRequest(client_software_name="us", client_software_version="1")
    frame = b"".join(encode_request(request, 3, correlation_id=7, client_id=client_id))
    assert frame[4:] == b"\0\x12\0\x03\0\0\0\x07" + encoded + b"\0" + b"\x03us\x021\0"
    header, body = decode_request(frame[4:])
    assert header.client_id == client_id
    assert decode(ApiVersionsRequest, body, 3) == request


def test_2_the_header_of_an_unknown_version_of_api_versions_can_be_read_and_refused_in_version_0() -> None:
    header, _ = decode_request(b"\0\x12\x00\x63\0\0\0\x07\0\x02me\0 whatever version 99 will have")
    assert (header.api_key, header.api_version, header.correlation_id) == (ApiKey.API_VERSIONS, 99, 7)
    refusal = ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[ApiVersion(api_key=18, max_version=4)]
    )
    assert b"".join(encode_response(header.correlation_id, refusal, 0)) == (
        b"\0\0\0\x10" b"\0\0\0\x07" b"\0\x23" b"\0\0\0\x01" b"\0\x12\0\0\0\x04"
    )  # fmt: skip


def test_2_the_header_of_an_unknown_api_can_be_read() -> None:
    header, body = decode_request(b"\x7f\xff\0\x01\0\0\0\x07\xff\xff rest")
    assert (header.api_key, header.api_version, header.client_id, bytes(body)) == (0x7FFF, 1, None, b" rest")


@pytest.mark.parametrize(
    ("topics", "version", "encoded"),
    [
        (None, 1, b"\xff\xff\xff\xff"),
        ([], 1, b"\0\0\0\0"),
        ([], 0, b"\0\0\0\0"),
        ([MetadataRequestTopic(name="a")], 1, b"\0\0\0\x01\0\x01a"),
        (None, 9, b"\0\x01\0\0\0"),
        ([], 9, b"\x01\x01\0\0\0"),
        ([MetadataRequestTopic(name="a")], 9, b"\x02\x02a\0\x01\0\0\0"),
        ([MetadataRequestTopic(name=None, topic_id=b"i" * 16)], 12, b"\x02" + b"i" * 16 + b"\0\0\x01\0\0"),
        ([MetadataRequestTopic(name="", topic_id=b"i" * 16)], 12, b"\x02" + b"i" * 16 + b"\x01\0\x01\0\0"),
    ],
)
def test_9_null_and_empty_are_different_things(
    topics: list[MetadataRequestTopic] | None, version: int, encoded: bytes
) -> None:
    request = MetadataRequest(topics=topics)
    assert encode(request, version) == encoded
    assert decode(MetadataRequest, encoded, version) == request


def test_9_null_where_the_version_has_none_is_malformed() -> None:
    for version, data in ((0, b"\xff\xff\xff\xff"), (9, b"\x02\0\0\x01\0\0\0")):
        with pytest.raises(MalformedMessageError, match="claims the length -1"):
            decode(MetadataRequest, data, version)


@pytest.mark.parametrize(
    ("cursor", "encoded"),
    [(None, b"\xff"), (Cursor(topic_name="a", partition_index=2), b"\x01\x02a\0\0\0\x02\0")],
)
def test_9_a_nullable_structure_leads_with_minus_one_or_one(cursor: Cursor | None, encoded: bytes) -> None:
    request = DescribeTopicPartitionsRequest(response_partition_limit=5, cursor=cursor)
    data = b"\x01\0\0\0\x05" + encoded + b"\0"
    assert encode(request, 0) == data
    assert decode(DescribeTopicPartitionsRequest, data, 0) == request


def test_unknown_tagged_fields_are_skipped() -> None:
    """Newer clients may send what this version of ours does not know yet."""
    request = ApiVersionsRequest(client_software_name="us", client_software_version="1")
    tags = b"\x02" + b"\x05\x03abc" + b"\x90\x4e\0"
    assert decode(ApiVersionsRequest, b"\x03us\x021" + tags, 3) == request


def test_bytes_after_the_message_are_ignored_as_kafka_does() -> None:
    assert decode(HeartbeatResponse, b"\0\x03 and more", 0) == HeartbeatResponse(error_code=3)


def test_a_version_that_does_not_exist_is_the_callers_error() -> None:
    for api in APIS.values():
        for cls in (api.request, api.response):
            with pytest.raises(UnsupportedVersionError):
                encode(cls(), api.max_version + 1)
            with pytest.raises(UnsupportedVersionError):
                decode(cls, b"", -1)
