"""Streams: the declarative surface over the graph.

Every method makes one operator and returns the stream of its results; nothing runs here. No operator
changes a record's key except `group_by`, so what is partitioned by key stays so. Functions take the value,
or the value and a `Record` (key, headers, event time, topic, partition, offset).

`Stream[K, V]` carries the types of keys and values. As the parameter of an agent, where only the values are
iterated, `Stream[V]` will do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from streamkit.errors import UsageError
from streamkit.processing.aggregations import Aggregation
from streamkit.processing.connectors import sinks as connectors
from streamkit.processing.error_policy import ErrorPolicy, OnError, Retry
from streamkit.processing.global_table import GlobalLookup, GlobalTable
from streamkit.processing.operators.branch import Arm, Branch
from streamkit.processing.operators.deduplicate import Deduplicate
from streamkit.processing.operators.filter import Filter
from streamkit.processing.operators.flat_map import FlatMap
from streamkit.processing.operators.function import returned_type
from streamkit.processing.operators.group_by import GroupBy
from streamkit.processing.operators.map import Map
from streamkit.processing.operators.merge import Merge
from streamkit.processing.operators.outflow import outflow
from streamkit.processing.operators.peek import Peek
from streamkit.processing.operators.process import Process
from streamkit.processing.operators.repartition import Repartition
from streamkit.processing.operators.sink import Sink
from streamkit.processing.operators.stream_join import LateRight, StreamJoin
from streamkit.processing.operators.tables import Lookup, ToTable
from streamkit.processing.operators.window import Late, Window
from streamkit.processing.patterns import comes_by_pattern
from streamkit.processing.record import Record
from streamkit.processing.serde import Serde, key_serde, value_serde
from streamkit.processing.state.processes import Context
from streamkit.processing.state.views import How
from streamkit.processing.topology import Node, TopicSpec, repartition_topic
from streamkit.processing.units import Duration, duration_ms
from streamkit.processing.windows import Emit, Every, WindowKind

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar

    from streamkit.processing.app import App
    from streamkit.processing.table_stream import TableStream

    K = TypeVar("K")
    V = DefaultTypeVar("V", default=K)
else:
    K = TypeVar("K")
    V = TypeVar("V")

R = TypeVar("R")
W = TypeVar("W")
L = TypeVar("L")
S = TypeVar("S")
Within = Duration | tuple[Duration, Duration]
K2 = TypeVar("K2")


class Stream(Generic[K, V]):
    """An operator's output. Immutable; several operators may read it."""

    def __init__(self, app: App, node: Node) -> None:
        self._app = app
        self.node = node

    if not TYPE_CHECKING:

        def __class_getitem__(cls, types):
            return GenericAlias(cls, types if isinstance(types, tuple) else (types, types))

    @property
    def name(self) -> str:
        """The operator's name, unique in the app."""
        return self.node.name

    # -- one record at a time -----------------------------------------------------------------------

    @overload
    def map(self, function: Callable[[V], R], *, name: str | None = None) -> Stream[K, R]: ...
    @overload
    def map(self, function: Callable[[V, Record[K]], R], *, name: str | None = None) -> Stream[K, R]: ...
    def map(self, function: Callable[..., R], *, name: str | None = None) -> Stream[K, R]:
        """Replace each value; the key stays."""
        return self._then(Map(name=self._name("map", name), parents=(self.node,), function=function))

    @overload
    def map_values(self, function: Callable[[V], R], *, name: str | None = None) -> Stream[K, R]: ...
    @overload
    def map_values(
        self, function: Callable[[V, Record[K]], R], *, name: str | None = None
    ) -> Stream[K, R]: ...
    def map_values(self, function: Callable[..., R], *, name: str | None = None) -> Stream[K, R]:
        """`map` under the name it has elsewhere: here keys change in `group_by` only."""
        return self.map(function, name=name)

    @overload
    def flat_map(self, function: Callable[[V], Iterable[R]], *, name: str | None = None) -> Stream[K, R]: ...
    @overload
    def flat_map(
        self, function: Callable[[V, Record[K]], Iterable[R]], *, name: str | None = None
    ) -> Stream[K, R]: ...
    def flat_map(self, function: Callable[..., Iterable[R]], *, name: str | None = None) -> Stream[K, R]:
        """Replace each value by any number of values."""
        return self._then(FlatMap(name=self._name("flat-map", name), parents=(self.node,), function=function))

    @overload
    def filter(self, function: Callable[[V], object], *, name: str | None = None) -> Stream[K, V]: ...
    @overload
    def filter(
        self, function: Callable[[V, Record[K]], object], *, name: str | None = None
    ) -> Stream[K, V]: ...
    def filter(self, function: Callable[..., object], *, name: str | None = None) -> Stream[K, V]:
        """Keep the values for which the function is true."""
        return self._then(Filter(name=self._name("filter", name), parents=(self.node,), function=function))

    @overload
    def peek(self, function: Callable[[V], object], *, name: str | None = None) -> Stream[K, V]: ...
    @overload
    def peek(
        self, function: Callable[[V, Record[K]], object], *, name: str | None = None
    ) -> Stream[K, V]: ...
    def peek(self, function: Callable[..., object], *, name: str | None = None) -> Stream[K, V]:
        """Call the function with each value and pass the value on."""
        return self._then(Peek(name=self._name("peek", name), parents=(self.node,), function=function))

    def branch(self, *predicates: Callable[[V], object], name: str | None = None) -> tuple[Stream[K, V], ...]:
        """One stream for each predicate; a value goes to the first that is true, or nowhere."""
        if not predicates:
            raise UsageError("branch() needs at least one function", hint="each is one output stream")
        branch = Branch(name=self._name("branch", name), parents=(self.node,), predicates=predicates)
        self._app.add(branch)
        return tuple(
            self._then(Arm(name=f"{branch.name}-{number}", parents=(branch,), port=str(number)))
            for number in range(len(predicates))
        )

    def merge(self, *others: Stream[K, V], name: str | None = None) -> Stream[K, V]:
        """The records of this stream and the others as one stream."""
        if any(other._app is not self._app for other in others):
            raise UsageError("merge() of streams that belong to different apps")
        parents = (self.node, *(other.node for other in others))
        if len({node.key_serde.name for node in parents}) > 1:
            raise UsageError(
                f"merge() of streams with different keys: {', '.join(node.name for node in parents)}",
                hint="declare the same key= for their topics, or group_by before the merge",
            )
        return self._then(Merge(name=self._name("merge", name), parents=parents))

    # -- keys and time ------------------------------------------------------------------------------

    @overload
    def group_by(
        self,
        function: Callable[[V], K2 | None],
        *,
        key: type[K2] | Serde[K2] | None = None,
        value: type[V] | Serde[V] | None = None,
        partitions: int | None = None,
        name: str | None = None,
    ) -> Stream[K2, V]: ...
    @overload
    def group_by(
        self,
        function: Callable[[V, Record[K]], K2 | None],
        *,
        key: type[K2] | Serde[K2] | None = None,
        value: type[V] | Serde[V] | None = None,
        partitions: int | None = None,
        name: str | None = None,
    ) -> Stream[K2, V]: ...
    def group_by(
        self,
        function: Callable[..., K2 | None],
        *,
        key: type[K2] | Serde[K2] | None = None,
        value: type[V] | Serde[V] | None = None,
        partitions: int | None = None,
        name: str | None = None,
    ) -> Stream[K2, V]:
        """Partition the stream by a new key, through the topic `{app}-{name}-repartition`.

        A None key drops the record (counted). `key` and `value` say how both are written when the types of
        the functions before do not; `partitions` defaults to those of the input.
        """
        name = self._name("group-by", name)
        node = GroupBy(
            name=name,
            parents=(self.node,),
            function=function,
            topic=repartition_topic(self._app.id, name),
            key=key_serde(key if key is not None else returned_type(function)),
            value=self.node.value_serde if value is None else value_serde(value),
            declared_partitions=partitions,
        )
        return self._then(node)

    def repartition(
        self,
        partitions: int | None = None,
        *,
        value: type[V] | Serde[V] | None = None,
        name: str | None = None,
    ) -> Stream[K, V]:
        """Send the stream through the topic `{app}-{name}-repartition`, where each key has its partition;
        keys, values, times and headers stay.

        `partitions`: how many; without it, as many as what it meets there has, or its input. `value`: as in
        `group_by`.
        """
        if partitions is not None and partitions < 1:
            raise UsageError(f"repartition() to {partitions} partitions")
        name = self._name("repartition", name)
        node = Repartition(
            name=name,
            parents=(self.node,),
            topic=repartition_topic(self._app.id, name),
            key=self.node.key_serde,
            value=self.node.value_serde if value is None else value_serde(value),
            declared_partitions=partitions,
        )
        return self._then(node)

    def window(self, window: WindowKind) -> WindowedStream[K, V]:
        """Group the records of each key by event time; `aggregate` comes next.

        `sk.tumbling`, `sk.hopping`, `sk.sliding`, `sk.session`, `sk.count_window`.
        """
        check_keyed(self.node, "a window")
        return WindowedStream(self, window)

    def window_all(self, window: WindowKind, *, name: str | None = None) -> WindowedStream[str, V]:
        """Windows over the whole stream, through a repartition topic of one partition; the key is "all"."""
        whole: Stream[str, V] = self.group_by(
            _all, key=str, value=self.node.value_serde, partitions=1, name=self._name("all", name)
        )
        return whole.window(window)

    # -- state --------------------------------------------------------------------------------------

    def process(
        self,
        function: Callable[[V, Context[K, S]], Iterable[R] | None],
        *,
        state: type[S] | Serde[S] = dict,  # type: ignore[assignment]
        on_timer: Callable[[Context[K, S]], Iterable[R] | None] | None = None,
        name: str | None = None,
    ) -> Stream[K, R]:
        """Any code over a key's records: `function(value, context)` returns what leaves, or None.

        `context.state` is the key's, None at first, written as the type `state`; `context.set_timer` has
        `on_timer(context)` called when event time or wall time has come so far.
        """
        check_keyed(self.node, "process()")
        node = Process(
            name=self._name("process", name),
            parents=(self.node,),
            function=function,
            state=value_serde(state),
            on_timer=on_timer,
        )
        return self._then(node)

    def deduplicate(
        self, within: Duration, *, by: Callable[[V], object] | None = None, name: str | None = None
    ) -> Stream[K, V]:
        """Drop records whose key and `by(value)` were let through less than `within` of event time away.

        What comes later than `within` behind the watermark is not recognised any more.
        """
        check_keyed(self.node, "deduplicate()")
        node = Deduplicate(
            name=self._name("deduplicate", name),
            parents=(self.node,),
            within_ms=duration_ms(within),
            by=by,
        )
        return self._then(node)

    # -- joins --------------------------------------------------------------------------------------

    @overload
    def join(
        self,
        other: Stream[K, W],
        function: Callable[[V, W], R],
        *,
        within: Within,
        grace: Duration = 0,
        how: Literal["inner"] = "inner",
        name: str | None = None,
    ) -> JoinResults[K, V, W, R]: ...
    @overload
    def join(
        self,
        other: Stream[K, W],
        function: Callable[[V, W | None], R],
        *,
        within: Within,
        grace: Duration = 0,
        how: Literal["left"],
        name: str | None = None,
    ) -> JoinResults[K, V, W, R]: ...
    @overload
    def join(
        self,
        other: Stream[K, W],
        function: Callable[[V | None, W | None], R],
        *,
        within: Within,
        grace: Duration = 0,
        how: Literal["outer"],
        name: str | None = None,
    ) -> JoinResults[K, V, W, R]: ...
    @overload
    def join(
        self,
        other: TableStream[K, W],
        function: Callable[[V, W], R],
        *,
        how: Literal["inner"] = "inner",
        name: str | None = None,
    ) -> Stream[K, R]: ...
    @overload
    def join(
        self,
        other: TableStream[K, W],
        function: Callable[[V, W | None], R],
        *,
        how: Literal["left"],
        name: str | None = None,
    ) -> Stream[K, R]: ...
    @overload
    def join(
        self,
        other: GlobalTable[K2, W],
        function: Callable[[V, W], R],
        *,
        on: Callable[[V], K2 | None],
        how: Literal["inner"] = "inner",
        name: str | None = None,
    ) -> Stream[K, R]: ...
    @overload
    def join(
        self,
        other: GlobalTable[K2, W],
        function: Callable[[V, W | None], R],
        *,
        on: Callable[[V], K2 | None],
        how: Literal["left"],
        name: str | None = None,
    ) -> Stream[K, R]: ...
    def join(
        self,
        other: Stream[K, Any] | TableStream[K, Any] | GlobalTable[Any, Any],
        function: Callable[..., Any],
        *,
        on: Callable[[Any], Any] | None = None,
        within: Within | None = None,
        grace: Duration = 0,
        how: How = "inner",
        name: str | None = None,
    ) -> Stream[Any, Any]:
        """Bring records of equal keys together: `function(mine, theirs)` for each pair.

        With a stream: pairs whose event times are at most `within` apart; `within=(before, after)` says how
        far the other may lie before and after mine. A record may be late by `grace` beyond that. `how="left"`
        tells mine alone, with None, when nothing can meet it any more; `"outer"` also the other's.

        With a table: each record with the row of its key, as of the record's time where the table keeps
        history. `how="left"` keeps records without a row. Changes of the table cause nothing.

        With a global table: each record with the row that `on(mine)` names; this stream needs no key.
        """
        from streamkit.processing.table_stream import TableStream

        if isinstance(other, GlobalTable):
            return self._join_global(other, function, on, how, name)
        if on is not None:
            raise UsageError("on= is for global tables", hint="group_by what the other is keyed by")
        check_joinable(self.node, other.node)
        if isinstance(other, TableStream):
            if within is not None or grace or how == "outer":
                raise UsageError("a join with a table knows how='inner' and how='left', no within= or grace=")
            kind, parents = self._name("join", name), (self.node, other.node)
            return self._then(Lookup(name=kind, parents=parents, function=function, how=how))
        if within is None:
            raise UsageError("a join of two streams needs within=: how far apart their times may be")
        before, after = within if isinstance(within, tuple) else (within, within)
        node = StreamJoin(
            name=self._name("join", name),
            parents=(self.node, other.node),
            function=function,
            how=how,
            before_ms=duration_ms(before),
            after_ms=duration_ms(after),
            grace_ms=duration_ms(grace),
        )
        self._app.add(node)
        return JoinResults(self._app, node)

    def _join_global(
        self,
        other: GlobalTable[Any, Any],
        function: Callable[..., Any],
        on: Callable[[Any], Any] | None,
        how: How,
        name: str | None,
    ) -> Stream[Any, Any]:
        if on is None or how == "outer":
            raise UsageError("a join with a global table needs on=, and knows how='inner' and how='left'")
        node = GlobalLookup(
            name=self._name("join", name),
            parents=(self.node,),
            table=other,
            on=on,
            function=function,
            how=how,
        )
        return self._then(node)

    def to_table(self, *, history: Duration = 0, name: str | None = None) -> TableStream[K, V]:
        """The last value of each key as a table; None deletes. With `history`, a join finds the row that was
        valid at the time of its record, for rows that are not older than that.
        """
        from streamkit.processing.table_stream import TableStream

        check_keyed(self.node, "a table")
        node = ToTable(name=self._name("table", name), parents=(self.node,), history_ms=duration_ms(history))
        self._app.add(node)
        return TableStream(self._app, node)

    # -- the ends -----------------------------------------------------------------------------------

    def to(
        self,
        target: TopicSpec[Any, V] | str | connectors.Sink,
        *,
        retry: Retry | None = None,
        on_error: OnError | None = None,
        name: str | None = None,
    ) -> None:
        """Write every value to a topic, keeping key, event time and headers; None writes a tombstone.

        Or to an `sk.Sink`, in batches: nothing past what it has not written is committed. `retry`, then
        `on_error`, is what becomes of rows that it cannot write; the stream's policy where neither is given.
        """
        policy = ErrorPolicy.given(on_error, retry)
        leave(self._app, self.node, target, name=self._name("to", name), policy=policy)

    def __aiter__(self) -> AsyncIterator[V]:
        """In an agent only: the values of the task's partition, in order."""
        raise UsageError(
            f"{self.node.name} is a declaration; iterate over the stream that an @app.agent receives"
        )

    def records(self) -> AsyncIterator[tuple[V, Record[K]]]:
        """In an agent only: the values, each with its `Record`."""
        return cast("AsyncIterator[tuple[V, Record[K]]]", self.__aiter__())

    # -- inside -------------------------------------------------------------------------------------

    def _then(self, node: Node) -> Stream[Any, Any]:
        self._app.add(node)
        return Stream(self._app, node)

    def _name(self, kind: str, given: str | None) -> str:
        return self._app.operator_name(self.node, kind, given)

    def __repr__(self) -> str:
        return f"Stream({self.node.name!r})"


