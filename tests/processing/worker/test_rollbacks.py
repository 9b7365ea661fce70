"""A transaction is given up while tasks leave: they do not come back, and commit nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, cast

import pytest

import streamkit as sk
from streamkit.errors import StreamkitError
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.task import Task, TaskOutput
from streamkit.processing.testing import StoredRecord
from streamkit.processing.worker import commit_rounds
from streamkit.processing.worker.member import Member
from streamkit.processing.worker.restore import ChangelogReader
from streamkit.processing.worker.sink import TransactionalSink
from streamkit.processing.worker.source import Arrival, Listener, Partition, Position, Source
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry.instruments import Registry

PLACE = ("in", 0)


async def _nothing() -> None: ...


class Transactions:
    """One transaction at a time; a flush lasts until it is let through."""

    full = False
    timeout_s = 60.0

    def __init__(self) -> None:
        self.doomed = False
        self.began_at_s: float | None = None
        self.hopeless = ""
        self.sent = 0
        self.commits: list[Sequence[Position]] = []
        self._holding = self._held = False
        self.meanwhile: Callable[[], Awaitable[None]] = _nothing
        self.while_aborting: Callable[[], Awaitable[None]] = _nothing
        self.aborted = asyncio.Event()
        self.flushing = asyncio.Event()
        self.acknowledged = asyncio.Event()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def serve(self) -> None: ...

    def hold(self) -> None:
        self._holding = True

    def stopping(self) -> None: ...

    def discard(self) -> None: ...

    def doom(self, reason: str) -> None:
        self.doomed = True

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        self.sent += 1
        if self._holding:
            self._held = True
        else:
            self.began_at_s = self.began_at_s or monotonic()

    async def flush(self) -> None:
        self.flushing.set()
        await self.acknowledged.wait()
        await self.meanwhile()

    async def ends(self, places: Sequence[Partition]) -> dict[Partition, int]:
        return {}

    async def commit(self, positions: Sequence[Position], group: object) -> bool:
        if self.doomed:
            return False
        self.commits.append(positions)
        self.began_at_s = monotonic() if self._held else None
        self._holding = self._held = False
        return True

    async def abort(self) -> None:
        await self.while_aborting()
        self.doomed, self.began_at_s = False, None
        self._holding = self._held = False
        self.aborted.set()
        if self.hopeless:
            raise StreamkitError(self.hopeless)


class Given:
    """A group that gives and takes as the test says."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.joined = asyncio.Event()
        self.begun = asyncio.Event()

    async def start(self, listener: Listener) -> None:
        self.listener = listener
        self.joined.set()

    async def begin(self, positions: Sequence[Position]) -> None:
        self.begun.set()

    async def committed(self, partitions: Sequence[Partition]) -> list[Position]:
        return [Position(*place, 0) for place in partitions]

    async def known_ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {}

    async def halt(self, partitions: Sequence[Partition]) -> None: ...

    async def group(self) -> None: ...

    async def close(self) -> None: ...

    def taken(self) -> None: ...


class Worker:
    """One task at work, with an agent that has record 1 in hand until it is cancelled."""

    def __init__(self, app: sk.App, partitions: int = 1) -> None:
        self.partitions = partitions
        self.source, self.sink = Given(), Transactions()
        self.member = Member(
            app.topology().plan({"in": partitions}),
            cast(Source, self.source),
            cast(TransactionalSink, self.sink),
            cast(ChangelogReader, None),
            clock=SystemClock(),
            registry=Registry(),
            commit_interval_s=0.05,
            transactions=cast(TransactionalSink, self.sink),
        )

    @property
    def listener(self) -> Listener:
        assert self.source.listener is not None
        return self.source.listener

    def receive(self, *offsets: int, place: Partition = PLACE) -> None:
        records = [StoredRecord((*place, offset), (b"k", b"%d" % offset), 0) for offset in offsets]
        self.listener.received([Arrival(*place, records)])


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    running = asyncio.create_task(worker.member.run())
    try:
        async with asyncio.timeout(20):
            await worker.source.joined.wait()
            await worker.listener.assigned([Position("in", number, 0) for number in range(worker.partitions)])
            await worker.source.begun.wait()
            yield
    finally:
        worker.sink.acknowledged.set()
        worker.member.stop()
        with suppress(asyncio.CancelledError):
            await running


def job(in_hand: asyncio.Event, cancelled: Any) -> sk.App:
    app = sk.App("given-up", guarantee="exactly_once")

    @app.agent(app.topic("in", key=str, value=int), sink="out")
    async def copy(n: int) -> int:
        if n == 1:
            in_hand.set()
            try:
                await asyncio.Event().wait()
            finally:
                await cancelled()
        return n

    return app


async def test_a_task_that_is_leaving_does_not_begin_anew() -> None:
    in_hand = asyncio.Event()

    worker = Worker(job(in_hand, _nothing))
    async with at_work(worker):
        worker.receive(1)
        await in_hand.wait()
        leaving = asyncio.create_task(worker.listener.revoked([PLACE]))
        await asyncio.sleep(0)
        worker.sink.doom("a broker is gone")
        await worker.sink.aborted.wait()
        await leaving
        assert worker.member.tasks.named("0_0") is None
        assert worker.sink.commits == []


