"""Results that also say what came too late for them: those of windows, and of joins of streams.

    revenue = orders.window(sk.tumbling("1m")).aggregate(total=sk.Sum("amount"))
    revenue.late.to("orders.late")

What came too late leaves the operator by a port of its own. Asking for it makes the operator that takes it,
once.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from streamkit.processing.operators.stream_join import LateRight
from streamkit.processing.operators.window import Late
from streamkit.processing.stream import Stream

K = TypeVar("K")
V = TypeVar("V")
L = TypeVar("L")
R = TypeVar("R")
W = TypeVar("W")


class WindowResults(Stream[K, dict[str, Any]], Generic[K, V]):
    """The results of a window, and what came too late for it."""

    @property
    def late(self) -> Stream[K, V]:
        """Records that were too late for their window, unchanged."""
        return _port(self, "late", Late)


class JoinResults(Stream[K, R], Generic[K, L, W, R]):
    """The results of a join of two streams, and what came too late for it."""

    @property
    def late(self) -> Stream[K, L]:
        """Records of the left stream that came too late."""
        return _port(self, "late", Late)

    @property
    def late_right(self) -> Stream[K, W]:
        """Records of the right stream that came too late."""
        return _port(self, "late-right", LateRight)


def _port(results: Stream[Any, Any], port: str, kind: type[Late] | type[LateRight]) -> Stream[Any, Any]:
    draft, name = results.app.draft, f"{results.node.name}-{port}"
    if name not in draft.nodes:
        draft.add(kind(name=name, parents=(results.node,), port=port))
    return Stream(results.app, draft.nodes[name])
