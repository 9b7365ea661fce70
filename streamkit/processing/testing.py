"""`app.test()`: the whole app in memory, without a broker, on a virtual clock.

    with app.test() as t:
        t.send(orders, Order(...), ts=5)
        t.advance_to(120)
        assert t.read("revenue") == [...]

Nothing is mocked but the log: records pass through their serdes as bytes, `group_by` through its repartition
topic, state through changelogs, commits through checkpoints, exactly as in a worker. Whatever a call caused
is done when it returns: inputs processed, agents idle, everything committed. Time stands still until
`advance_to`; an agent's `asyncio.sleep` and a retry's pause take virtual time only.

The driver has an event loop of its own, so use it in plain `def` tests.
"""

from __future__ import annotations

import asyncio
import inspect
import selectors
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from streamkit.errors import NotFoundError, UsageError
from streamkit.processing.agent import Request
from streamkit.processing.connectors.collected import Collected
from streamkit.processing.connectors.sinks import Row, Sink
from streamkit.processing.dead_letters import letter_of
from streamkit.processing.kafka.schema_registry import imagined
from streamkit.processing.partitioner import partition_for
from streamkit.processing.patterns import check_one, grown, spec_of
from streamkit.processing.record import Headers
from streamkit.processing.replies import TOKEN_BYTES, reply_topic
from streamkit.processing.serde import BYTES, UNDECLARED_KEY, Serde
from streamkit.processing.tasks.fuse import Counts, SinkRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.task import Batch, Task, TaskOutput
from streamkit.processing.timers import Timer
from streamkit.processing.topology import Plan, Subtopology, TopicSpec
from streamkit.processing.worker.agents import AgentRunner
from streamkit.processing.worker.asking import Asking

if TYPE_CHECKING:
    from streamkit.processing.app import App

T = TypeVar("T")
SLICE = 256  # records offered to a task at once


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """A record in the driver's log: `RawRecord` for the engine."""

    at: tuple[str, int, int]
    data: tuple[bytes | None, bytes | None]  # key, value
    time_ms: int
    header_list: Headers | None = None

    def topic(self) -> str:
        return self.at[0]

    def partition(self) -> int:
        return self.at[1]

    def offset(self) -> int:
        return self.at[2]

    def key(self) -> bytes | None:
        return self.data[0]

    def value(self) -> bytes | None:
        return self.data[1]

    def headers(self) -> Headers | None:
        return list(self.header_list) if self.header_list else None

    def timestamp(self) -> tuple[int, int]:
        return 1, self.time_ms


