"""The offset grammar of `topic consume`: where to start and, after a colon, where to end.

    start  end           the first record there is; what comes from now on
    47                   offset 47
    +5  -5               five after the start; five before the end
    @1357034400000       the first record at or after a time: milliseconds (13 digits), seconds (10 digits),
    @2013-01-01          a UTC day, an RFC 3339 instant,
    @-1h                 or a while ago (ms, s, m, h, d)
    FROM:TO              up to, and without, TO: `:end`, `100:200`, `@-1h:end`, `@2013-01-01:2013-01-02`

`end` as an end is the end at the moment the command starts. Without an end the command waits for more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from streamkit.errors import UsageError

UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGO = re.compile(r"-(\d+)(ms|s|m|h|d)")
# FROM may hold the colons of an RFC 3339 time of day; the next colon separates it from TO.
_CLOCK = r"(?>T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:\d\d)?)"
_RANGE = re.compile(rf"((?:{_CLOCK}|[^:T])*):(.*)")
HINT = "streamkit topic consume --help"
ELSEWHERE = {"beginning": "start", "earliest": "start", "oldest": "start", "latest": "end", "newest": "end"}


@dataclass(frozen=True)
class Position:
    """`offset`: exactly `value`; `start`: `value` after the log start; `end`: `value` before the log end;
    `time`: the first record whose timestamp is at or after `value` milliseconds since the epoch."""

    kind: Literal["offset", "start", "end", "time"]
    value: int = 0


@dataclass(frozen=True)
class OffsetRange:
    """From `start` up to and without `end`; `end=None`: go on as records come."""

    start: Position
    end: Position | None = None


START = Position("start")
END = Position("end")


def parse(text: str, *, now_ms: int) -> OffsetRange:
    """The range that `text` means. UsageError names the part that is not understood."""
    from_, to = _split(text)
    start = _position(from_, text, now_ms) if from_ else START
    if not to:
        return OffsetRange(start)
    at_time = from_.startswith("@") and not to.startswith("@") and to != "end"
    return OffsetRange(start, _position("@" + to if at_time else to, text, now_ms))


def _split(text: str) -> tuple[str, str]:
    parts = _RANGE.fullmatch(text)
    return (parts[1], parts[2]) if parts else (text, "")


def _position(part: str, whole: str, now_ms: int) -> Position:
    if part in ("start", "end"):
        return Position("start" if part == "start" else "end")
    if part.startswith("@"):
        return Position("time", _instant_ms(part[1:], whole, now_ms))
    sign, digits = (part[0], part[1:]) if part[:1] in ("+", "-") else ("", part)
    if not (digits.isascii() and digits.isdigit()):
        raise _not_understood(part, whole)
    kind: dict[str, Literal["offset", "start", "end"]] = {"": "offset", "+": "start", "-": "end"}
    return Position(kind[sign], int(digits))


def _instant_ms(text: str, whole: str, now_ms: int) -> int:
    if ago := _AGO.fullmatch(text):
        return now_ms - int(ago[1]) * UNIT_MS[ago[2]]
    if text.isascii() and text.isdigit():
        if len(text) not in (10, 13):
            raise _not_understood("@" + text, whole)
        return int(text) * (1000 if len(text) == 10 else 1)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise _not_understood("@" + text, whole) from None
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


def _not_understood(part: str, whole: str) -> UsageError:
    where = "" if part == whole else f" in {whole!r}"
    meant = ELSEWHERE.get(part)
    return UsageError(f"{part!r}{where} is not an offset", hint=f"did you mean {meant}?" if meant else HINT)
