"""`deduplicate` against what its documentation says, in plain Python, whatever order records come in."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.processing.error_policy import OnError

WITHIN_S = 20


@pytest.mark.usefixtures("each_store")
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(times=st.lists(st.integers(0, 60), max_size=12), restarts=st.booleans())
def test_what_was_let_through_is_recognised_behind_one_that_came_late(
    times: list[int], restarts: bool
) -> None:
    app = sk.App("once")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).deduplicate(f"{WITHIN_S}s").to("out")
    let_through: list[int] = []
    with app.test() as t:
        for number, ts in enumerate(times):
            t.send(topic, ts, key="k", ts=ts)
            if restarts:
                t.restart()
            watermark = max(times[: number + 1])
            is_duplicate = any(abs(ts - other) < WITHIN_S for other in let_through)
            if out := t.read("out"):
                assert not is_duplicate or ts <= watermark - WITHIN_S
                let_through += out
            else:
                assert is_duplicate


@pytest.mark.usefixtures("each_store")
@pytest.mark.parametrize(
    "policy", [sk.Retry(1), sk.DeadLetter("dead"), sk.Skip()], ids=["retry", "letter", "skip"]
)
@pytest.mark.parametrize("before", [False, True])
def test_what_failed_elsewhere_was_not_let_through(policy: OnError, before: bool) -> None:
    """Its output was withdrawn: a record that comes again is no duplicate of itself."""
    app = sk.App("once", on_error=policy)
    topic = app.topic("in", key=str, value=int)
    failures = iter([True])

    def fragile(n: int) -> int:
        if n == 1 and next(failures, False):
            raise ValueError("not yet")
        return n

    numbers = app.stream(topic)
    numbers.deduplicate("20s").to("out")
    numbers.map(fragile).to("beside")
    with app.test() as t:
        if before:
            t.send(topic, 0, key="k", ts=50)
        t.send(topic, 1, key="k", ts=100)
        if isinstance(policy, sk.DeadLetter):
            assert t.redrive("dead") == 1
        if not isinstance(policy, sk.Skip):
            assert t.read("out")[-1:] == [1]
            assert t.read("beside")[-1:] == [1]
        t.send(topic, 2, key="k", ts=101)
        t.send(topic, 3, key="k", ts=102)
        t.restart()
        t.send(topic, 4, key="k", ts=103)
        assert t.read("out")[before:] == ([2] if isinstance(policy, sk.Skip) else [])
        t.advance_to(1000)
        assert [len(store) for store in t.tasks[0].stores.values()] == [0]
