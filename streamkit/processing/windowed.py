"""`stream.window(...)`: a stream cut by event time, which only an aggregation makes a stream again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from streamkit.errors import UsageError
from streamkit.processing.aggregations import Aggregation
from streamkit.processing.copartition import check_keyed
from streamkit.processing.operators.window import Window
from streamkit.processing.results import WindowResults
from streamkit.processing.stream import Stream
from streamkit.processing.windows import Emit, Every, WindowKind

K = TypeVar("K")
V = TypeVar("V")


class WindowedStream(Generic[K, V]):
    """A keyed stream cut by time, on its way to an aggregation."""

    def __init__(self, stream: Stream[K, V], window: WindowKind) -> None:
        check_keyed(stream.node, "a window")
        self._stream = stream
        self._window = window

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            raise AttributeError(
                f"a window has no {name!r} before aggregate(n=sk.Count(), total=sk.Sum('amount'), ...)",
                name=name,
            )

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
            name=stream.app.draft.name_after(stream.node, "window", name),
            parents=(stream.node,),
            window=self._window,
            aggregations=tuple(results.items()),
            emit=emit,
        )
        stream.app.draft.add(node)
        return WindowResults(stream.app, node)
