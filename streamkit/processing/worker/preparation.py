"""Before a worker joins: the topics that its app needs exist and have the partitions that it counts on.

Topics of the user first, internal ones after: how many partitions an internal topic needs follows from what
the user's topics turn out to have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from streamkit.errors import DeadlineError, UsageError
from streamkit.processing.kafka.topics import COMPACTION_LAG, Topics
from streamkit.processing.succession import check_succession
from streamkit.processing.tasks.checkpoint import check_room
from streamkit.processing.topology import Plan, TopicPlan, TopicSpec, Topology

VISIBLE_S = 15.0
POLL_S = 0.05
COMPACTION_LAG_COMMITS = 10
LEAST_COMPACTION_LAG_MS = 600_000  # longer than a task is without an owner that commits

log = structlog.get_logger("worker")


def prepare(
    topology: Topology, topics: Topics, commit_interval_ms: int, abandoned: Collection[str] = ()
) -> Plan:
    """The plan for the cluster as it is, after making what was missing. Blocks. Refuses to leave state of a
    former version behind, except of what is `abandoned`.
    """
    plan = topology.plan(found := topics.partition_counts())
    existing = create_missing([topic for topic in plan.topics if not topic.internal], topics, found)
    plan = topology.plan(existing)
    commits = topics.committed(topology.app_id, existing)

    def is_drained(topic: str) -> bool:
        reached = {one.partition: one.offset or 0 for one in commits if one.topic == topic}
        return topics.is_drained(topic, dict.fromkeys(range(existing[topic]), 0) | reached)

    remembered = [(one.topic, one.metadata) for one in commits]
    check_succession(plan.topology, remembered, existing, abandoned, is_drained)
    for sub in plan.subtopologies:
        check_room(map(sub.changelog, sub.stores))
    internal = [_lagging(topic, commit_interval_ms) for topic in plan.topics if topic.internal]
    _check_internal(internal, existing)
    create_missing(internal, topics, existing)
    return plan


def create_declared(specs: Iterable[TopicSpec[Any, Any]], topics: Topics) -> None:
    """Make the missing ones of an app's own topics; refuse others' partition counts. Blocks."""
    existing = topics.partition_counts()
    for spec in specs:
        _check(
            spec.name,
            existing.get(spec.name),
            spec.partitions,
            f"declare partitions={existing.get(spec.name)}",
        )
    plans = [TopicPlan(name=s.name, partitions=s.partitions, config=s.config, internal=False) for s in specs]
    create_missing(plans, topics, existing)


def create_missing(
    plans: Sequence[TopicPlan], topics: Topics, existing: Mapping[str, int]
) -> Mapping[str, int]:
    """Create what does not exist, and wait until clients see it. Blocks."""
    created = topics.create(plans, existing)
    if not created:
        return existing
    log.info("topics created", topics=created)
    return _until_visible(created, topics.partition_counts)


def _until_visible(names: Sequence[str], look: Callable[[], dict[str, int]]) -> dict[str, int]:
    deadline = time.monotonic() + VISIBLE_S
    while True:
        counts = look()
        if all(name in counts for name in names):
            return counts
        if time.monotonic() > deadline:
            missing = ", ".join(name for name in names if name not in counts)
            raise DeadlineError(f"created, but not visible: {missing}", hint="streamkit topic list")
        time.sleep(POLL_S)


def _check_internal(internal: Sequence[TopicPlan], existing: Mapping[str, int]) -> None:
    for topic in internal:
        _check(
            topic.name,
            existing.get(topic.name),
            topic.partitions,
            "its input, or partitions= of an operator, has another count than before: take that back, or "
            "begin anew (streamkit app reset)",
        )


def _check(name: str, actual: int | None, wanted: int | None, hint: str) -> None:
    if actual is not None and wanted is not None and actual != wanted:
        raise UsageError(f"the topic {name} has {actual} partitions; the app needs {wanted}", hint=hint)


def _lagging(topic: TopicPlan, commit_interval_ms: int) -> TopicPlan:
    """A changelog keeps overwritten entries for a while: a restore may have to end before the newest."""
    if topic.config.get("cleanup.policy") != "compact":
        return topic
    lag_ms = max(LEAST_COMPACTION_LAG_MS, COMPACTION_LAG_COMMITS * commit_interval_ms)
    return replace(topic, config={**topic.config, COMPACTION_LAG: str(lag_ms)})
