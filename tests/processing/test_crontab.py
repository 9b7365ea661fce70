"""Crontab expressions: every moment that they name and no other, whatever the clocks of the zone do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.crontab import FIELDS, Crontab

MINUTE = timedelta(minutes=1)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kolkata",
)


def moments(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next moments after a UTC time, each as UTC."""
    crontab, at = (
        Crontab(expression, zone),
        round(datetime.fromisoformat(f"{start}+00:00").timestamp() * 1000),
    )
    found = []
    for _ in range(count):
        at = crontab.next_ms(at)
        found.append(f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 * * * *", ["2026-01-01 00:05", "2026-01-01 00:10"]),
        (
            "10-50/20 8 * * *",
            ["2026-01-01 08:10", "2026-01-01 08:30", "2026-01-01 08:50", "2026-01-02 08:10"],
        ),
        ("0 0 1,15 * *", ["2026-01-15 00:00", "2026-02-01 00:00"]),
        ("30 6 * * mon-fri", ["2026-01-01 06:30", "2026-01-02 06:30", "2026-01-05 06:30"]),
        ("0 12 * * 7", ["2026-01-04 12:00", "2026-01-11 12:00"]),
        ("0 12 * * 5-7", ["2026-01-02 12:00", "2026-01-03 12:00", "2026-01-04 12:00", "2026-01-09 12:00"]),
        ("0 0 10 * fri", ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-10 00:00"]),
        ("0 0 */10 * fri", ["2026-05-01 00:00", "2026-07-31 00:00"]),
        ("0 0 29 FEB *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 29 2 */7", ["2032-02-29 00:00", "2060-02-29 00:00"]),  # a Sunday
        ("@hourly", ["2026-01-01 01:00", "2026-01-01 02:00"]),
        ("@weekly", ["2026-01-04 00:00"]),
        ("@Yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
    ],
)
def test_the_moments_of_an_expression(expression: str, expected: list[str]) -> None:
    assert moments(expression, "UTC", "2026-01-01 00:00", len(expected)) == expected


def test_a_time_that_is_left_out_in_spring_is_due_when_the_clock_jumps() -> None:
    assert moments("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2) == [
        "2026-03-29 01:00",
        "2026-03-30 00:30",
    ]
    assert moments("*/20 2 * * *", "Europe/Berlin", "2026-03-29 00:00", 2) == [
        "2026-03-29 01:00",
        "2026-03-30 00:00",
    ]
    every = ["2026-03-29 00:30", "2026-03-29 01:00", "2026-03-29 01:30"]
    assert moments("*/30 * * * *", "Europe/Berlin", "2026-03-29 00:00", 3) == every


def test_a_time_that_comes_twice_in_autumn_is_due_once_and_a_pace_goes_on() -> None:
    assert moments("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2) == [
        "2026-10-25 00:30",
        "2026-10-26 01:30",
    ]
    every = ["2026-10-25 00:00", "2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30"]
    assert moments("*/30 * * * *", "Europe/Berlin", "2026-10-24 23:30", 4) == every


def test_a_day_that_a_place_leaves_out() -> None:
    assert moments("0 9 * * *", "Pacific/Apia", "2011-12-29 12:00", 3) == [
        "2011-12-29 19:00",
        "2011-12-30 10:00",  # the 30th at nine never came: Samoa went from the 29th to the 31st
        "2011-12-30 19:00",
    ]


class Oracle:
    """The same, by looking at every minute."""

    def __init__(self, expression: str, zone: str) -> None:
        texts = expression.split()
        self.allowed = [field.values(text) for field, text in zip(FIELDS, texts, strict=True)]
        self.stars = [text.startswith("*") for text in texts]
        self.zone = ZoneInfo(zone)

    def next_within(self, after: datetime, minutes: int) -> datetime | None:
        before = after.astimezone(self.zone)
        for _ in range(minutes):
            after += MINUTE
            local = after.astimezone(self.zone)
            passed = list(
                self._passed(before.replace(tzinfo=None, fold=0), local.replace(tzinfo=None, fold=0))
            )
            if self._is_due(local.replace(tzinfo=None)) or any(map(self._is_due, passed)):
                return after
            before = local
        return None

    def _passed(self, before: datetime, now: datetime) -> Iterator[datetime]:
        """Local minutes between two that follow one another."""
        while (before := before + MINUTE) < now:
            yield before

    def _is_due(self, local: datetime) -> bool:
        minutes, hours, days, months, weekdays = self.allowed
        if local.fold and len(hours) < 24:
            return False
        by_month, by_week = (
            local.day in days,
            {local.isoweekday(), local.isoweekday() % 7} & weekdays != set(),
        )
        either = not (self.stars[2] or self.stars[4])
        day = by_month or by_week if either else by_month and by_week
        return local.minute in minutes and local.hour in hours and local.month in months and day


@st.composite
def expressions(draw: st.DrawFn) -> str:
    texts = []
    for field, odds in zip(FIELDS, (1, 1, 3, 3, 3), strict=True):
        number = st.integers(field.low, field.high)
        ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
        steps = st.tuples(st.just("*") | ranges, st.integers(1, 30)).map(lambda pair: f"{pair[0]}/{pair[1]}")
        lists = st.lists(number.map(str) | ranges | steps, min_size=1, max_size=3).map(",".join)
        texts.append(draw(st.one_of(*[st.just("*")] * odds, lists)))
    return " ".join(texts)


@settings(max_examples=30, deadline=None)
@given(
    expressions(),
    st.sampled_from(ZONES),
    st.sampled_from(
        ["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-04-04", "2017-10-14", "2018-02-17"]
    ),
    st.integers(0, 1500),
)
@example("30 2 * * *", "Australia/Lord_Howe", "2026-10-03", 700)
@example("15 0 * * *", "America/Sao_Paulo", "2017-10-14", 1000)
@example("45 23 * * *", "America/Sao_Paulo", "2018-02-17", 1400)
def test_no_moment_is_missed_and_none_is_made_up(expression: str, zone: str, day: str, minute: int) -> None:
    after = datetime.fromisoformat(f"{day}T00:00+00:00") + minute * MINUTE
    try:
        crontab = Crontab(expression, zone)
    except UsageError as refused:
        assert "never comes" in refused.message
        assert Oracle(expression, "UTC").next_within(after, 2000) is None
        return
    found = datetime.fromtimestamp(crontab.next_ms(round(after.timestamp() * 1000)) / 1000, UTC)
    expected = Oracle(expression, zone).next_within(after, 2000)
    assert found == expected if expected is not None else found > after + 2000 * MINUTE


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * *", "has 4 fields, not 5"),
        ("* * * * * *", "has 6 fields, not 5"),
        ("@often", "has 1 fields, not 5"),
        ("60 * * * *", "the minute of the crontab '60 * * * *': 60 is not in 0 to 59"),
        ("* 24 * * *", "the hour of the crontab '* 24 * * *': 24 is not in 0 to 23"),
        ("* * 0 * *", "the day of month of the crontab '* * 0 * *': 0 is not in 1 to 31"),
        ("* * * 13 *", "the month"),
        ("* * * * 8", "the day of week"),
        ("* * * foo *", "'foo' is no month"),
        ("*/0 * * * *", "the step of '*/0' is not a number above zero"),
        ("5/15 * * * *", "write 5-59/15"),
        ("30-10 * * * *", "'30-10' runs backwards"),
        ("1,,2 * * * *", "'' is neither a number, a range nor a list"),
        ("L * * * *", "'l' is no minute"),
        ("0 0 31 feb,apr *", "never comes"),
    ],
)
def test_a_bad_expression_names_the_field(expression: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        sk.App("bad").crontab(expression)
    assert words in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("zone", ["Europe/Berln", "../../etc/passwd", ""])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        sk.App("bad").crontab("@daily", timezone=zone)