def leave(
    app: App,
    node: Node,
    target: TopicSpec[Any, Any] | str | connectors.Sink,
    *,
    name: str,
    policy: ErrorPolicy | None,
) -> None:
    """Where values leave the graph."""
    if isinstance(target, connectors.Sink):
        app.add(outflow(node, target, name, policy))
    elif policy is None:
        app.add(Sink(name=name, parents=(node,), topic=app.sink_topic(target, node)))
    else:
        raise UsageError("retry= and on_error= of to() are for sinks; a topic takes what can be encoded")


def check_keyed(node: Node, what: str) -> None:
    """State by key is where the key's partition is."""
    if not node.keyed:
        raise UsageError(
            f"{what} needs a stream that is partitioned by its key; {node.name} is not",
            hint="put .group_by(...) before it, or declare the topic's key="
            if not comes_by_pattern(node)
            else "put .repartition(...) or .group_by(...) before it: topics of a pattern have partitions "
            "of their own",
        )


def check_joinable(left: Node, right: Node) -> None:
    """Equal keys must be equal bytes, so that they are in equal partitions."""
    check_keyed(left, "a join")
    check_keyed(right, "a join")
    if left.key_serde.name != right.key_serde.name:
        raise UsageError(
            f"a join of {left.name} (key {left.key_serde.name}) and "
            f"{right.name} (key {right.key_serde.name}): keys written differently "
            "are in different partitions",
            hint="declare the same key= for their topics, or group_by one of them",
        )


