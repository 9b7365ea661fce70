"""SEMANTICS P19: a store holds the windows of its kind that may still change, the changelog tombstones."""

from __future__ import annotations

import pytest

from tests.processing.windowed import KINDS, build

pytestmark = pytest.mark.usefixtures("each_store")

MOST = {"tumbling": 3, "hopping": 11, "sliding": 17, "session": 6}


@pytest.mark.parametrize("kind", KINDS)
def test_an_hour(kind: str) -> None:
    app, topic, results = build(kind)
    with app.test() as t:
        most = 0
        for second in range(0, 3600, 5):
            t.send(topic, 1, key="k", ts=second)
            most = max(most, t.tasks[0].windows_open, len(t.tasks[0].stores[results.name]))
        assert most <= MOST[kind]
        t.advance_to(10_000)
        assert len(t.tasks[0].stores[results.name]) == t.tasks[0].windows_open == 0
        latest = {seen.key: seen.value for seen in t.records(f"{app.id}-{results.name}-changelog")}
        assert set(latest.values()) == {None}
