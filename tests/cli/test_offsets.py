"""Every form of the offset grammar."""

from __future__ import annotations

import pytest

from streamkit.cli.offsets import END, START, OffsetRange, Position, parse
from streamkit.errors import UsageError

NOW_MS = 1_700_000_000_000
DAY_2013_MS = 1_356_998_400_000


def at(ms: int) -> Position:
    return Position("time", ms)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("start", START, None),
        ("end", END, None),
        ("47", Position("offset", 47), None),
        ("+5", Position("start", 5), None),
        ("-5", Position("end", 5), None),
        (":end", START, END),
        ("47:", Position("offset", 47), None),
        (":47", START, Position("offset", 47)),
        ("100:200", Position("offset", 100), Position("offset", 200)),
        ("-5:end", Position("end", 5), END),
        ("@1356998400", at(DAY_2013_MS), None),
        ("@1356998400000", at(DAY_2013_MS), None),
        ("@2013-01-01", at(DAY_2013_MS), None),
        ("@2013-01-01T00:00:00Z", at(DAY_2013_MS), None),
        ("@2013-01-01T01:00:00+01:00", at(DAY_2013_MS), None),
        ("@2013-01-01T00:30:00Z:end", at(DAY_2013_MS + 1_800_000), END),
        ("@-1h", at(NOW_MS - 3_600_000), None),
        ("@-1h:end", at(NOW_MS - 3_600_000), END),
        ("@-2d:-90s", at(NOW_MS - 172_800_000), at(NOW_MS - 90_000)),
        ("@2013-01-01:2013-01-02", at(DAY_2013_MS), at(DAY_2013_MS + 86_400_000)),
        ("@2013-01-01:@2013-01-02", at(DAY_2013_MS), at(DAY_2013_MS + 86_400_000)),
        (":@-1h", START, at(NOW_MS - 3_600_000)),
    ],
)
def test_what_is_understood(text: str, start: Position, end: Position | None) -> None:
    assert parse(text, now_ms=NOW_MS) == OffsetRange(start, end)


@pytest.mark.parametrize("text", ["later", "1.5", "@", "@123", "@-1y", "@tomorrow", "--5", "5:x", "²"])
def test_what_is_not(text: str) -> None:
    with pytest.raises(UsageError, match="is not an offset"):
        parse(text, now_ms=NOW_MS)