class JoinResults(Stream[K, R], Generic[K, L, W, R]):
    """The results of a join of two streams, and what came too late for it."""

    @property
    def late(self) -> Stream[K, L]:
        """Records of the left stream that came too late."""
        return self._port("late", Late)

    @property
    def late_right(self) -> Stream[K, W]:
        """Records of the right stream that came too late."""
        return self._port("late-right", LateRight)

    def _port(self, port: str, kind: type[Late] | type[LateRight]) -> Stream[Any, Any]:
        known = self._app.node_named(f"{self.node.name}-{port}")
        if known is not None:
            return Stream(self._app, known)
        return self._then(kind(name=f"{self.node.name}-{port}", parents=(self.node,), port=port))


class WindowedStream(Generic[K, V]):
    """A keyed stream cut by time, on its way to an aggregation."""

    def __init__(self, stream: Stream[K, V], window: WindowKind) -> None:
        self._stream = stream
        self._window = window

    def aggregate(
        self, *, emit: Emit = "on_close", name: str | None = None, **results: Aggregation
    ) -> WindowResults[K, V]:
        """One dict for each key and window: `key`, `start_ms`, `end_ms`, and the named aggregations.

        `emit="on_close"`: once, when the window can change no more. `emit="on_update"`: at each record, the
        result so far; the last one is the window's, and nothing more is said when it closes.
        `emit=sk.every("5s")`: what changed, when event time passes a multiple of five seconds, and the result
        on close.
        """
        if not results:
            raise UsageError("aggregate() without an aggregation", hint="for example aggregate(n=sk.Count())")
        reserved = {"key", "start_ms", "end_ms", "retracted"} & results.keys()
        if reserved:
            raise UsageError(f"every window result already has {', '.join(sorted(reserved))}")
        if emit not in ("on_close", "on_update") and not isinstance(emit, Every):
            raise UsageError(f'emit is "on_close", "on_update" or sk.every(...), got {emit!r}')
        stream = self._stream
        node = Window(
            name=stream._name("window", name),
            parents=(stream.node,),
            window=self._window,
            aggregations=tuple(results.items()),
            emit=emit,
        )
        stream._app.add(node)
        return WindowResults(stream._app, node)


