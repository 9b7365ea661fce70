"""SEMANTICS P26: whatever a crash leaves in a changelog, every record is in the state exactly once.

A worker here is a bare task, its commit taken step by step, so that it can die between any two of them. What
it appended to the changelog without committing stays there; its successors must not take it for state.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.processing.tasks.checkpoint import Checkpoint
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import Log, StoredRecord
from tests.processing.both_states import PLACE, plan_of_both_states

TABLE = "crashes-counts-changelog"


class Cluster:
    """The log and the commits: what outlives a worker."""

    def __init__(self, records: list[tuple[str, int]]) -> None:
        self.plan, self.counts = plan_of_both_states("crashes")
        self.log = Log({})
        self.commits: dict[Place, tuple[int, str]] = {}
        self.input = [
            StoredRecord(("in", 0, offset), (key.encode(), str(n).encode()), offset * 300)
            for offset, (key, n) in enumerate(records)
        ]
        self.start()

    def start(self) -> None:
        """A new owner: resume, restore, begin."""
        self.task = Task(self.plan, self.plan.subtopologies[0], 0)
        self.position, metadata = self.commits.get(PLACE, (0, ""))
        committed = self.task.resume(PLACE, metadata, self.position)
        self.ends = dict(committed.changelogs)
        for store in self.task.stores:
            topic = self.task.sub.changelog(store)
            self.task.restore(store, self.log.partitions(topic)[0], self.ends.get(topic, 0))
        self.task.start()

    def crash(self) -> None:
        self.task.close()
        self.start()

    def process(self, count: int) -> None:
        records = self.input[self.position : self.position + count]
        self.position += len(records)
        if records:
            self.task.process(Batch("in", 0, records), 0)

    def deliver(self) -> Checkpoint:
        """Freeze, and have the changelog acknowledged."""
        checkpoint = self.task.checkpoint(0)
        for topic, records in checkpoint.changelog.items():
            for record in records:
                self.log.append(topic, record)
            self.ends[topic] = len(self.log.partitions(topic)[0])
        return checkpoint

    def commit(self, checkpoint: Checkpoint) -> None:
        for place, offset in checkpoint.offsets.items():
            self.commits[place] = offset, checkpoint.metadata(place, self.ends)

    def commit_wholly(self) -> None:
        checkpoint = self.deliver()
        self.commit(checkpoint)
        self.task.committed(checkpoint, self.ends)


def plain_counts(records: list[tuple[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key, n in records:
        if n < 0:
            counts.pop(key, None)
        else:
            counts[key] = counts.get(key, 0) + 1
    return counts


def test_an_orphan_is_not_replayed_when_a_later_commit_covers_it() -> None:
    records = [("a", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1)]
    cluster = Cluster(records)
    cluster.process(2)
    cluster.commit_wholly()
    cluster.process(3)
    cluster.deliver()  # orphans of b and c
    cluster.crash()
    cluster.process(1)  # c; the orphan of b is below this commit's changelog position
    cluster.commit_wholly()
    cluster.crash()
    assert dict(cluster.counts) == {"a": 1, "b": 1, "c": 1}
    cluster.process(2)
    assert dict(cluster.counts) == plain_counts(records)


def test_orphans_of_a_task_that_never_committed_are_deleted() -> None:
    cluster = Cluster([("a", 1), ("b", 1)])
    cluster.process(2)
    cluster.deliver()
    cluster.crash()
    assert dict(cluster.counts) == {}
    cluster.process(1)
    cluster.commit_wholly()
    assert [r.data for r in cluster.log.partitions(TABLE)[0][2:]] == [(b"a", b"1"), (b"b", None)]
    cluster.crash()
    assert dict(cluster.counts) == {"a": 1}


def test_only_keys_of_the_tail_are_repaired_and_only_once() -> None:
    cluster = Cluster([("a", 1), ("b", 1), ("b", 1), ("d", 1)])
    cluster.process(2)
    cluster.commit_wholly()
    cluster.process(1)
    cluster.deliver()
    cluster.crash()
    checkpoint = cluster.task.checkpoint(0)  # nothing was processed: the repair alone goes out
    assert [r[:2] for r in checkpoint.changelog[TABLE]] == [(b"1", b"b")]
    cluster.task.committed(checkpoint, {})
    assert cluster.task.checkpoint(0).changelog == {}


KEYS = st.sampled_from("abcd")
STEPS = st.one_of(
    st.tuples(st.just("process"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["commit", "crash", "crash frozen", "crash delivered", "crash committed"])),
)


@settings(max_examples=300, deadline=None)
@given(records=st.lists(st.tuples(KEYS, st.integers(-1, 2)), max_size=25), steps=st.lists(STEPS, max_size=30))
def test_every_record_is_in_the_state_exactly_once(
    records: list[tuple[str, int]], steps: list[tuple[Any, ...]]
) -> None:
    cluster, expected = Cluster(records), Cluster(records)
    for step in steps:
        match step:
            case "process", count:
                cluster.process(count)
            case ("commit",):
                cluster.commit_wholly()
            case ("crash",):
                cluster.crash()
            case ("crash frozen",):
                cluster.task.checkpoint(0)
                cluster.crash()
            case ("crash delivered",):
                cluster.deliver()
                cluster.crash()
            case ("crash committed",):
                cluster.commit(cluster.deliver())
                cluster.crash()
        assert dict(cluster.counts) == plain_counts(records[: cluster.position])
    for one in (cluster, expected):
        one.process(len(records))
        one.commit_wholly()
    for store in expected.task.stores:
        assert sorted(cluster.task.stores[store].items()) == sorted(expected.task.stores[store].items())
    cluster.crash()
    for store in expected.task.stores:
        assert sorted(cluster.task.stores[store].items()) == sorted(expected.task.stores[store].items())
