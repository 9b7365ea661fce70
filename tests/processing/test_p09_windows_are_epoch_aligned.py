"""SEMANTICS P9: windows are `[start, end)` from the epoch, and every record is in exactly one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk


@pytest.mark.parametrize(("size", "size_ms"), [("500ms", 500), ("1.5s", 1500)])
@settings(max_examples=30, deadline=None)
@given(times=st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
def test_exactly_one_window_for_each_record(size: str, size_ms: int, times: list[int]) -> None:
    app = sk.App("align")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).window(sk.tumbling(size, grace="1m")).aggregate(ts=sk.Collect()).to("out")
    with app.test() as t:
        t.send_all(topic, [(time, "k", time / 1000) for time in times])
        t.advance_to(1000)
        results = t.read("out")
    assert sorted(ts for r in results for ts in r["ts"]) == sorted(times)
    for result in results:
        assert result["start_ms"] % size_ms == 0
        assert result["end_ms"] == result["start_ms"] + size_ms
        assert all(result["start_ms"] <= ts < result["end_ms"] for ts in result["ts"])
