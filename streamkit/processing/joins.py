"""`stream.join(other, ...)`: what the other is decides which operator it makes.

a stream         pairs within a distance of event time      `StreamJoin`
a table          the row of the record's key                `Lookup`
a global table   the row that a function of mine names      `GlobalLookup`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit.errors import UsageError
from streamkit.processing.copartition import check_joinable
from streamkit.processing.global_table import GlobalLookup, GlobalTable
from streamkit.processing.operators.stream_join import StreamJoin
from streamkit.processing.operators.tables import Lookup
from streamkit.processing.results import JoinResults
from streamkit.processing.state.views import How
from streamkit.processing.stream import Stream, Within
from streamkit.processing.table_stream import TableStream
from streamkit.processing.units import Duration, duration_ms


def join(
    mine: Stream[Any, Any],
    other: Stream[Any, Any] | TableStream[Any, Any] | GlobalTable[Any, Any],
    function: Callable[..., Any],
    *,
    on: Callable[[Any], Any] | None,
    within: Within | None,
    grace: Duration,
    how: How,
    name: str | None,
) -> Stream[Any, Any]:
    """`Stream.join`, which says what the words mean. Refuses those that do not go together."""
    if isinstance(other, GlobalTable):
        if on is None or how == "outer":
            raise UsageError("a join with a global table needs on=, and knows how='inner' and how='left'")
        return _with_global_table(mine, other, function, on=on, how=how, name=name)
    if not isinstance(other, Stream | TableStream):
        raise UsageError(
            f"join() takes a stream or a table that follows a topic, got {other!r}",
            hint="app.stream(topic), app.table_from(topic), app.global_table(topic), stream.to_table()",
        )
    if on is not None:
        raise UsageError("on= is for global tables", hint="group_by what the other is keyed by")
    check_joinable(mine.node, other.node)
    if isinstance(other, TableStream):
        if within is not None or grace or how == "outer":
            raise UsageError("a join with a table knows how='inner' and how='left', no within= or grace=")
        return _with_table(mine, other, function, how=how, name=name)
    if within is None:
        raise UsageError("a join of two streams needs within=: how far apart their times may be")
    return _with_stream(mine, other, function, within=within, grace=grace, how=how, name=name)


def _with_stream(
    mine: Stream[Any, Any],
    other: Stream[Any, Any],
    function: Callable[..., Any],
    *,
    within: Within,
    grace: Duration,
    how: How,
    name: str | None,
) -> Stream[Any, Any]:
    before, after = within if isinstance(within, tuple) else (within, within)
    node = StreamJoin(
        name=mine.app.draft.name_after(mine.node, "join", name),
        parents=(mine.node, other.node),
        function=function,
        how=how,
        before_ms=duration_ms(before),
        after_ms=duration_ms(after),
        grace_ms=duration_ms(grace),
    )
    mine.app.draft.add(node)
    return JoinResults(mine.app, node)


def _with_table(
    mine: Stream[Any, Any],
    table: TableStream[Any, Any],
    function: Callable[..., Any],
    *,
    how: How,
    name: str | None,
) -> Stream[Any, Any]:
    node = Lookup(
        name=mine.app.draft.name_after(mine.node, "join", name),
        parents=(mine.node, table.node),
        function=function,
        how=how,
    )
    mine.app.draft.add(node)
    return Stream(mine.app, node)


def _with_global_table(
    mine: Stream[Any, Any],
    table: GlobalTable[Any, Any],
    function: Callable[..., Any],
    *,
    on: Callable[[Any], Any],
    how: How,
    name: str | None,
) -> Stream[Any, Any]:
    node = GlobalLookup(
        name=mine.app.draft.name_after(mine.node, "join", name),
        parents=(mine.node,),
        table=table,
        on=on,
        function=function,
        how=how,
    )
    mine.app.draft.add(node)
    return Stream(mine.app, node)
