"""The batch answer's rules on flights that can be counted by hand, and its independence."""

from __future__ import annotations

import ast
from pathlib import Path

from streamkit.demo import batch, feed, verify

ELEVEN_MS = 1_357_038_000_000  # 2013-01-01T11:00Z


def flight(scheduled: str, delay: int | None, *, carrier: str = "UA", origin: str = "EWR") -> feed.Row:
    return {
        "scheduled": f"2013-01-01T{scheduled}Z",
        "delay": "" if delay is None else str(delay),
        "carrier": carrier,
        "flight": "1",
        "origin": origin,
        "dest": "IAH",
    }


def test_delays_are_counted_by_carrier_and_scheduled_hour() -> None:
    rows = [flight("11:00", 10), flight("11:59", -4), flight("11:30", 0, carrier="AA"), flight("12:00", 7)]
    assert batch.answer(rows).windows == {
        ("UA", ELEVEN_MS): (2, 3.0, 10),
        ("AA", ELEVEN_MS): (1, 0.0, 0),
        ("UA", ELEVEN_MS + 3_600_000): (1, 7.0, 7),
    }


def test_a_flight_is_late_once_its_airports_clock_has_reached_the_end_of_the_grace() -> None:
    in_time = batch.answer([flight("12:59", 0), flight("11:59", 60)])
    assert not in_time.late
    late = batch.answer([flight("13:00", 0), flight("11:59", 61)])
    assert late.late == {("2013-01-01T11:59Z", "UA", 1, "IAH"): 1}
    assert ("UA", ELEVEN_MS) not in late.windows


def test_another_airports_clock_makes_nothing_late() -> None:
    assert not batch.answer([flight("20:00", 0, origin="JFK"), flight("11:59", 60)]).late


def test_a_cancelled_flight_moves_the_clock_and_is_a_dead_letter() -> None:
    found = batch.answer([flight("13:00", None), flight("11:59", 61)])
    assert found.cancelled.total() == 1
    assert found.late.total() == 1
    assert found.windows == {}


def test_every_flight_of_january_is_counted_late_or_cancelled() -> None:
    found = batch.answer(feed.rows())
    counted = sum(count for count, _, _ in found.windows.values())
    assert (counted, found.late.total(), found.cancelled.total()) == (25_525, 958, 521)
    assert counted + found.late.total() + found.cancelled.total() == 27_004


def test_differences_are_named() -> None:
    expected = batch.answer(
        [flight("11:00", 10), flight("13:00", 0), flight("11:30", 120), flight("14:00", None)]
    )
    delays = [b'{"key":"UA","start_ms":1357038000000,"flights":1,"mean":11.0,"worst":11}']
    found = verify.collect(delays, [], [feed.value_of(flight("14:00", None))])
    assert verify.differences(expected, found) == [
        "window ('UA', 1357038000000): expected (1, 10.0, 10), found (1, 11.0, 11)",
        "window ('UA', 1357045200000): expected (1, 0.0, 0), found None",
        "late flight ('2013-01-01T11:30Z', 'UA', 1, 'IAH'): expected 1, found None",
    ]


def test_the_batch_answer_shares_no_code_with_the_engine() -> None:
    for module in (batch, feed, verify):
        tree = ast.parse(Path(module.__file__ or "").read_text())
        names = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        names += [alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names]
        own = {name for name in names if name.startswith("streamkit")}
        assert own <= {"streamkit.demo", "streamkit.demo.batch", "streamkit.demo.feed", "streamkit.errors"}
