"""Deadlines: at most one for each key, popped in order, never early."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.coordination.deadlines import Deadlines


def test_a_deadline_that_moves_later_is_not_due_at_its_old_time() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 10)
    deadlines.set("a", 30)
    assert deadlines.pop_due(10) is None
    assert deadlines.pop_due(29) is None
    assert deadlines.pop_due(30) == "a"
    assert deadlines.pop_due(99) is None


def test_a_deadline_that_moves_nearer_is_due_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 30)
    deadlines.set("a", 10)
    assert deadlines.wake_at_ms() == 10
    assert deadlines.pop_due(10) == "a"
    assert deadlines.pop_due(30) is None


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 20)), st.integers(0, 4)),
    max_size=60,
)


@given(steps)
def test_what_pops_is_what_a_plain_dictionary_says(steps: list[tuple[str, int | None, int]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, int] = {}
    now = 0
    for key, delay, passed in steps:
        if delay is None:
            deadlines.cancel(key)
            model.pop(key, None)
        else:
            deadlines.set(key, now + delay)
            model[key] = now + delay
        now += passed
        wake = deadlines.wake_at_ms()
        assert not model or (wake is not None and wake <= min(model.values()))
        popped = []
        while (due := deadlines.pop_due(now)) is not None:
            popped.append(due)
        assert sorted(popped) == sorted(key for key, at in model.items() if at <= now)
        model = {key: at for key, at in model.items() if at > now}
