"""A Produce request that begins like the one before it on its connection is read at a glance.

A producer says the same over and over: its client id, acks, timeout and topic stand in every request, and
only the correlation id, the partition and the records are new. So each connection remembers the bytes between
correlation id and partition, and what they said; a frame with the same bytes there need not be decoded again:

    key, version | correlation id | client id … acks, timeout, topic | partition | length | records | 0 0 0
    `- as before                    `- as before

That holds for requests of one batch in flexible versions; all others are the codec's, and so is whatever
looks different in any way. What is remembered has first read the request that it was taken from, as the codec
did. TCP reads its headers like this (Van Jacobson's header prediction).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from msgspec.structs import replace

from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import RequestHeader
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.primitives import read_uvarint, uvarint

SAME_AT = 8
"""Behind key, version and correlation id."""
PARTITION_BYTES = 4
NO_TAGS = bytes(3)
"""The tag sections of the partition, the topic and the request, all of them empty."""
MOST_BYTES = 16 * 1024
"""Decoding a larger request is nothing beside what else is done with it."""
LEARNING_COSTS = 2
MOST_CREDIT = 8
"""A glance earns one, so that a client whose requests differ all the time is not learned in vain for long."""


class Read(NamedTuple):
    header: RequestHeader
    message: ProduceRequest


class Likeness:
    """What requests of one connection have begun with; nothing at first."""

    __slots__ = ("_api", "_credit", "_header", "_message", "_parts", "_same", "_topic")

    def __init__(self) -> None:
        self._credit = MOST_CREDIT
        self._same: bytes | None = None
        self._parts = struct.Struct(">")
        """Key and version, correlation id, what is the same, partition, first byte of the length."""
        self._api = 0

    def read(self, frame: memoryview) -> Read | None:
        """The request in `frame`, or None if it is unlike the one before."""
        if self._same is None:
            return None
        pos = self._parts.size
        try:
            api, correlation_id, same, partition, length = self._parts.unpack_from(frame)
            if same != self._same or api != self._api:
                return None
            if length > 127:
                length, pos = read_uvarint(frame, pos - 1)
        except (struct.error, IndexError, MalformedMessageError):
            return None  # the codec will know what it is
        stop = pos + length - 1
        if not pos <= stop == len(frame) - len(NO_TAGS) or frame[stop:] != NO_TAGS:
            return None
        if self._credit < MOST_CREDIT:
            self._credit += 1
        return Read(self._header_with(correlation_id), self._message_with(partition, frame[pos:stop]))

    def learn(self, frame: memoryview, header: RequestHeader, message: ProduceRequest) -> None:
        """Remember how this request begins, which was not like the one before."""
        if self._credit < LEARNING_COSTS or len(frame) > MOST_BYTES or not is_of_one_batch(header, message):
            return
        self._credit -= LEARNING_COSTS
        records = message.topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        behind = len(uvarint(len(records) + 1)) + len(records) + len(NO_TAGS)
        size = len(frame) - behind - PARTITION_BYTES - SAME_AT
        if size <= 0:
            return
        self._parts = struct.Struct(f">ii{size}siB")
        self._api, _, self._same, _, _ = self._parts.unpack_from(frame)
        self._header = header
        self._message = replace(message, topic_data=[])  # the records must not stay in memory
        self._topic = replace(message.topic_data[0], partition_data=[])
        if self.read(frame) != (header, message):
            self._same = None

    def _header_with(self, correlation_id: int) -> RequestHeader:
        before = self._header
        return RequestHeader(
            api_key=before.api_key,
            api_version=before.api_version,
            correlation_id=correlation_id,
            client_id=before.client_id,
        )

    def _message_with(self, partition: int, records: memoryview) -> ProduceRequest:
        before, topic = self._message, self._topic
        data = PartitionProduceData(index=partition, records=records)
        return ProduceRequest(
            transactional_id=before.transactional_id,
            acks=before.acks,
            timeout_ms=before.timeout_ms,
            topic_data=[TopicProduceData(name=topic.name, topic_id=topic.topic_id, partition_data=[data])],
        )


def is_of_one_batch(header: RequestHeader, message: ProduceRequest) -> bool:
    """Whether the only thing that varies in length at its end are the records of one partition."""
    topics = message.topic_data
    return (
        header.api_version in ProduceRequest.FLEXIBLE
        and len(topics) == 1
        and len(topics[0].partition_data) == 1
        and isinstance(topics[0].partition_data[0].records, memoryview)
    )
