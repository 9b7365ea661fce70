"""SEMANTICS P3, the task's half: the stores follow the commit, and one commit is under way at a time."""

from __future__ import annotations

import streamkit as sk
from streamkit.processing.tasks.checkpoint import CommitMetadata
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord

PLACE = ("in", 0)


def counting() -> Task:
    app = sk.App("order")
    topic = app.topic("in", key=str, value=int)
    totals = app.table("totals", default=int, key=str)

    @app.agent(topic)
    def add(n: int, record: sk.Record[str]) -> None:
        totals[record.key] += n

    plan = app.topology().plan({})
    task = Task(plan, plan.subtopologies[0], 0)
    task.resume(PLACE, None, 0)
    task.start()
    return task


def test_the_store_is_never_ahead_of_the_commit() -> None:
    task = counting()
    task.process(Batch("in", 0, [StoredRecord(("in", 0, 0), (b"k", b"5"), 0)]), 0)
    checkpoint = task.checkpoint(0)
    assert checkpoint.offsets == {PLACE: 1}
    [record] = checkpoint.changelog["order-totals-changelog"]
    assert record[:2] == (b"5", b"k")
    assert len(task.stores["totals"]) == 0, "not before the offsets are committed"
    assert not task.can_checkpoint(), "one commit at a time"
    metadata = CommitMetadata.decode(checkpoint.metadata(PLACE, {"order-totals-changelog": 7}))
    assert metadata.changelogs == {"order-totals-changelog": 7}
    task.committed(checkpoint, {"order-totals-changelog": 7})
    assert task.stores["totals"].get(b"k") == b"5"
    assert task.stores["totals"].position == 7


def test_a_restore_ends_at_the_committed_position() -> None:
    """P26: what stands in the changelog but was never committed is not applied, so never twice."""
    task = counting()
    log = [
        StoredRecord(("order-totals-changelog", 0, 0), (b"k", b"5"), 0),
        StoredRecord(("order-totals-changelog", 0, 1), (b"k", b"9"), 0),
    ]
    assert task.restore("totals", log, end=1) == 1
    assert task.stores["totals"].get(b"k") == b"5"
