"""What is not there at one look may be there at the next; what is not there at two is deleted."""

from __future__ import annotations

from collections.abc import Collection

import pytest

import streamkit as sk
from streamkit.errors import NotFoundError
from streamkit.processing.kafka import topics
from streamkit.processing.kafka.topics import Topics
from streamkit.processing.worker.deleted_topics import DeletedTopics


class Cluster:
    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.asked: set[str] = set()

    def look(self, names: Collection[str]) -> set[str]:
        self.asked = set(names)
        return self.missing & self.asked


async def test_a_topic_is_deleted_when_it_is_missing_twice() -> None:
    app = sk.App("shop")
    rates = app.global_table(app.topic("rates", key=str))
    orders = app.stream(app.topic("orders", key=str))
    orders.join(rates, lambda order, _: order, on=str).to("out")
    app.stream(app.topic(pattern="any-.*")).peek(print)
    counts = {"orders": 2, "rates": 1, "any-1": 1, "out": 1}
    cluster = Cluster()
    watch = DeletedTopics(app.topology().plan(counts), cluster.look, 5.0)
    for missing in ({"orders"}, {"rates"}, set[str](), {"orders"}):
        cluster.missing = missing
        await watch.once()
    assert cluster.asked == {"orders", "rates"}, "what the app only writes is its sink's affair"
    with pytest.raises(NotFoundError, match="the topic orders was deleted") as error:
        await watch.once()
    assert "streamkit app reset shop" in error.value.hint


def test_a_cluster_that_does_not_answer_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "LOOK_S", 0.1)
    assert Topics("127.0.0.1:1", {}).missing(["orders"]) == []
