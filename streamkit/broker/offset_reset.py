"""`share.auto.offset.reset`: where a group begins with a partition that it never read.

earliest | latest | by_duration:P3DT1H30M      (as far back as that ISO 8601 duration says)
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

_BY_DURATION: Final = "by_duration:"
_DURATION: Final = re.compile(
    r"P(?=\d|T\d)(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?", re.IGNORECASE
)
_MS: Final = (86_400_000, 3_600_000, 60_000, 1000)


class ResetTo(Enum):
    EARLIEST = "earliest"
    LATEST = "latest"
    DURATION = "by_duration"


class OffsetReset(NamedTuple):
    to: ResetTo
    duration_ms: int = 0


def parse_reset(text: str) -> OffsetReset | None:
    """What `text` means; None if it means nothing."""
    if text.startswith(_BY_DURATION):
        duration_ms = _duration_ms(text.removeprefix(_BY_DURATION))
        return None if duration_ms is None else OffsetReset(ResetTo.DURATION, duration_ms)
    return next((OffsetReset(to) for to in (ResetTo.EARLIEST, ResetTo.LATEST) if to.value == text), None)


def _duration_ms(text: str) -> int | None:
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    *whole, fraction = found.groups()
    millis = int((fraction or "").ljust(3, "0")[:3])
    return sum(int(count or 0) * ms for count, ms in zip(whole, _MS, strict=True)) + millis
