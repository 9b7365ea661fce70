"""SEMANTICS P1: with concurrency, a commit never passes a record that is still in somebody's hands."""

from __future__ import annotations

import asyncio
from typing import Any

import streamkit as sk
from streamkit.processing.tasks.inflight import InFlight, Item
from streamkit.processing.tasks.task import Batch, Task
from streamkit.processing.testing import StoredRecord


def item(offset: int, key: Any) -> Item:
    return StoredRecord(("in", 0, offset), (None, b""), 0), offset, key, 0, 0, None


def test_the_lowest_unfinished_offset_bounds_the_commit() -> None:
    flight = InFlight(2)
    for offset, key in ((10, "a"), (11, "b"), (12, "b"), (13, "c")):
        flight.admit(item(offset, key))
    first, second = flight.take(), flight.take()
    assert first is not None and second is not None
    assert flight.take() is None, "capacity is two"
    flight.finish(second)
    third = flight.take()
    assert third is not None and third[1] == 13, "12 waited for its key and is behind 13"
    flight.finish(third)
    fourth = flight.take()
    assert fourth is not None and fourth[1] == 12
    flight.finish(fourth)
    assert flight.lowest(("in", 0)) == 10
    flight.finish(first)
    assert flight.lowest(("in", 0)) is None
    assert len(flight) == 0


def test_records_of_a_key_keep_their_order_and_other_keys_overtake() -> None:
    app = sk.App("orders")
    topic = app.topic("in", key=str, value=int)
    finished: list[int] = []

    @app.agent(topic, sink="out", concurrency=4)
    async def work(n: int) -> int:
        await asyncio.sleep(5 if n == 1 else 1)
        finished.append(n)
        return n

    with app.test() as t:
        t.send_all(topic, [(1, "a"), (2, "a"), (3, "b"), (4, "c")])
        assert sorted(finished[:2]) == [3, 4]
        assert finished[2:] == [1, 2]
        assert t.committed(topic) == 4


def test_two_streams_of_one_topic_that_meet_in_a_batch_agent_are_both_waited_for() -> None:
    """The second brings the same records, behind those of the first."""
    app = sk.App("met-again")
    topic = app.topic("in", key=str, value=int)
    small, large = app.stream(topic), app.stream(topic).map(lambda n: n * 10)

    @app.agent(small.merge(large))
    @sk.batch(2, "1s")
    async def keep(numbers: list[int]) -> None: ...

    plan = app.topology().plan({"in": 1})
    task = Task(plan, plan.subtopologies[0], 0)
    task.resume(("in", 0), None, None)
    task.start()
    task.process(Batch("in", 0, [StoredRecord(("in", 0, n), (b"k", b"%d" % n), 0) for n in range(6)]), 0)
    (port,) = task.agents.values()
    (lane,) = port.lanes.lanes
    for done, committable in ((4, 0), (2, 0), (4, 4), (2, 6)):
        lane.drop(done)
        assert task.committable(("in", 0)) == committable
