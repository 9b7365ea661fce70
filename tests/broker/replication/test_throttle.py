"""The measured rate of throttled replication, held against its bound; time is told by the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.replication.throttle import EVERY_PARTITION, UNBOUNDED, Throttle, named

WINDOWS, WINDOW_MS = 3, 1000


class Time:
    def __init__(self) -> None:
        self.ms = 50_000

    def now_ms(self) -> int:
        raise AssertionError("rates are measured with the monotonic clock")

    def monotonic_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def throttle(time: Time) -> Throttle:
    throttle = Throttle(time, windows=WINDOWS, window_ms=WINDOW_MS)
    throttle.bound = 100
    return throttle


def test_the_first_window_counts_whole(throttle: Throttle, time: Time) -> None:
    """Or whatever is counted first would exceed every bound."""
    throttle.record(100)
    assert (throttle.rate(), throttle.is_exceeded) == (100, False)
    throttle.record(1)
    assert throttle.is_exceeded
    time.ms += 500
    assert throttle.rate() == 101


def test_time_makes_up_for_what_was_counted_at_once(throttle: Throttle, time: Time) -> None:
    throttle.record(250)
    assert throttle.wait_ms() == 2500
    time.ms += 2499
    assert throttle.wait_ms() == 1
    time.ms += 1
    assert (throttle.is_exceeded, throttle.rate()) == (False, 100)


def test_windows_are_forgotten_when_nothing_was_counted_in_them_for_long(
    throttle: Throttle, time: Time
) -> None:
    throttle.record(1_000_000)
    assert throttle.wait_ms() == WINDOWS * WINDOW_MS
    time.ms += WINDOWS * WINDOW_MS
    assert (throttle.is_exceeded, throttle.rate()) == (False, 0)
    throttle.record(50)
    assert not throttle.is_exceeded


def test_a_forgotten_window_leaves_the_later_ones_to_wait_for(throttle: Throttle, time: Time) -> None:
    throttle.record(10_000)
    time.ms += 1000
    throttle.record(250)
    # the first is forgotten at 3000; the second is spread thinly enough from 1000 + 2500 on
    assert throttle.wait_ms() == 2500


def test_without_a_bound_all_is_counted_and_nothing_exceeds(throttle: Throttle) -> None:
    throttle.bound = UNBOUNDED
    throttle.record(10**12)
    assert (throttle.is_exceeded, throttle.total_bytes, throttle.rate()) == (False, 10**12, 10**12)


def test_a_bound_of_nothing(throttle: Throttle, time: Time) -> None:
    throttle.bound = 0
    assert not throttle.is_exceeded
    throttle.record(1)
    assert throttle.wait_ms() == WINDOWS * WINDOW_MS


def test_a_bound_that_is_lifted_holds_nobody_any_more(throttle: Throttle) -> None:
    throttle.record(1_000)
    throttle.bound = 1_000
    assert not throttle.is_exceeded


@given(
    steps=st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 700)), max_size=40),
    bound=st.integers(0, 500),
)
def test_after_the_wait_and_not_before_the_rate_is_within_the_bound(
    steps: list[tuple[int, int]], bound: int
) -> None:
    time = Time()
    throttle = Throttle(time, windows=WINDOWS, window_ms=WINDOW_MS)
    throttle.bound = bound
    for pause_ms, size in steps:
        time.ms += pause_ms
        throttle.record(size)
        assert throttle.is_exceeded is (throttle.rate() > bound)
    wait_ms = throttle.wait_ms()
    if wait_ms:
        time.ms += wait_ms - 1
        assert throttle.is_exceeded
        time.ms += 1
    assert throttle.rate() <= bound


def test_the_bound_holds_in_the_long_run(time: Time, throttle: Throttle) -> None:
    """Whoever sends as much as it likes whenever it may sends by the bound on average."""
    began_ms = time.ms
    for _ in range(500):
        time.ms += throttle.wait_ms()
        throttle.record(70)
    assert throttle.total_bytes * 1000 / (time.ms - began_ms) == pytest.approx(100, rel=0.1)


def test_which_replicas_are_named() -> None:
    assert named((), 1) == frozenset()
    assert named(("0:1", "1:2", "10:1"), 1) == {0, 10}
    assert named(("0:1",), 3) == frozenset()
    assert named(("*",), 7) == EVERY_PARTITION
    assert 123 in named(("*",), 7)
