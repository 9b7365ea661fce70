"""What a decision is: records to append and a reply that holds once they are durable.

Deciding reads the image and changes nothing. If the append fails, neither the records nor the reply exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamkit.broker.controller.records import MetadataRecord
from streamkit.protocol.error_codes import ErrorCode

Reply = TypeVar("Reply")

# Records of one decision are appended as a unit, so one request must not bring an unbounded number of them.
MAX_RECORDS_PER_DECISION = 10_000


@dataclass(frozen=True)
class Decision(Generic[Reply]):
    """Append these records, then send this reply."""

    records: Sequence[MetadataRecord]
    reply: Reply


class Refusal(Exception):
    """One item of a request cannot be done; the others can."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
