"""`App`: the place where topics, streams, tables, agents and timers are declared.

Declaring builds the immutable `Topology` and nothing else: there is no registry outside the app, no thread,
no connection. `app.test()` runs the topology in memory, `app.run()` and `streamkit worker` against a broker.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, cast, get_args, overload

from streamkit.errors import RefusedError, UsageError
from streamkit.processing.agent import Agent, Caller, Declare, Sinks, check_sinks, sorted_sinks, value_type
from streamkit.processing.batch import BatchFunction
from streamkit.processing.connectors import sources as connectors
from streamkit.processing.crontab import Crontab
from streamkit.processing.draft import Draft, checked_name
from streamkit.processing.error_policy import ErrorPolicy, Fail, OnError, Retry
from streamkit.processing.global_table import GlobalTable
from streamkit.processing.operators.agent import AgentNode, check_shape, shape_of
from streamkit.processing.operators.source import Source, unchanged_from
from streamkit.processing.patterns import check_one, declared_name
from streamkit.processing.reading import check_source, checked_topic
from streamkit.processing.record import Headers
from streamkit.processing.schemas import Schemas
from streamkit.processing.sending import Producer, encoded
from streamkit.processing.serde import JSON_KEY, UNDECLARED_KEY, Written, key_serde, value_serde
from streamkit.processing.state.cache import STATE_MEMORY, checked_state_memory
from streamkit.processing.stream import Stream
from streamkit.processing.table import Lease, Table
from streamkit.processing.tasks.inflight import Order
from streamkit.processing.timers import Interval, Schedule, Timer
from streamkit.processing.topic import Topic
from streamkit.processing.topology import Node, TopicSpec, Topology
from streamkit.processing.units import Duration, Size, duration_ms

if TYPE_CHECKING:
    from streamkit.processing.explain import Explanation
    from streamkit.processing.table_stream import TableStream
    from streamkit.processing.testing import TopologyDriver

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])
Guarantee = Literal["at_least_once", "exactly_once"]
OnLostRecords = Literal["fail", "continue"]


class TopicOptions(TypedDict, total=False):
    """What `App.topic` takes whatever the types are."""

    pattern: str | None
    partitions: int | None
    config: Mapping[str, str] | None


class TableOptions(TypedDict, total=False):
    """What `App.table` takes whatever the types are."""

    partitions: int | None
    ttl: Duration | None


class App:
    """A stream-processing application, named by its consumer group.

    `bootstrap`: the broker's address; None leaves it to the command line, `STREAMKIT_BOOTSTRAP`, or the
    default `127.0.0.1:9092`. `kafka`: any librdkafka setting, for consumer and producer. `idle_timeout`: a
    partition that has been read to its end for so long no longer holds windows open; None: it always does.
    `guarantee="exactly_once"`: outputs, state and offsets of a commit are one transaction.
    `on_lost_records`: what a worker does whose next records were deleted by retention: end and say so
    ("fail"), or say so and go on at what is left ("continue").
    `standby_replicas`: how many other workers keep a warm copy of each task's state, to take over at once.
    `serve_tables`: whether workers show rows of tables over HTTP beyond the loopback interface, too.
    `abandon`: names of tables and operators of former versions whose state may be lost; a worker refuses to
    start where any other would be.
    `state_dir`: where a worker keeps its stores (RocksDB); None: in memory, restored wholly at each start.
    `state_memory`: about how much memory a worker with a `state_dir` spends on what it keeps there.
    `schema_registry`: for topics of `sk.Avro`, `sk.Protobuf`, `sk.JsonSchema`: a URL, the settings of
    confluent's client ("url", "basic.auth.user.info", ...) or that client; see `processing.schemas`.
    """

    def __init__(
        self,
        id: str,
        bootstrap: str | None = None,
        *,
        kafka: Mapping[str, Any] | None = None,
        auto_offset_reset: Literal["earliest", "latest"] = "earliest",
        on_error: OnError | None = None,
        idle_timeout: Duration | None = "60s",
        commit_interval: Duration = "1s",
        guarantee: Guarantee = "at_least_once",
        state_dir: str | None = None,
        state_memory: Size = STATE_MEMORY,
        on_lost_records: OnLostRecords = "fail",
        standby_replicas: int = 0,
        serve_tables: bool = False,
        schema_registry: str | Mapping[str, Any] | object | None = None,
        abandon: Iterable[str] = (),
    ) -> None:
        self.id = checked_name("app", id)
        self.bootstrap = checked_bootstrap(bootstrap)
        self.kafka = dict(kafka or {})
        if auto_offset_reset not in ("earliest", "latest"):
            raise UsageError(f'auto_offset_reset is "earliest" or "latest", got {auto_offset_reset!r}')
        self.auto_offset_reset = auto_offset_reset
        self.commit_interval_ms = duration_ms(commit_interval)
        self.state_dir = state_dir
        self.state_memory_bytes = checked_state_memory(state_memory)
        if on_lost_records not in get_args(OnLostRecords):
            raise UsageError(f'on_lost_records is "fail" or "continue", got {on_lost_records!r}')
        self.on_lost_records = on_lost_records
        if not isinstance(standby_replicas, int) or standby_replicas < 0:
            raise UsageError(f"standby_replicas is at least 0, got {standby_replicas!r}")
        self.standby_replicas = standby_replicas
        self.serve_tables = serve_tables
        self.abandon = frozenset([abandon] if isinstance(abandon, str) else abandon)
        self.guarantee = checked_guarantee(guarantee)
        self.lease = Lease()
        self.schemas = Schemas(schema_registry)
        self.producer: Producer | None = None  # these two are set while the app runs
        self.caller: Caller | None = None
        self._idle_timeout_ms = None if idle_timeout is None else duration_ms(idle_timeout)
        self._policy = ErrorPolicy.of(on_error or Fail())
        self.draft = Draft()
        self._topics: dict[str, Topic[Any, Any]] = {}
        self._timers: list[Timer] = []
        self._inflows: list[connectors.Inflow] = []
        self._globals: list[GlobalTable[Any, Any]] = []
        self._connection: Any = None

    # -- declaring ----------------------------------------------------------------------------------

    @overload
    def topic(
        self, name: str | None = None, *, value: Written[V], key: Written[K], **options: Unpack[TopicOptions]
    ) -> Topic[K, V]: ...
    @overload
    def topic(
        self, name: str | None = None, *, value: Written[V], **options: Unpack[TopicOptions]
    ) -> Topic[bytes | None, V]: ...
    @overload
    def topic(
        self, name: str | None = None, *, key: Written[K], **options: Unpack[TopicOptions]
    ) -> Topic[K, Any]: ...
    @overload
    def topic(self, name: str | None = None, **options: Unpack[TopicOptions]) -> Topic[bytes | None, Any]: ...
    def topic(
        self,
        name: str | None = None,
        *,
        pattern: str | None = None,
        value: Any = Any,
        key: Any = None,
        partitions: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> Topic[Any, Any]:
        """Declare a topic; it is created at start when missing, with `partitions` and `config`.

        `value` and `key` are types or serdes; plain JSON and bytes when not given. Declaring `key` says that
        the topic is partitioned by it. An existing topic with another partition count is an error at start.

        `pattern`: all topics whose whole names match this regular expression, those that come later, too.
        They can be read only, and `name` is what operators are named after.
        """
        name = declared_name(name, pattern, makes=partitions is not None or bool(config))
        checked_name("topic", name)
        if name in self._topics:
            same = self._topics[name].pattern == pattern
            raise UsageError(
                f"the topic {name} is declared twice",
                hint="keep one app.topic(...) and share it"
                if same
                else "give it a name of its own: app.topic(name, pattern=...)",
            )
        if partitions is not None and (not isinstance(partitions, int) or partitions < 1):
            raise UsageError(f"the topic {name} cannot have {partitions!r} partitions")
        topic = Topic(
            app=self,
            name=name,
            value=self.schemas.of_value(value, name),
            key=None if key is None else self.schemas.of_key(key, name),
            partitions=partitions,
            config=dict(config or {}),
            pattern=pattern,
        )
        self._topics[name] = topic
        return topic

    def stream(
        self,
        topic: Topic[K, V] | str,
        *,
        time: Callable[[V], Any] | Literal["processing"] | None = None,
        max_ahead: Duration | None = "1d",
        on_error: OnError | None = None,
        name: str | None = None,
    ) -> Stream[K, V]:
        """The records of a topic. `time`: their event time from the value, in seconds since the epoch or as
        an aware datetime; without it, the record's timestamp. An event time later than the record's timestamp
        by more than `max_ahead` is an error; None allows any. `time="processing"`: the worker's clock when it
        processes the record, which a replay does not repeat. `on_error`: for this stream's operators.
        """
        policy = None if on_error is None else ErrorPolicy.of(on_error)
        return self._source(topic, time, policy, name, max_ahead=max_ahead)

    @overload
    def table(
        self,
        name: str,
        *,
        default: Callable[[], V],
        key: Written[K],
        value: Written[V] | None = None,
        **options: Unpack[TableOptions],
    ) -> Table[K, V]: ...
    @overload
    def table(
        self,
        name: str,
        *,
        default: Callable[[], V],
        value: Written[V] | None = None,
        **options: Unpack[TableOptions],
    ) -> Table[Any, V]: ...
    @overload
    def table(
        self, name: str, *, key: Written[K], value: Written[V], **options: Unpack[TableOptions]
    ) -> Table[K, V]: ...
    @overload
    def table(self, name: str, *, value: Written[V], **options: Unpack[TableOptions]) -> Table[Any, V]: ...
    @overload
    def table(self, name: str, **options: Unpack[TableOptions]) -> Table[Any, Any]: ...
    def table(
        self,
        name: str,
        *,
        default: Callable[[], Any] | None = None,
        key: Any = Any,
        value: Any = None,
        partitions: int | None = None,
        ttl: Duration | None = None,
    ) -> Table[Any, Any]:
        """State by key, with the changelog `{app}-{name}-changelog`; see `Table` for who may write it.

        `default` makes the value of a missing key. The value's type is `value`, or `default` where that is
        a type (`default=float`), or plain JSON. `ttl`: an entry expires when stream time is so far past its
        last write.
        """
        self.draft.check_free(name)
        if ttl is not None and duration_ms(ttl) == 0:
            raise UsageError(f"a ttl of {ttl!r} leaves nothing", hint="drop it, or choose a longer one")
        if value is None:
            value = default if isinstance(default, type) else Any
        table: Table[Any, Any] = Table(
            name,
            key=key_serde(key),
            value=value_serde(value),
            default=default,
            partitions=partitions,
            lease=self.lease,
            ttl_ms=None if ttl is None else duration_ms(ttl),
        )
        self.draft.add_table(table)
        return table

    def table_from(
        self,
        topic: Topic[K, V] | str,
        *,
        history: Duration = 0,
        time: Callable[[V], Any] | None = None,
        on_error: OnError | None = None,
        name: str | None = None,
    ) -> TableStream[K, V]:
        """The topic as a table: the last value of each key, a null value deletes. The topic needs `key=`.

        Streams and tables with the same key can be joined with it. `history`: how long joins can look up what
        a row was.
        """
        policy = None if on_error is None else ErrorPolicy.of(on_error)
        source = self._source(topic, time, policy, None, tombstones=True)
        return source.to_table(history=history, name=name)

    def global_table(self, topic: Topic[K, V]) -> GlobalTable[K, V]:
        """The topic as a table that every worker holds whole: a small one, to be looked up by any key.

        It is read to its end before any record is processed. Streams join it with `on=`; agents read it.
        """
        if topic.app is not self:
            raise UsageError(f"the topic {topic.name} belongs to the app {topic.app.id}, not to {self.id}")
        table = GlobalTable(check_one(topic, "a global table"))
        self._globals.append(table)
        return table

    def agent(
        self,
        source: Topic[Any, Any] | Stream[Any, Any] | str | None = None,
        *,
        sink: Sinks = None,
        concurrency: int = 1,
        order: Order = "key",
        timeout: Duration | None = None,
        retry: Retry | None = None,
        on_error: OnError | None = None,
        tables: Iterable[Table[Any, Any]] = (),
        name: str | None = None,
    ) -> Declare:
        """Run a function on every record of a topic or stream; it becomes an `Agent`.

        Without a source the agent has a topic of its own, `{app}-{agent}`, with plain JSON keys and values of
        the type that the function declares. `sink`: where results go, one or several: topics, other agents,
        functions.

        `concurrency`: how many records of one partition may be in progress at once. `order="key"`: never two
        of one key, and records of one key one after the other. `order="input"`: whichever are ready first,
        results leave in the order of the input. `order="none"`: as they are ready. The latter two need one
        call per record (`async def name(value)`) that uses no table. `timeout`: how long one such call may
        take before it is an error.

        `retry`, then `on_error`, is what happens when it or a sink raises; they also judge records of
        `source` that cannot be decoded when it is a topic. `tables`: those that the function uses, where that
        is not visible in its code.
        """
        if order not in get_args(Order):
            raise UsageError(f'order is "key", "input" or "none", got {order!r}')
        check_source(source)
        if not isinstance(concurrency, int) or concurrency < 1:
            raise UsageError(f"concurrency is at least 1, got {concurrency!r}")
        policy = ErrorPolicy.given(on_error, retry)

        def declare(function: Callable[..., Any]) -> Agent[Any, Any]:
            shape = shape_of(function, Stream)
            check_shape(function, shape, concurrency, order, timeout)
            batch = function if isinstance(function, BatchFunction) else None
            leaving, functions = sorted_sinks(sink)
            check_sinks(function, shape, functions)
            origin = self._own_topic(function, shape, name) if source is None else source
            stream = origin if isinstance(origin, Stream) else self._source(origin, None, policy, None)
            node = AgentNode(
                name=self.draft.name(function.__name__, name),
                parents=(stream.node,),
                function=function if batch is None else batch.function,
                batch=batch,
                shape=shape,
                concurrency=concurrency,
                order=order,
                timeout_ms=None if timeout is None else duration_ms(timeout),
                on_error=policy,
                sinks=tuple(functions),
            )
            self.draft.add(node, uses=tables)
            for where in leaving:
                Stream[Any, Any].to(Stream(self, node), where)
            return Agent(self, node, unchanged_from(stream.node))

        return cast(Declare, declare)

    def source(
        self,
        source: connectors.Source,
        topic: Topic[Any, Any] | str,
        *,
        key: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        """Let records from outside flow into a topic: one worker at a time runs the source.

        `key`: of a value, for rows that come without one. The position is kept under `name`.
        """
        spec = topic if isinstance(topic, Topic) else self._topic_named(topic)
        name = checked_name("source", name or f"{spec.name}-inflow")
        if any(inflow.name == name for inflow in self._inflows):
            raise UsageError(f"the source name {name} is taken", hint="choose another name=")
        self._inflows.append(connectors.Inflow(name=name, app_id=self.id, source=source, topic=spec, key=key))

    def timer(
        self, interval: Duration, *, on_leader: bool = False, name: str | None = None
    ) -> Callable[[F], F]:
        """Call a function (plain or async) every `interval` of wall time while the app runs, in each worker
        process; `on_leader`: in one of them. It may read tables and send to topics.
        """
        interval_ms = duration_ms(interval)
        if interval_ms == 0:
            raise UsageError("a timer needs an interval greater than zero")
        return self._timed(Interval(interval_ms, wall=on_leader), on_leader, name)

    def crontab(
        self,
        expression: str,
        *,
        timezone: str | tzinfo = UTC,
        on_leader: bool = True,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Call a function (plain or async) at the moments of a crontab expression: "*/5 * * * *", "@daily".

        In one worker of the app, whichever leads at the moment; `on_leader=False`: in each. What comes while
        no worker runs is not made up for. See `crontab` for what happens when clocks change.
        """
        return self._timed(Crontab(expression, timezone), on_leader, name)

    # -- running ------------------------------------------------------------------------------------

    def topology(self) -> Topology:
        """What has been declared so far, checked and frozen."""
        claims = self.draft.claims()
        if not self.draft.nodes:
            raise UsageError(f"the app {self.id} declares no stream and no agent", hint="see @app.agent")
        return Topology(
            app_id=self.id,
            nodes=tuple(self.draft.nodes.values()),
            topics=self.topics,
            tables=tuple(self.draft.tables.values()),
            timers=tuple(self._timers),
            inflows=tuple(self._inflows),
            global_tables=tuple(self._globals),
            lease=self.lease,
            default_policy=self._policy,
            idle_timeout_ms=self._idle_timeout_ms,
            claims=claims,
            exactly_once=self.guarantee == "exactly_once",
        )

    @property
    def topics(self) -> tuple[TopicSpec[Any, Any], ...]:
        """The topics declared so far, without patterns."""
        return tuple(topic for topic in self._topics.values() if topic.pattern is None)

    def explain(self) -> Explanation:
        """The topology, its tasks, topics and state; `print` it, or take `.json()`."""
        from streamkit.processing.explain import Explanation

        return Explanation(self.topology())

    def test(self, *, partitions: Mapping[str, int] | None = None) -> TopologyDriver:
        """The app in memory on a virtual clock: `with app.test() as t`. `partitions`: for topics that do
        not declare theirs.
        """
        from streamkit.processing.testing import TopologyDriver

        return TopologyDriver(self, partitions=partitions or {})

    def run(self) -> None:
        """Run a worker in this process until SIGTERM or Ctrl-C: the last line of `python app.py`."""
        _worker().run(self)

    async def __aenter__(self) -> App:
        """Connect to the broker, so that any asyncio program can send to topics and ask agents."""
        self._connection = _worker().connect(self)
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        await connection.__aexit__(kind, error, trace)

    async def send(
        self,
        topic: TopicSpec[K, V],
        value: V,
        *,
        key: K | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> None:
        """`Topic.send`."""
        check_one(topic, "send()")
        if self.producer is None:
            raise RefusedError(
                f"{topic.name}.send() while the app {self.id} is not running",
                hint="wrap it in `async with app:`, or send from an agent or a timer",
            )
        data, key_data = await encoded(topic, value, key)
        await self.producer.send(
            topic.name,
            data,
            key_data,
            headers=headers,
            timestamp_ms=timestamp_ms,
            partition=partition,
        )

    # -- inside ---------------------------------------------------------------------------------------

    def sink_topic(self, topic: TopicSpec[Any, Any] | str, stream: Node) -> TopicSpec[Any, Any]:
        """The topic that a sink names; a bare name is declared with the stream's own serdes."""
        if not isinstance(topic, str):
            return check_one(topic, "a sink")
        known = self._topics.get(topic)
        if known is not None:
            return known
        if stream.key_serde in (UNDECLARED_KEY, JSON_KEY):
            return self.topic(topic, value=stream.value_serde)
        return self.topic(topic, value=stream.value_serde, key=stream.key_serde)

    def _timed(self, schedule: Schedule, on_leader: bool, name: str | None) -> Callable[[F], F]:
        def declare(function: F) -> F:
            named = name or function.__name__
            self._timers.append(Timer(name=named, schedule=schedule, function=function, on_leader=on_leader))
            return function

        return declare

    def _own_topic(self, function: Callable[..., Any], shape: str, name: str | None) -> Topic[Any, Any]:
        """The topic of an agent that is declared without one."""
        topic = f"{self.id}-{name or function.__name__}"
        return self._topics.get(topic) or self.topic(topic, key=object, value=value_type(function, shape))

    def _topic_named(self, name: str) -> Topic[Any, Any]:
        return self._topics.get(checked_topic(name)) or self.topic(name)

    def _source(
        self,
        topic: Topic[K, V] | str,
        time: Callable[..., Any] | Literal["processing"] | None,
        policy: ErrorPolicy | None,
        name: str | None,
        *,
        tombstones: bool = False,
        max_ahead: Duration | None = "1d",
    ) -> Stream[K, V]:
        spec = topic if isinstance(topic, Topic) else self._topic_named(topic)
        if spec.app is not self:
            raise UsageError(f"the topic {spec.name} belongs to the app {spec.app.id}, not to {self.id}")
        name = self.draft.name(f"{spec.name}-source", name)
        node = Source(
            name=name,
            parents=(),
            topic=spec,
            time=None if time == "processing" else time,
            by_arrival=time == "processing",
            max_ahead_ms=None if max_ahead is None else duration_ms(max_ahead),
            on_error=policy,
            tombstones=tombstones,
        )
        self.draft.add(node)
        return Stream(self, node)


def _worker() -> Any:
    """The I/O side, loaded by those who run against a broker only."""
    return importlib.import_module("streamkit.processing.worker.worker")


def checked_bootstrap(bootstrap: str | None) -> str | None:
    """The address, if it is text."""
    if bootstrap is not None and not isinstance(bootstrap, str):
        raise UsageError(f"bootstrap is HOST:PORT, several by commas, got {bootstrap!r}")
    return bootstrap


def checked_guarantee(guarantee: str) -> Guarantee:
    """The word, if it is one."""
    if guarantee not in get_args(Guarantee):
        raise UsageError(f"guarantee is {' or '.join(get_args(Guarantee))}, got {guarantee!r}")
    return cast(Guarantee, guarantee)