async def test_results_of_lost_tasks_are_not_committed_without_their_offsets() -> None:
    in_hand, closed = asyncio.Event(), asyncio.Event()

    async def while_the_commit_ends() -> None:
        worker.sink.acknowledged.set()
        for _ in range(20):
            await asyncio.sleep(0)
        closed.set()

    worker = Worker(job(in_hand, while_the_commit_ends))
    async with at_work(worker):
        worker.receive(0)
        await worker.sink.flushing.wait()
        worker.receive(1)
        await in_hand.wait()
        await worker.listener.lost([PLACE])
        assert closed.is_set()
        assert worker.sink.commits == []
        assert worker.member.tasks.named("0_0") is None


async def test_those_that_stay_go_on_when_a_task_left_with_a_commit() -> None:
    worker = Worker(job(asyncio.Event(), _nothing), partitions=2)

    async def more_comes() -> None:
        """While a commit waits the other task works: for the next transaction."""
        sent = worker.sink.sent
        worker.receive(sent + 2)
        while worker.sink.sent == sent and not worker.sink.aborted.is_set():
            await asyncio.sleep(0.001)

    worker.sink.meanwhile = more_comes
    async with at_work(worker):
        worker.receive(0, place=("in", 1))
        await worker.sink.flushing.wait()
        worker.sink.acknowledged.set()
        await worker.listener.revoked([("in", 1)])
        assert not worker.sink.aborted.is_set()
        assert {p.partition: p.offset for commit in worker.sink.commits for p in commit}[1] == 1
        assert worker.member.tasks.named("0_1") is None
        worker.sink.meanwhile = _nothing


async def test_results_of_a_task_that_left_without_a_commit_are_never_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its agent has not ended by the deadline, and takes its time to be cancelled: a regular commit comes."""
    monkeypatch.setattr(commit_rounds, "DRAIN_S", 0.05)
    in_hand = asyncio.Event()

    async def while_others_go_on() -> None:
        ends = [asyncio.ensure_future(e.wait()) for e in (worker.sink.flushing, worker.sink.aborted)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    worker = Worker(job(in_hand, while_others_go_on))
    worker.sink.acknowledged.set()
    async with at_work(worker):
        worker.receive(0, 1)
        await in_hand.wait()
        assert worker.sink.began_at_s is not None, "the result of record 0"
        worker.sink.commits.clear()
        worker.sink.flushing.clear()
        await worker.listener.revoked([PLACE])
        assert worker.sink.commits == [], "without its offsets: whoever has the task next makes them again"
        assert worker.sink.aborted.is_set()


async def test_a_task_that_leaves_makes_nothing_beside_its_last_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More windows are due than fit into one turn: those that are left are the next owner's."""
    due = dict.fromkeys(range(2), 0)

    def follow(task: Task, now_ms: int) -> TaskOutput:
        due[task.partition] += 1
        return TaskOutput({"out": [(b"1", b"k", 1, None, None)]})

    monkeypatch.setattr(Task, "behind", True)
    monkeypatch.setattr(Task, "follow", follow)
    worker = Worker(job(asyncio.Event(), _nothing), partitions=2)

    async def others_go_on() -> None:
        before, deadline = due[0], monotonic() + 1
        while due[0] < before + 3 and monotonic() < deadline:
            await asyncio.sleep(0.001)

    worker.sink.acknowledged.set()
    async with at_work(worker):
        while not due[1]:
            await asyncio.sleep(0.001)
        leaving = asyncio.create_task(worker.listener.revoked([("in", 1)]))
        worker.sink.meanwhile = others_go_on
        await asyncio.sleep(0)
        made = due[1]
        await leaving
        assert not worker.sink.aborted.is_set()
        assert due[1] == made, "in a transaction without its offsets"
        worker.sink.meanwhile = _nothing


async def test_a_task_that_comes_during_a_rollback_opens_after_it() -> None:
    """A sink takes nothing while it aborts: what the task made, at a timer that is due, would be lost."""
    worker = Worker(job(asyncio.Event(), _nothing), partitions=2)
    opened_early = []

    async def another_comes() -> None:
        await worker.listener.assigned([Position("in", 1, 0)])
        for _ in range(20):
            await asyncio.sleep(0)
        opened_early.append(worker.member.tasks.named("0_1") in worker.member.tasks.ready)

    worker.sink.acknowledged.set()
    async with at_work(worker):
        await worker.listener.revoked([("in", 1)])
        worker.sink.while_aborting = another_comes
        worker.sink.doom("a broker is gone")
        await worker.sink.aborted.wait()
        assert opened_early == [False]
        while len(worker.member.tasks.ready) < 2:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("where", ["at work", "as a task leaves"])
async def test_what_would_doom_every_transaction_ends_the_worker(where: str) -> None:
    worker = Worker(job(asyncio.Event(), _nothing))
    worker.sink.hopeless = "too large"
    with pytest.raises(StreamkitError, match="too large"):
        async with at_work(worker):
            worker.receive(0)
            await worker.sink.flushing.wait()
            worker.sink.doom("too large")
            worker.sink.acknowledged.set()
            if where == "as a task leaves":
                await worker.listener.revoked([PLACE])
            await worker.sink.aborted.wait()
            while worker.member.metrics.up.value:
                await asyncio.sleep(0.001)
