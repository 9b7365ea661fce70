"""Changelogs are compacted late: a committed row must outlast newer ones that nobody committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.kafka.topics import COMPACTION_LAG, Topics
from streamkit.processing.topology import TopicPlan
from streamkit.processing.worker.preparation import prepare
from streamkit.processing.worker.source import Position


class Cluster:
    def __init__(self) -> None:
        self.topics: dict[str, TopicPlan] = {}

    def partition_counts(self) -> dict[str, int]:
        return {name: topic.partitions or 1 for name, topic in self.topics.items()}

    def committed(self, group: str, counts: Mapping[str, int]) -> list[Position]:
        return []

    def create(self, plans: Sequence[TopicPlan], existing: Mapping[str, int]) -> list[str]:
        missing = {plan.name: plan for plan in plans if plan.name not in existing}
        self.topics |= missing
        return list(missing)


@pytest.mark.parametrize(("commit_interval_ms", "lag_ms"), [(1000, 600_000), (120_000, 1_200_000)])
def test_changelogs_that_a_worker_creates_wait_for_the_cleaner(commit_interval_ms: int, lag_ms: int) -> None:
    app, cluster = sk.App("lagging"), Cluster()
    words = app.stream(app.topic("words", key=str, value=str))
    words.to_table(name="latest")
    words.group_by(lambda word: word).window(sk.tumbling("1m")).aggregate(n=sk.Count()).to("counts")
    prepare(app.topology(), cast(Topics, cluster), commit_interval_ms)
    lags = {name: topic.config.get(COMPACTION_LAG) for name, topic in cluster.topics.items()}
    changelogs = [name for name in lags if name.endswith("-changelog")]
    assert len(changelogs) == 2
    assert {name for name, lag in lags.items() if lag == str(lag_ms)} == set(changelogs)
    assert all(lag is None for name, lag in lags.items() if name not in changelogs)


@pytest.mark.parametrize("topic", ["sized-move-repartition", "sized-once-changelog"])
def test_internal_topics_of_other_sizes_are_refused(topic: str) -> None:
    app, cluster = sk.App("sized"), Cluster()
    moved = app.stream(app.topic("words", key=str)).repartition(3, name="move")
    moved.deduplicate("1m", name="once").to("out")
    cluster.topics[topic] = TopicPlan(name=topic, partitions=2, config={}, internal=True)
    with pytest.raises(UsageError, match=f"{topic} has 2 partitions; the app needs 3") as refused:
        prepare(app.topology(), cast(Topics, cluster), 1000)
    assert "partitions= of an operator" in refused.value.hint
    assert set(cluster.topics) == {topic, "words", "out"}, "nothing is made before it is checked"