class Log:
    """Topics in memory, with Java's partitioner."""

    def __init__(self, partition_counts: Mapping[str, int]) -> None:
        self._counts = partition_counts
        self._topics: dict[str, list[list[StoredRecord]]] = {}
        self._history: dict[str, list[StoredRecord]] = defaultdict(list)
        self._turns: dict[str, int] = defaultdict(int)

    def partitions(self, topic: str) -> list[list[StoredRecord]]:
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = [[] for _ in range(self._counts.get(topic, 1))]
        return found

    def append(self, topic: str, record: SinkRecord) -> None:
        self.extend(topic, (record,))

    def extend(self, topic: str, records: Iterable[SinkRecord]) -> None:
        partitions, history = self.partitions(topic), self._history[topic]
        for value, key, timestamp_ms, headers, partition in records:
            number = self._partition(topic, key, len(partitions)) if partition is None else partition
            if not 0 <= number < len(partitions):
                raise UsageError(f"{topic} has {len(partitions)} partitions, no number {number}")
            log = partitions[number]
            stored = StoredRecord((topic, number, len(log)), (key, value), timestamp_ms, headers)
            log.append(stored)
            history.append(stored)

    def in_order(self, topic: str) -> list[StoredRecord]:
        """All records of a topic as they were appended."""
        return self._history[topic]

    def known(self, topic: str) -> bool:
        return topic in self._counts or topic in self._topics

    def _partition(self, topic: str, key: bytes | None, count: int) -> int:
        if key is not None:
            return partition_for(key, count)
        self._turns[topic] += 1
        return (self._turns[topic] - 1) % count


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of passing."""

    def __init__(self) -> None:
        super().__init__(_NeverWaits(self))
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s


class _NeverWaits(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self._loop.now_s += timeout
        elif not ready and timeout is None:
            ready = super().select(None)  # real I/O of a user's agent
        return ready


class Seen(msgspec.Struct, frozen=True):
    """A record as `records()` shows it, decoded."""

    value: Any
    key: Any
    timestamp_ms: int
    headers: Headers
    partition: int
    offset: int


class TopologyDriver:
    """Runs an app's tasks over a `Log`. Use it as a context manager."""

    def __init__(self, app: App, *, partitions: Mapping[str, int]) -> None:
        self._app = app
        self._plan = app.topology().plan(partitions)
        self._log = Log(_partition_counts(self._plan))
        self._loop = VirtualLoop()
        self._changed = asyncio.Event()
        self._commits: dict[Place, tuple[int, str]] = {}
        self._read: dict[str, int] = {}
        self._redriven: dict[str, int] = {}
        self._failed: list[Task] = []
        self._open = ExitStack()
        self.schema_registry: Any = None  # confluent's client of a registry in memory, where topics need one
        self._timers_due = {timer: timer.schedule.next_ms(0) for timer in self._plan.topology.timers}
        self._collected: dict[int, Collected] = {}
        self._make_tasks()

    def __enter__(self) -> TopologyDriver:
        self.schema_registry = self._open.enter_context(imagined(self._app.schemas))
        self._app.producer = producer = DriverProducer(self._log, self._changed.set)
        self._app.caller = self._asking = DriverAsking(
            producer, reply_topic(self._app.id, bytes(TOKEN_BYTES))
        )
        self._loop.run_until_complete(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._stop())
        self._app.producer = self._app.caller = None
        self._open.close()
        self._loop.close()

    # -- what a test does ---------------------------------------------------------------------------

    def send(
        self,
        topic: TopicSpec[Any, Any] | str,
        value: Any,
        *,
        key: Any = None,
        ts: float | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        """Append a record and process whatever follows from it. `ts`: seconds, by default the driver's clock.
        Bytes are written as they are, so that a test can send what cannot be decoded.
        """
        spec = self._spec(topic)
        self._appear(spec.name)
        self._log.append(spec.name, (*self._encoded(spec, value, key, ts), headers, partition))
        self._run()

    def send_all(
        self,
        topic: TopicSpec[Any, Any] | str,
        records: Iterable[tuple[Any, ...]],
        *,
        partition: int | None = None,
    ) -> None:
        """Append many records, then process them: `(value, key)` or `(value, key, ts)` each."""
        spec = self._spec(topic)
        self._appear(spec.name)
        encoded = (self._encoded(spec, value, key, ts[0] if ts else None) for value, key, *ts in records)
        self._log.extend(spec.name, ((*data, None, partition) for data in encoded))
        self._run()

    def advance_to(self, seconds: float) -> None:
        """Move the clock and the event time of every source partition to `seconds`: windows before close,
        timers run.
        """
        self._pass_time(round(seconds * 1000))
        for task in self.tasks:
            self._route(task.advance_to(round(seconds * 1000), self.now_ms))
        self._run()

    def sleep(self, seconds: float) -> None:
        """Let wall time pass: timers run, quiet partitions become idle; event time does not move by
        itself.
        """
        self._pass_time(self.now_ms + round(seconds * 1000))
        self._run()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine of the test returns, run beside the app: `t.run(agent.ask(value))`."""
        result = self._loop.run_until_complete(self._beside(coroutine))
        self._run()
        return result

    def read(self, topic: TopicSpec[Any, Any] | str) -> list[Any]:
        """Values appended to a topic since it was last read, decoded, in the order in which they came."""
        name = topic if isinstance(topic, str) else topic.name
        records = self.records(topic)
        start, self._read[name] = self._read.get(name, 0), len(records)
        return [record.value for record in records[start:]]

    def records(self, topic: TopicSpec[Any, Any] | str) -> list[Seen]:
        """All records of a topic, in the order in which they came."""
        name = topic if isinstance(topic, str) else topic.name
        spec = self._declared(name)
        if not self._log.known(name):
            raise NotFoundError(f"the app has no topic {name}", hint="see app.explain()")
        value: Serde[Any] = BYTES if spec is None else spec.value
        key: Serde[Any] = UNDECLARED_KEY if spec is None or spec.key is None else spec.key
        return [_seen(record, key, value) for record in self._log.in_order(name)]

    def written(self, sink: Sink) -> list[Row]:
        """Rows that reached a sink since it was last asked for. Its own code does not run: here is no I/O."""
        return self._collecting(sink).take()

    def _collecting(self, sink: Sink) -> Collected:
        return self._collected.setdefault(id(sink), Collected())

    def committed(self, topic: TopicSpec[Any, Any] | str, partition: int = 0) -> int | None:
        """The committed offset of a source partition."""
        name = topic if isinstance(topic, str) else topic.name
        commit = self._commits.get((name, partition))
        return None if commit is None else commit[0]

    def redrive(self, topic: TopicSpec[Any, Any] | str) -> int:
        """Write the dead letters of a topic back to where they came from, each once, and process what
        follows; how many. As `streamkit dlq redrive` does.
        """
        name = topic if isinstance(topic, str) else topic.name
        records = self._log.in_order(name)
        start, self._redriven[name] = self._redriven.get(name, 0), len(records)
        homeward = [(r, letter) for r in records[start:] if (letter := letter_of(r)) and letter.topic]
        for record, letter in homeward:
            back = (record.value(), record.key(), record.time_ms, letter.headers, letter.partition)
            self._log.append(letter.topic or "", back)
        self._run()
        return len(homeward)

    def restart(self) -> None:
        """Crash, and start again from the last commit: state comes back from the changelogs."""
        self._loop.run_until_complete(self._stop())
        self._make_tasks()
        self._loop.run_until_complete(self._start())
        self._run()

    @property
    def now_ms(self) -> int:
        """The virtual clock."""
        return round(self._loop.now_s * 1000)

    def counts(self, operator: str) -> Counts:
        """What an operator counted, over all tasks."""
        total = Counts()
        for task in self.tasks:
            counts = task.operator_counts.get(operator)
            if counts is not None:
                for field in Counts.__struct_fields__:
                    setattr(total, field, getattr(total, field) + getattr(counts, field))
        return total

    # -- tasks --------------------------------------------------------------------------------------

    def _make_tasks(self) -> None:
        self._followed = dict.fromkeys(self._plan.topology.global_tables, 0)
        for table in self._followed:
            table.clear()
        self.tasks: tuple[Task, ...] = ()
        self._runners: dict[str, AgentRunner] = {}
        self._add_tasks(self._plan.subtopologies)

    def _add_tasks(self, subs: Iterable[Subtopology]) -> None:
        for sub in subs:
            for number in range(sub.partitions):
                task = Task(self._plan, sub, number)
                self._take_up(task)
                self.tasks += (task,)
                if task.agents:
                    self._runners[task.id] = AgentRunner(task, self._changed.set, self._collecting)

    def _take_up(self, task: Task) -> None:
        positions: dict[str, int] = {}
        for place in task.places:
            offset, metadata = self._commits.get(place, (0, ""))
            positions |= task.resume(place, metadata, offset).changelogs
        for store in task.stores:
            changelog = task.sub.changelog(store)
            records = self._log.partitions(changelog)[task.partition]
            task.restore(store, records, positions.get(changelog, 0))
        task.start()

    def _appear(self, topic: str) -> None:
        """A topic that a pattern matches has tasks from its first record on."""
        before = len(self._plan.subtopologies)
        self._plan = grown(self._plan, {topic: len(self._log.partitions(topic))})
        running = set(self._runners)
        self._add_tasks(self._plan.subtopologies[before:])
        for name in self._runners.keys() - running:
            self._loop.run_until_complete(_started(self._runners[name]))

    async def _start(self) -> None:
        for runner in self._runners.values():
            runner.start()

    async def _stop(self) -> None:
        for runner in self._runners.values():
            await runner.stop()
        for task in self.tasks:
            task.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._settle())
        for task in self.tasks:
            if task.failure is not None and not self._raised(task):
                raise task.failure.error

    async def _beside(self, coroutine: Coroutine[Any, Any, T]) -> T:
        running = asyncio.ensure_future(coroutine)
        running.add_done_callback(lambda _: self._changed.set())
        while not running.done():
            self._changed.clear()
            await asyncio.sleep(0)
            await self._settle()
            if not running.done():
                await self._changed.wait()
        return await running

    async def _settle(self) -> None:
        """Process, let agents finish, commit, until nothing moves any more."""
        while True:
            moved = self._process()
            for runner in self._runners.values():
                runner.wake()
            if moved:
                await asyncio.sleep(0)
            elif any(task.in_flight and task.failure is None for task in self.tasks):
                self._changed.clear()
                await self._changed.wait()
            elif not self._commit() and not self._retry():
                return
            self._drain()

    def _process(self) -> bool:
        moved = False
        self._follow_globals()
        for task in self.tasks:
            for place in task.places:
                topic, partition = place
                start = task.position(place)
                batch = self._log.partitions(topic)[partition][start : start + SLICE]
                if batch and task.failure is None:
                    self._route(task.process(Batch(topic, partition, batch), self.now_ms))
                    moved = moved or task.position(place) > start
            output = task.tick(self.now_ms, task.places)
            self._route(output)
            moved = moved or bool(output.sinks) or (task.behind and task.failure is None)
        return moved

    def _follow_globals(self) -> None:
        for table in self._plan.topology.global_tables:
            records = self._log.in_order(table.topic.name)
            table.apply(records[self._followed[table] :])
            self._followed[table] = len(records)

    def _commit(self) -> bool:
        """Commit every task that may; true when that produced records for somebody."""
        produced = False
        for task in self.tasks:
            if not task.can_checkpoint():
                continue
            checkpoint = task.checkpoint(self.now_ms)
            for outputs in (checkpoint.sinks, checkpoint.changelog):
                for topic, records in outputs.items():
                    self._log.extend(topic, records)
            changelogs = map(task.sub.changelog, task.stores)
            positions = {name: len(self._log.partitions(name)[task.partition]) for name in changelogs}
            for place, offset in checkpoint.offsets.items():
                self._commits[place] = offset, checkpoint.metadata(place, positions)
            task.committed(checkpoint, positions)
            produced = produced or bool(checkpoint.sinks)
        return produced

    def _retry(self) -> bool:
        """Jump to the next retry that is due, if any."""
        due = [task.retry_at_ms for task in self.tasks if task.failure is None]
        next_ms = min((at for at in due if at is not None), default=None)
        if next_ms is None:
            return False
        self._loop.now_s = max(self._loop.now_s, next_ms / 1000)
        return True

    def _drain(self) -> None:
        for task in self.tasks:
            self._route(task.drain())
        for runner in self._runners.values():
            if runner.failure is not None:
                raise runner.failure

    def _route(self, output: TaskOutput) -> None:
        for topic, records in output.sinks.items():
            self._log.extend(topic, records)
        for reply in output.replies:
            self._log.append(reply.topic, reply.record)
            value, _, _, headers, _ = reply.record
            self._asking.heard(headers, value)

    def _raised(self, task: Task) -> bool:
        """Each failure is raised once."""
        known = task in self._failed
        self._failed.append(task)
        return known

    # -- time ---------------------------------------------------------------------------------------

    def _pass_time(self, until_ms: int) -> None:
        """Run timers in the order in which they are due, then stand at `until_ms`."""
        while self._timers_due:
            timer, due = min(self._timers_due.items(), key=lambda timer: timer[1])
            if due > until_ms:
                break
            self._loop.now_s = max(self._loop.now_s, due / 1000)
            self._timers_due[timer] = timer.schedule.next_ms(due)
            self._loop.run_until_complete(_fire(timer))
            self._run()
        self._loop.now_s = max(self._loop.now_s, until_ms / 1000)

    def _encoded(
        self, spec: TopicSpec[Any, Any], value: Any, key: Any, ts: float | None
    ) -> tuple[bytes | None, bytes | None, int]:
        data = value if value is None or isinstance(value, bytes) else spec.value.encode(value)
        keys = spec.key or UNDECLARED_KEY
        key_data = key if key is None or isinstance(key, bytes) else keys.encode(key)
        return data, key_data, self.now_ms if ts is None else round(ts * 1000)

    def _spec(self, topic: TopicSpec[Any, Any] | str) -> TopicSpec[Any, Any]:
        if isinstance(topic, TopicSpec):
            return check_one(topic, "a record")
        spec = self._declared(topic)
        if spec is None:
            raise NotFoundError(f"the app has no topic {topic}", hint="see app.explain()")
        return spec

    def _declared(self, name: str) -> TopicSpec[Any, Any] | None:
        """The topic of this name, or what a pattern says of it."""
        declared = (spec for spec in self._plan.topology.topics if spec.name == name)
        return next(declared, None) or spec_of(self._plan, name)


class DriverProducer:
    """`Topic.send` inside agents and timers, into the driver's log."""

    def __init__(self, log: Log, appended: Callable[[], None]) -> None:
        self._log = log
        self._appended = appended

    async def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        *,
        headers: Headers | None,
        timestamp_ms: int | None,
        partition: int | None,
    ) -> None:
        now_ms = round(asyncio.get_running_loop().time() * 1000)
        self._log.append(
            topic, (value, key, now_ms if timestamp_ms is None else timestamp_ms, headers, partition)
        )
        self._appended()


class DriverAsking(Asking):
    """Requests into the driver's log."""

    def __init__(self, producer: DriverProducer, topic: str) -> None:
        super().__init__(self._produce, self._open)
        self._producer = producer
        self._replies = topic

    async def _produce(self, request: Request, headers: Headers) -> None:
        await self._producer.send(
            request.topic, request.value, request.key, headers=headers, timestamp_ms=None, partition=None
        )

    async def _open(self) -> str:
        return self._replies


async def _started(runner: AgentRunner) -> None:
    runner.start()


async def _fire(timer: Timer) -> None:
    result = timer.function()
    if inspect.isawaitable(result):
        await result


def _partition_counts(plan: Plan) -> dict[str, int]:
    counts = dict(plan.partition_counts)
    for topic in plan.topics:
        counts.setdefault(topic.name, topic.partitions or 1)
    return counts


def _seen(record: StoredRecord, keys: Serde[Any], values: Serde[Any]) -> Seen:
    key, value = record.data
    return Seen(
        None if value is None else values.decode(value),
        None if key is None else keys.decode(key),
        record.time_ms,
        record.header_list or [],
        record.partition(),
        record.offset(),
    )
