"""SEMANTICS P13: a partition that was read to its end holds nobody back once the idle timeout has passed; one
that lags, is paused or is restored is never idle.
"""

from __future__ import annotations

import streamkit as sk
from streamkit.processing.tasks.watermark import NEVER, Input, TaskClock

QUIET = ("quiet", 0)
BUSY = ("busy", 0)


def test_an_empty_partition_lets_the_watermark_advance() -> None:
    app = sk.App("idle", idle_timeout="30s")
    busy = app.topic("busy", key=str, value=int, partitions=1)
    quiet = app.topic("quiet", key=str, value=int, partitions=1)
    both = app.stream(busy).merge(app.stream(quiet))
    both.window(sk.tumbling("1m")).aggregate(n=sk.Count()).to("out")
    with app.test() as t:
        t.send(busy, 1, key="k", ts=10)
        t.send(busy, 1, key="k", ts=100)
        assert t.read("out") == [], "the quiet partition may have something to say"
        t.sleep(29)
        assert t.read("out") == []
        t.sleep(1)
        assert [window["n"] for window in t.read("out")] == [1]


def clock_of_two() -> TaskClock:
    clock = TaskClock(30_000)
    clock.inputs |= {QUIET: Input(), BUSY: Input()}
    clock.inputs[BUSY].advance(100_000)
    return clock


def test_one_that_is_not_at_its_end_is_never_idle() -> None:
    clock = clock_of_two()
    for now_ms in range(0, 600_000, 10_000):
        clock.observe({BUSY}, now_ms)  # lagging, paused, backpressured, restoring: not caught up
        assert clock.advance() == NEVER
    clock.observe({BUSY, QUIET}, 600_000)
    clock.observe({BUSY, QUIET}, 629_999)
    assert clock.advance() == NEVER
    clock.observe({BUSY, QUIET}, 630_000)
    assert clock.advance() == 100_000


def test_falling_behind_begins_the_time_anew() -> None:
    clock = clock_of_two()
    clock.observe({BUSY, QUIET}, 0)
    clock.observe({BUSY}, 20_000)
    clock.observe({BUSY, QUIET}, 25_000)
    clock.observe({BUSY, QUIET}, 54_999)
    assert clock.advance() == NEVER
    clock.observe({BUSY, QUIET}, 55_000)
    assert clock.advance() == 100_000