def _all(value: object) -> str:
    return "all"


class WindowResults(Stream[K, dict[str, Any]], Generic[K, V]):
    """The results of a window, and what came too late for it."""

    @property
    def late(self) -> Stream[K, V]:
        """Records that were too late for their window, unchanged."""
        known = self._app.node_named(f"{self.node.name}-late")
        if known is not None:
            return Stream(self._app, known)
        return self._then(Late(name=f"{self.node.name}-late", parents=(self.node,), port="late"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Topic(TopicSpec[K, V]):
    """A topic of an app: a place to read from, write to, and send to."""

    app: App = field(repr=False)

    def stream(
        self, *, time: Callable[[V], Any] | None = None, on_error: OnError | None = None
    ) -> Stream[K, V]:
        """`app.stream(topic, …)`."""
        return self.app.stream(self, time=time, on_error=on_error)

    def by(self, function: Callable[[V], K2 | None], *, key: type[K2] | None = None) -> Stream[K2, V]:
        """The topic's records partitioned by another key: a stream with a `group_by`."""
        return self.app.stream(self).group_by(function, key=key)

    async def send(
        self,
        value: V,
        *,
        key: K | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> None:
        """Produce one record; returns when the broker has acknowledged it. The app must be running."""
        await self.app.send(
            self, value, key=key, headers=headers, timestamp_ms=timestamp_ms, partition=partition
        )
