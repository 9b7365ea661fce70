"""`deduplicate` against what its documentation says, in plain Python, whatever order records come in."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streamkit as sk

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
