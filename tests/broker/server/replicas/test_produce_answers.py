"""A form that is filled in is what the codec would have written."""

from __future__ import annotations

import pytest

from streamkit.broker.server.replicas.produce_answers import appended
from streamkit.protocol.framing import encode_response
from streamkit.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from streamkit.protocol.schema import ZERO_UUID

TOPIC_ID = bytes(range(16))
NUMBERS = [(0, -1, 0), (-1, 0, -1), (1 << 40, 1_700_000_000_000, 7), (255, 256, 65_536)]


@pytest.mark.parametrize("version", range(3, 14))
@pytest.mark.parametrize("partition", [0, 1, 255, 70_000])
def test_it_is_the_frame_that_the_codec_makes(version: int, partition: int) -> None:
    for correlation_id, numbers in enumerate(NUMBERS, start=-1):
        for topic, topic_id in (("t", ZERO_UUID), ("é" * 100, TOPIC_ID)):
            base_offset, time_ms, log_start = numbers
            answer = PartitionProduceResponse(
                index=partition,
                base_offset=base_offset,
                log_append_time_ms=time_ms,
                log_start_offset=log_start,
            )
            of_topic = TopicProduceResponse(name=topic, topic_id=topic_id, partition_responses=[answer])
            expected = encode_response(correlation_id, ProduceResponse(responses=[of_topic]), version)
            form = appended(version, topic, topic_id, partition)
            assert form.filled(correlation_id, *numbers) == b"".join(expected)
