"""Streams: the declarative surface over the graph.

Every method makes one operator and returns the stream of its results; nothing runs here. No operator
changes a record's key except `group_by`, so what is partitioned by key stays so. Functions take the value,
or the value and a `Record` (key, headers, event time, topic, partition, offset).

`Stream[K, V]` carries the types of keys and values. As the parameter of an agent, where only the values are
iterated, `Stream[V]` will do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from streamkit.errors import UsageError
from streamkit.processing.connectors import sinks as connectors
from streamkit.processing.copartition import check_keyed
from streamkit.processing.error_policy import ErrorPolicy, OnError, Retry
from streamkit.processing.leaving import leave
from streamkit.processing.operators.branch import Arm, Branch
from streamkit.processing.operators.deduplicate import Deduplicate
from streamkit.processing.operators.filter import Filter
from streamkit.processing.operators.flat_map import FlatMap
from streamkit.processing.operators.function import returned_type
from streamkit.processing.operators.group_by import GroupBy
from streamkit.processing.operators.map import Map
from streamkit.processing.operators.merge import Merge
from streamkit.processing.operators.peek import Peek
from streamkit.processing.operators.process import Process
from streamkit.processing.operators.repartition import Repartition
from streamkit.processing.operators.tables import ToTable
from streamkit.processing.record import Record
from streamkit.processing.serde import Written, key_serde, value_serde
from streamkit.processing.state.processes import Context
from streamkit.processing.state.views import How
from streamkit.processing.topology import Node, TopicSpec, repartition_topic
from streamkit.processing.units import Duration, duration_ms
from streamkit.processing.windows import WindowKind

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar

    from streamkit.processing.app import App
    from streamkit.processing.global_table import GlobalTable
    from streamkit.processing.results import JoinResults
    from streamkit.processing.table_stream import TableStream
    from streamkit.processing.windowed import WindowedStream

    K = TypeVar("K")
    V = DefaultTypeVar("V", default=K)
else:
    K = TypeVar("K")
    V = TypeVar("V")

R = TypeVar("R")
W = TypeVar("W")
S = TypeVar("S")
Within = Duration | tuple[Duration, Duration]
K2 = TypeVar("K2")


class Stream(Generic[K, V]):
    """An operator's output. Immutable; several operators may read it."""

    def __init__(self, app: App, node: Node) -> None:
        self.app = app
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
        self.app.draft.add(branch)
        return tuple(
            self._then(Arm(name=f"{branch.name}-{number}", parents=(branch,), port=str(number)))
            for number in range(len(predicates))
        )

    def merge(self, *others: Stream[K, V], name: str | None = None) -> Stream[K, V]:
        """The records of this stream and the others as one stream."""
        if any(other.app is not self.app for other in others):
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
        key: Written[K2] | None = None,
        value: Written[V] | None = None,
        partitions: int | None = None,
        name: str | None = None,
    ) -> Stream[K2, V]: ...
    @overload
    def group_by(
        self,
        function: Callable[[V, Record[K]], K2 | None],
        *,
        key: Written[K2] | None = None,
        value: Written[V] | None = None,
        partitions: int | None = None,
        name: str | None = None,
    ) -> Stream[K2, V]: ...
    def group_by(
        self,
        function: Callable[..., K2 | None],
        *,
        key: Written[K2] | None = None,
        value: Written[V] | None = None,
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
            topic=repartition_topic(self.app.id, name),
            key=key_serde(key if key is not None else returned_type(function)),
            value=self.node.value_serde if value is None else value_serde(value),
            declared_partitions=partitions,
        )
        return self._then(node)

    def repartition(
        self,
        partitions: int | None = None,
        *,
        value: Written[V] | None = None,
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
            topic=repartition_topic(self.app.id, name),
            key=self.node.key_serde,
            value=self.node.value_serde if value is None else value_serde(value),
            declared_partitions=partitions,
        )
        return self._then(node)

    def window(self, window: WindowKind) -> WindowedStream[K, V]:
        """Group the records of each key by event time; `aggregate` comes next.

        `sk.tumbling`, `sk.hopping`, `sk.sliding`, `sk.session`, `sk.count_window`.
        """
        from streamkit.processing.windowed import WindowedStream

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
        state: Written[S] = dict,  # type: ignore[assignment]
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
        from streamkit.processing.joins import join

        return join(self, other, function, on=on, within=within, grace=grace, how=how, name=name)

    def to_table(self, *, history: Duration = 0, name: str | None = None) -> TableStream[K, V]:
        """The last value of each key as a table; None deletes. With `history`, a join finds the row that was
        valid at the time of its record, for rows that are not older than that.
        """
        from streamkit.processing.table_stream import TableStream

        check_keyed(self.node, "a table")
        node = ToTable(name=self._name("table", name), parents=(self.node,), history_ms=duration_ms(history))
        self.app.draft.add(node)
        return TableStream(self.app, node)

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
        leave(self.app, self.node, target, name=self._name("to", name), policy=policy)

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
        self.app.draft.add(node)
        return Stream(self.app, node)

    def _name(self, kind: str, given: str | None) -> str:
        return self.app.draft.name_after(self.node, kind, given)

    def __repr__(self) -> str:
        return f"Stream({self.node.name!r})"


def _all(value: object) -> str:
    return "all"
