"""The answer to a Produce request of one batch that was appended: a form with three or four blanks.

Such answers are most of what a busy broker writes, and those of one version and partition differ in nothing
but the correlation id and the numbers of the append. So each is encoded once, by the codec like every other
answer; from then on it is copied and filled in. Where its blanks are is asked of the codec, too.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from streamkit.protocol.framing import encode_response
from streamkit.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)

FORMS = 4096
"""The partitions whose forms are kept; one takes about 300 bytes."""
FIRST_VERSION_WITH_LOG_START = 5
CORRELATION_ID = Struct(">i")
CORRELATION_ID_AT = 4
NUMBERS = Struct(">qqq")
NUMBERS_BEFORE_LOG_START = Struct(">qq")


class Form(NamedTuple):
    blank: bytes
    numbers_at: int
    has_log_start: bool

    def filled(
        self, correlation_id: int, base_offset: int, log_append_time_ms: int, log_start_offset: int
    ) -> bytearray:
        """A whole frame."""
        frame = bytearray(self.blank)
        CORRELATION_ID.pack_into(frame, CORRELATION_ID_AT, correlation_id)
        if self.has_log_start:
            NUMBERS.pack_into(frame, self.numbers_at, base_offset, log_append_time_ms, log_start_offset)
        else:
            NUMBERS_BEFORE_LOG_START.pack_into(frame, self.numbers_at, base_offset, log_append_time_ms)
        return frame


@lru_cache(FORMS)
def appended(version: int, topic: str, topic_id: bytes, partition: int) -> Form:
    """The form for a batch that was appended to this partition."""
    blank, other = (_frame(version, topic, topic_id, partition, offset) for offset in (0, -1))
    numbers_at = next(at for at, byte in enumerate(blank) if byte != other[at])
    return Form(blank, numbers_at, version >= FIRST_VERSION_WITH_LOG_START)


def _frame(version: int, topic: str, topic_id: bytes, partition: int, base_offset: int) -> bytes:
    answer = PartitionProduceResponse(index=partition, base_offset=base_offset)
    of_topic = TopicProduceResponse(name=topic, topic_id=topic_id, partition_responses=[answer])
    return b"".join(encode_response(0, ProduceResponse(responses=[of_topic]), version))
