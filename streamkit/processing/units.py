"""Durations, instants and sizes as people write them, turned into integers once."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from streamkit.errors import UsageError

EXAMPLES = 'write for example "500ms", "1.5s", "1m", "2h", or seconds as a number'
UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
UNIT_BYTES = {"MiB": 1 << 20, "GiB": 1 << 30, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MiB|GiB|MB|GB)")
END_OF_TIME_S = 253_402_300_800  # the year 10000: nobody's event time, but milliseconds taken for seconds

Duration = str | float | timedelta
Size = str | int


def duration_ms(duration: Duration) -> int:
    """`"500ms"`, `"1.5s"`, `"1m"`, `"2h"`, `"7d"`, a timedelta, or seconds as a number."""
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration.strip())
        if match is None:
            raise UsageError(f"{duration!r} is not a duration", hint=EXAMPLES)
        millis = float(match[1]) * UNIT_MS[match[2]]
    elif isinstance(duration, (int, float)):
        millis = duration * 1000
    else:
        raise UsageError(f"{duration!r} is not a duration", hint=EXAMPLES)
    if not 0 <= millis < math.inf:
        raise UsageError(f"a duration is finite and 0 or more, got {duration!r}", hint=EXAMPLES)
    if millis != round(millis):
        raise UsageError(f"{duration!r} is not a whole number of milliseconds", hint=EXAMPLES)
    return round(millis)


def size_bytes(size: Size) -> int:
    """`"512MiB"`, `"1.5GB"`, or bytes as a number."""
    if isinstance(size, int):
        return size
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise UsageError(f"{size!r} is not a size", hint='write for example "512MiB", "1.5GB"')
    return round(float(match[1]) * UNIT_BYTES[match[2]])


def instant_ms(instant: float | datetime) -> int:
    """Seconds since the Unix epoch, or an aware datetime, in milliseconds."""
    if isinstance(instant, datetime):
        if instant.tzinfo is None:
            raise ValueError(f"{instant!r} has no time zone: event times must not depend on the machine")
        return round(instant.timestamp() * 1000)
    try:
        credible = -END_OF_TIME_S < instant < END_OF_TIME_S
    except TypeError:
        raise TypeError(f"a time is seconds since 1970 or an aware datetime, got {instant!r}") from None
    if not credible:
        raise ValueError(f"event time {instant!r} is not in seconds since 1970: it looks like milliseconds")
    return round(instant * 1000)
