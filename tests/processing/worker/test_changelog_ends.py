"""Former owners of a task that append to its changelog when they wake up: no restore takes their rows.

The cluster here is a log and a group. A worker's records wait in its sink until a flush delivers them; one
that hangs keeps them, and they arrive whenever the test says, or when it wakes up inside a commit of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.errors import StreamkitError
from streamkit.processing.record import RawRecord
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Task
from streamkit.processing.testing import Log, StoredRecord
from streamkit.processing.worker import changelog_ends
from streamkit.processing.worker.committer import Committer
from streamkit.processing.worker.metrics import CommitMetrics
from streamkit.processing.worker.progress import Progress
from streamkit.processing.worker.restore import ChangelogReader, Span, restore
from streamkit.processing.worker.source import Arrival, Partition, Position, Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry.instruments import Registry
from tests.processing.both_states import PLACE, plan_of_both_states

TABLE = "former-counts-changelog"
KEYS = "abc"


class Cluster:
    """What outlives workers. `meanwhile` happens whenever somebody waits for the cluster."""

    def __init__(self, records: Sequence[tuple[str, int]]) -> None:
        self.log = Log({})
        self.commits: dict[Place, Position] = {}
        self.input = [
            StoredRecord((*PLACE, offset), (key.encode(), b"%d" % n), offset * 300)
            for offset, (key, n) in enumerate(records)
        ]
        self.plan, self.counts = plan_of_both_states("former")
        self.hidden = 0  # rows at the ends that leaders do not show
        self.reads = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def answer(self) -> None:
        self.meanwhile()
        await asyncio.sleep(0)

    def rows(self, topic: str = TABLE) -> list[StoredRecord]:
        return self.log.partitions(topic)[0]

    # -- the changelog reader

    async def spans(self, committed: Mapping[Place, int]) -> dict[Place, Span]:
        return {place: (0, len(self.rows(place[0]))) for place in committed}

    async def read(
        self, spans: Mapping[Place, Span], apply: Callable[[Place, Sequence[RawRecord]], None]
    ) -> None:
        self.reads += 1
        await self.answer()
        for place, (start, end) in spans.items():
            apply(place, self.rows(place[0])[start:end])


class Queue:
    """A sink; `repeats`: its producer is not idempotent."""

    full = False

    def __init__(self, cluster: Cluster, repeats: int = 0) -> None:
        self.waiting: list[tuple[str, SinkRecord]] = []
        self._cluster = cluster
        self._repeats = repeats

    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        self.waiting += [(topic, record) for record in records]

    def deliver(self, count: int | None = None) -> None:
        """The first `count` records arrive, at whatever time."""
        arriving, self.waiting = self.waiting[:count], self.waiting[len(self.waiting[:count]) :]
        for topic, record in [*arriving, *arriving[-self._repeats :]] if self._repeats else arriving:
            self._cluster.log.append(topic, record)

    async def flush(self) -> None:
        await self._cluster.answer()
        self.deliver()

    def serve(self) -> None: ...

    def discard(self) -> None: ...

    async def close(self) -> None: ...


class Group:
    """The source of one member: its commits count until it is fenced."""

    def __init__(self, cluster: Cluster) -> None:
        self.fenced = False
        self._cluster = cluster

    async def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        await self._cluster.answer()
        return {place: len(self._cluster.rows(place[0])) - self._cluster.hidden for place in partitions}

    async def commit(self, positions: Sequence[Position]) -> bool:
        await self._cluster.answer()
        if not self.fenced:
            self._cluster.commits |= {(p.topic, p.partition): p for p in positions}
        return not self.fenced


class Clock(SystemClock):
    passed_ms = 0

    def monotonic_ms(self) -> int:
        return self.passed_ms


class Worker:
    """The owner of the task until it is fenced."""

    def __init__(self, cluster: Cluster, repeats: int = 0) -> None:
        self.cluster, self.position, self.clock = cluster, 0, Clock()
        self.sink, self.group = Queue(cluster, repeats), Group(cluster)
        self.task = Task(cluster.plan, cluster.plan.subtopologies[0], 0)
        self.runner = TaskRunner(self.task, self.sink, lambda: None)
        metrics = CommitMetrics(Registry(), "former")
        source, reader = cast(Source, self.group), cast(ChangelogReader, cluster)
        self.committer = Committer(source, self.sink, reader, self.clock, metrics)

    async def start(self) -> Worker:
        committed = self.cluster.commits.get(PLACE, Position(*PLACE, 0))
        self.position = committed.offset or 0
        ends = self.task.resume(PLACE, committed.metadata, committed.offset).changelogs
        positions = {(topic, 0): end for topic, end in ends.items()}
        self.committer.positions |= positions
        progress = Progress(Registry().gauge("remaining", "", ["store", "partition"]))
        reader = cast(ChangelogReader, self.cluster)
        self.runner.changelog_ends = await restore(self.task, positions, reader, progress)
        self.runner.open()
        return self

    def process(self, count: int) -> None:
        records = self.cluster.input[self.position : self.position + count]
        if records:
            self.position += len(records)
            self.runner.offer(Arrival(*PLACE, records))
            while self.runner.can_run(0):
                self.runner.run_slice(0)

    async def commit(self) -> bool:
        return await self.committer.commit([self.runner])

    def hang(self) -> None:
        """Stopped, with its rows on their way."""
        self.committer._freeze(self.runner)
        self.group.fenced = True
        self.task.close()

    async def close(self) -> None:
        """It hears that it is fenced."""
        self.committer.forget(self.runner)
        await self.runner.close()

    def state(self) -> dict[str, list[tuple[bytes, bytes]]]:
        return {name: sorted(store.items()) for name, store in self.task.stores.items()}


async def succeeded(worker: Worker) -> Worker:
    """A successor that restores from the changelogs alone."""
    await worker.close()
    return await Worker(worker.cluster).start()


async def test_rows_behind_the_owners_are_outdone_before_the_commit() -> None:
    cluster = Cluster([("a", 1), ("a", 1), ("b", 1), ("c", 1)])
    former = await Worker(cluster).start()
    former.process(1)
    former.hang()
    owner = await Worker(cluster).start()
    owner.process(3)
    await owner.commit()
    former.sink.deliver()  # a=1, behind a=2
    owner.process(1)
    await owner.commit()
    assert [row.data for row in cluster.rows()[-3:]] == [(b"a", b"1"), (b"c", b"1"), (b"a", b"2")]
    owner = await succeeded(owner)
    assert dict(cluster.counts) == {"a": 2, "b": 1, "c": 1}


async def test_rows_before_the_first_commit_and_of_keys_that_do_not_exist() -> None:
    cluster = Cluster([("a", 1), ("b", 1)])
    former = await Worker(cluster).start()
    former.process(2)
    former.hang()
    owner = await Worker(cluster).start()
    former.sink.deliver()  # since the restore looked
    owner.process(1)
    await owner.commit()
    owner = await succeeded(owner)
    assert dict(cluster.counts) == {"a": 1}


async def test_looking_reads_nothing_when_all_rows_are_the_owners() -> None:
    cluster = Cluster([("a", 1), ("b", 1), ("a", -1)])
    owner = await Worker(cluster).start()
    for _ in range(3):
        owner.process(1)
        await owner.commit()
    owner = await succeeded(owner)
    restores = cluster.reads
    owner.process(3)
    await owner.commit()
    assert cluster.reads == restores == 1


async def test_rows_that_arrive_while_others_are_outdone() -> None:
    cluster = Cluster([("a", 1), ("a", 1), ("b", 1), ("c", 1)])
    former = await Worker(cluster).start()
    former.process(3)
    former.hang()
    owner = await Worker(cluster).start()
    owner.process(4)
    cluster.meanwhile = lambda: former.sink.deliver(1)  # another one at each turn
    await owner.commit()
    cluster.meanwhile = lambda: None
    assert not former.sink.waiting
    owner = await succeeded(owner)
    assert dict(cluster.counts) == {"a": 2, "b": 1, "c": 1}


async def test_rows_that_a_producer_repeats_are_left_alone() -> None:
    cluster = Cluster([("a", 1), ("b", 1)])
    owner = await Worker(cluster, repeats=1).start()
    owner.process(2)
    await owner.commit()
    assert [row.data for row in cluster.rows()] == [(b"a", b"1"), (b"b", b"1")]
    assert cluster.reads == 1


async def test_a_look_that_is_given_up_begins_anew() -> None:
    cluster = Cluster([("a", 1), ("a", 1), ("b", 1)])
    former = await Worker(cluster).start()
    former.process(1)
    former.hang()
    owner = await Worker(cluster).start()
    former.sink.deliver()
    owner.process(3)
    commit = asyncio.create_task(owner.commit())

    def given_up() -> None:
        if cluster.reads:
            commit.cancel()

    cluster.meanwhile = given_up
    await asyncio.wait([commit])
    cluster.meanwhile = lambda: None
    assert PLACE not in cluster.commits
    assert await owner.commit()
    owner = await succeeded(owner)
    assert dict(cluster.counts) == {"a": 2, "b": 1}


async def test_an_end_that_lacks_acknowledged_rows_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelog_ends, "ENDS_PAUSE_S", 0)
    cluster = Cluster([("a", 1)])
    owner = await Worker(cluster).start()
    owner.process(1)
    cluster.hidden = 1

    def shown_at_last() -> None:
        owner.clock.passed_ms += 1000
        cluster.hidden = 0 if owner.clock.passed_ms > 9000 else 1

    cluster.meanwhile = shown_at_last
    assert await owner.commit()
    assert '"former-counts-changelog":1' in cluster.commits[PLACE].metadata


async def test_a_broker_that_has_lost_acknowledged_rows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelog_ends, "ENDS_PAUSE_S", 0)
    cluster = Cluster([("a", 1)])
    owner = await Worker(cluster).start()
    owner.process(1)
    cluster.hidden = 1

    def time_passes() -> None:
        owner.clock.passed_ms += 1000

    cluster.meanwhile = time_passes
    with pytest.raises(StreamkitError, match="ends at 0, but rows up to 1 were acknowledged"):
        await owner.commit()
    assert PLACE not in cluster.commits


STEPS = st.one_of(
    st.tuples(st.just("process"), st.integers(1, 4)),
    st.tuples(st.just("commit"), st.integers(0, 1 << 16)),  # the seed of what happens meanwhile
    st.tuples(st.just("hang")),
    st.tuples(st.just("arrive"), st.integers(0, 3)),
    st.tuples(st.just("wake"), st.integers(0, 30)),  # so many turns before it hears that it is fenced
)


async def play(records: Sequence[tuple[str, int]], steps: Sequence[tuple[Any, ...]]) -> None:
    cluster, expected = Cluster(records), await Worker(Cluster(records)).start()
    owner, former = await Worker(cluster).start(), list[Worker]()

    def arrivals(seed: int) -> Callable[[], None]:
        draw = random.Random(seed)

        def some_arrive() -> None:
            for worker in former:
                if draw.random() < 0.3:
                    worker.sink.deliver(1)

        return some_arrive

    for step in steps:
        match step:
            case "process", count:
                owner.process(count)
            case "commit", seed:
                cluster.meanwhile = arrivals(seed)
                assert await owner.commit()
                cluster.meanwhile = lambda: None
            case ("hang",):
                owner.hang()
                former.append(owner)
                owner = await Worker(cluster).start()
            case "arrive", count:
                for worker in former[:1]:
                    worker.sink.deliver(count)
            case "wake", turns if former:
                woken = asyncio.create_task(former[0].commit())
                owners = asyncio.create_task(owner.commit())
                for _ in range(turns):
                    await asyncio.sleep(0)
                await former[0].close()
                assert await owners
                await woken
                former.pop(0).sink.deliver()
    await owner.close()
    owner = await Worker(cluster).start()
    expected.process(owner.position)
    await expected.commit()
    assert owner.state() == expected.state()


@settings(max_examples=40, deadline=None)
@given(
    records=st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-1, 4)), min_size=10, max_size=25),
    steps=st.lists(STEPS, min_size=8, max_size=30),
)
def test_every_restore_finds_what_was_committed(
    records: list[tuple[str, int]], steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play(records, steps))
