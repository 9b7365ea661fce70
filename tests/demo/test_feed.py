"""The data set, and what makes it a test of event time."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from streamkit.demo import feed


@pytest.fixture(scope="module")
def january() -> list[feed.Row]:
    return list(feed.rows())


def test_january_is_27004_flights_of_which_521_were_cancelled(january: list[feed.Row]) -> None:
    assert len(january) == 27_004
    assert sum(not row["delay"] for row in january) == 521
    assert Counter(row["origin"] for row in january).keys() == set(feed.AIRPORTS)


def test_the_whole_year_is_336776_flights_of_which_8255_were_cancelled() -> None:
    flights = cancelled = 0
    for row in feed.rows(full=True):
        flights += 1
        cancelled += not row["delay"]
    assert (flights, cancelled) == (336_776, 8_255)


def test_flights_are_told_of_as_they_left(january: list[feed.Row]) -> None:
    told = [feed.scheduled_ms(row) + 60_000 * int(row["delay"] or 0) for row in january]
    assert told == sorted(told)


def test_most_are_out_of_order_and_some_by_most_of_a_day(january: list[feed.Row]) -> None:
    latest = behind = 0
    worst_ms = 0
    for row in january:
        time_ms = feed.scheduled_ms(row)
        behind += time_ms < latest
        worst_ms = max(worst_ms, latest - time_ms)
        latest = max(latest, time_ms)
    assert behind / len(january) > 0.5
    assert worst_ms > 20 * 3_600_000


def test_values_are_typed(january: list[feed.Row]) -> None:
    first = json.loads(feed.value_of(january[0]))
    assert first == {
        "scheduled": "2013-01-01T10:15:00Z",
        "delay": 2,
        "carrier": "UA",
        "flight": 1545,
        "origin": "EWR",
        "dest": "IAH",
    }
    assert feed.scheduled_ms(january[0]) == datetime(2013, 1, 1, 10, 15, tzinfo=UTC).timestamp() * 1000
    cancelled = next(row for row in january if not row["delay"])
    assert json.loads(feed.value_of(cancelled))["delay"] is None
