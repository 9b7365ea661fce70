"""Tables that follow streams: `app.table_from(topic)`, `stream.to_table()`, and what can be made of them.

    users = app.table_from(app.topic("users", key=str, value=User))
    orders.join(users, lambda order, user: ...)               # a stream looks rows up
    users.join(addresses, lambda user, address: ...)          # a table of both, row by row
    users.changes()                                           # its changes as a stream

Unlike `app.table(...)`, which agents write, such a table has no writer but its stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from streamkit.errors import UsageError
from streamkit.processing.connectors.sinks import Sink
from streamkit.processing.copartition import check_joinable
from streamkit.processing.error_policy import ErrorPolicy, OnError, Retry
from streamkit.processing.leaving import leave
from streamkit.processing.operators.foreign_key import ForeignKeyTable, Respond, Subscribe
from streamkit.processing.operators.tables import Change, Changes, TableJoin
from streamkit.processing.state.views import How
from streamkit.processing.stream import Stream
from streamkit.processing.topology import TableNode, TopicSpec, repartition_topic

if TYPE_CHECKING:
    from streamkit.processing.app import App

K = TypeVar("K")
K2 = TypeVar("K2")
V = TypeVar("V")
W = TypeVar("W")
R = TypeVar("R")


class TableStream(Generic[K, V]):
    """A table as the stream of its changes. Immutable; several operators may read it."""

    def __init__(self, app: App, node: TableNode) -> None:
        self.app = app
        self.node = node

    @property
    def name(self) -> str:
        """The operator's name, unique in the app."""
        return self.node.name

    @overload
    def join(
        self,
        other: TableStream[K, W],
        function: Callable[[V, W], R],
        *,
        how: Literal["inner"] = "inner",
        name: str | None = None,
    ) -> TableStream[K, R]: ...
    @overload
    def join(
        self,
        other: TableStream[K, W],
        function: Callable[[V, W | None], R],
        *,
        how: Literal["left"],
        name: str | None = None,
    ) -> TableStream[K, R]: ...
    @overload
    def join(
        self,
        other: TableStream[K, W],
        function: Callable[[V | None, W | None], R],
        *,
        how: Literal["outer"],
        name: str | None = None,
    ) -> TableStream[K, R]: ...
    @overload
    def join(
        self,
        other: TableStream[K2, W],
        function: Callable[[V, W], R],
        *,
        on: Callable[[V], K2 | None],
        how: Literal["inner"] = "inner",
        name: str | None = None,
    ) -> TableStream[K, R]: ...
    @overload
    def join(
        self,
        other: TableStream[K2, W],
        function: Callable[[V, W | None], R],
        *,
        on: Callable[[V], K2 | None],
        how: Literal["left"],
        name: str | None = None,
    ) -> TableStream[K, R]: ...
    def join(
        self,
        other: TableStream[Any, Any],
        function: Callable[..., Any],
        *,
        on: Callable[[Any], Any] | None = None,
        how: How = "inner",
        name: str | None = None,
    ) -> TableStream[Any, Any]:
        """A table with `function(mine, theirs)` for each key that both have; `how="left"`: that mine has;
        `"outer"`: that one of them has. It changes with either.

        `on`: the key of their row, from mine (a foreign key, wherever that row's partition is).
        """
        if on is not None:
            return self._join_on(other, function, on, how, name)
        check_joinable(self.node, other.node)
        name = self.app.draft.name_after(self.node, "join", name)
        node = TableJoin(name=name, parents=(self.node, other.node), function=function, how=how)
        self.app.draft.add(node)
        return TableStream(self.app, node)

    def _join_on(
        self,
        other: TableStream[Any, Any],
        function: Callable[..., Any],
        on: Callable[[Any], Any],
        how: How,
        name: str | None,
    ) -> TableStream[Any, Any]:
        if how == "outer":
            raise UsageError("a join on a foreign key knows how='inner' and how='left'")
        name = self.app.draft.name_after(self.node, "join", name)
        subscribe = Subscribe(
            name=f"{name}-subscribe",
            parents=(self.node,),
            topic=repartition_topic(self.app.id, f"{name}-subscribe"),
            as_many_as=other.node,
            key=other.node.key_serde,
            on=on,
        )
        respond = Respond(
            name=f"{name}-respond",
            parents=(subscribe, other.node),
            topic=repartition_topic(self.app.id, f"{name}-respond"),
            as_many_as=self.node,
            key=self.node.key_serde,
            function=function,
            how=how,
            left=self.node,
        )
        table = ForeignKeyTable(name=name, parents=(respond,))
        for node in (subscribe, respond, table):
            self.app.draft.add(node)
        return TableStream(self.app, table)

    def changes(self, *, name: str | None = None) -> Stream[K, Change[V]]:
        """What happens to the table: `Change(new, old)` for each row that comes, changes or goes."""
        node = Changes(name=self.app.draft.name_after(self.node, "changes", name), parents=(self.node,))
        self.app.draft.add(node)
        return Stream(self.app, node)

    def to(
        self,
        target: TopicSpec[Any, V] | str | Sink,
        *,
        retry: Retry | None = None,
        on_error: OnError | None = None,
        name: str | None = None,
    ) -> None:
        """Write each new row to a topic under its key, and a tombstone for each that goes; or to an
        `sk.Sink`, which gets None for a row that goes.
        """
        name = self.app.draft.name_after(self.node, "to", name)
        leave(self.app, self.node, target, name=name, policy=ErrorPolicy.given(on_error, retry))

    def __repr__(self) -> str:
        return f"TableStream({self.node.name!r})"
