"""The compiler's promises that do not need an oracle."""

from __future__ import annotations

from streamkit.protocol.api import APIS
from streamkit.protocol.codec import decode, encode
from streamkit.protocol.framing import decode_request, decode_response, encode_request, encode_response
from streamkit.protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchResponse,
    PartitionData,
)
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData


def test_every_version_of_every_api_encodes_and_decodes_its_defaults() -> None:
    for api in APIS.values():
        for version in range(api.min_version, api.max_version + 1):
            for cls in (api.request, api.response):
                assert decode(cls, encode(cls(), version), version) == cls()


def test_records_are_neither_copied_in_nor_out() -> None:
    records = b"r" * 100
    request = ProduceRequest(
        acks=-1,
        topic_data=[
            TopicProduceData(name="orders", partition_data=[PartitionProduceData(index=1, records=records)])
        ],
    )
    buffers = encode_request(request, 9, correlation_id=7, client_id="me")
    assert any(buffer is records for buffer in buffers)
    frame = b"".join(buffers)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    header, body = decode_request(memoryview(frame)[4:])
    assert (header.api_key, header.api_version, header.correlation_id, header.client_id) == (0, 9, 7, "me")
    decoded = decode(ProduceRequest, body, 9)
    assert decoded == request
    view = decoded.topic_data[0].partition_data[0].records
    assert isinstance(view, memoryview) and view.obj is frame


def test_a_response_carries_records_from_several_buffers_and_its_tagged_fields() -> None:
    response = FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic="orders",
                partitions=[
                    PartitionData(
                        partition_index=3,
                        diverging_epoch=EpochEndOffset(epoch=4, end_offset=5),
                        records=[b"one", memoryview(b"two")],
                    ),
                    PartitionData(partition_index=4, aborted_transactions=None, records=b""),
                ],
            )
        ]
    )
    frame = b"".join(encode_response(12, response, 12))
    correlation_id, decoded = decode_response(FetchResponse, frame[4:], 12)
    first, second = decoded.responses[0].partitions
    assert correlation_id == 12
    assert (first.diverging_epoch, first.records) == (EpochEndOffset(epoch=4, end_offset=5), b"onetwo")
    assert (second.partition_index, second.aborted_transactions, second.records) == (4, None, b"")
