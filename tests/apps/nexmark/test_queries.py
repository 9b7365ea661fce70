"""Every query of Nexmark, in memory, against what SQL says of the same events."""

from __future__ import annotations

import math

import pytest

from apps.nexmark import queries
from apps.nexmark.generator import BEGIN_MS, events
from apps.nexmark.model import Auction, Bid, Event, Person
from tests.apps.nexmark.judge import SQL, Judge
from tests.apps.nexmark.running import SIDE, Moment, moments, run

COUNT = 4_000
STEP_MS = 10
"""So that they fill several windows."""


@pytest.fixture(scope="module")
def happened() -> list[Moment]:
    return moments(events(COUNT, step_ms=STEP_MS))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(events(COUNT, step_ms=STEP_MS), SIDE)


@pytest.fixture(scope="module")
def judge_of_edges() -> Judge:
    return Judge(edges(), SIDE)


def test_every_query_has_an_answer() -> None:
    assert set(queries.QUERIES) == set(SQL)


@pytest.mark.parametrize("query", SQL)
def test_query(query: str, judge: Judge, happened: list[Moment]) -> None:
    written = run(query, happened).written
    assert written
    assert judge.difference(query, written) is None


def test_the_judge_sees_a_row_that_is_missing_once_too_often_or_another(
    judge: Judge, happened: list[Moment]
) -> None:
    written = run("q14", happened).written
    assert judge.difference("q14", [*written[:-1]]).startswith("missing: {'auction'")
    assert judge.difference("q14", [*written, written[0]]).startswith("too many: {'auction'")
    almost = {**written[0], "price": math.nextafter(written[0]["price"], 0)}
    assert judge.difference("q14", [almost, *written[1:]]).startswith("missing: {'auction'")
    renamed = [{"c" if name == "c_counts" else name: row[name] for name in row} for row in written]
    assert judge.difference("q14", renamed).startswith("columns ")
    assert judge.difference("q14", []) == "nothing was written"


@pytest.mark.parametrize("query", SQL)
def test_edges(query: str, judge_of_edges: Judge) -> None:
    """Bids of the last millisecond of an auction and after it, on the edges of windows, a session's silence
    apart, and of the same price.
    """
    written = run(query, moments(edges())).written
    assert judge_of_edges.difference(query, written) is None


def edges() -> list[Event]:
    begin = BEGIN_MS
    assert begin % 10_000 == 0
    person = Person(1, "Ann", "a@example.com", "0", "Bend", "OR", begin, "")
    late = Person(2, "Bo", "b@example.com", "0", "Boise", "ID", begin + 9_999, "")
    auction = Auction(123, "one", "", 1, 2, begin + 1, begin + 12_000, 1, 10, "c")
    unsold = Auction(246, "two", "", 1, 2, begin + 2, begin + 11_000, 2, 10, "")
    next_window = Auction(369, "three", "", 1, 2, begin + 10_001, begin + 50_000, 2, 11, "")
    bids = [
        *((123, 1, 1_500_000, after) for after in (1_999, 2_000, 2_001)),
        *((123, 2, price, after) for price, after in ((9_999, 3_000), (10_000, 4_000), (999_999, 5_000))),
        *((246, 3, 1_101_321, after) for after in (5_001, 15_001, 25_002)),
        (123, 2, 1_600_000, 10_000),  # first of a window, and as dear as the best of the next
        (123, 1, 1_600_000, 11_999),
        (123, 1, 1_700_000, 12_000),  # counts still
        (123, 1, 1_800_000, 12_001),
        *((369, number % 4, 700 + number // 4, 20_000 + number) for number in range(24)),  # come out of order
    ]
    times = (Bid(a, b, price, "APPLE", "https://x/a/b/c", begin + after, "cc") for a, b, price, after in bids)
    return sorted([person, late, auction, unsold, next_window, *times], key=lambda event: event.time_ms)
