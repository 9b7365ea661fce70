"""How tables are read: by key now, or by key as of a time. None stands for "no row"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

How = Literal["inner", "left", "outer"]


class TableView(Protocol):
    def get(self, key: Any) -> Any:
        """The row, or None."""
        ...

    def as_of(self, key: Any, time_ms: int) -> Any:
        """The latest row at or before this time, where the table keeps history; else the row."""
        ...


class JoinedView:
    """Two tables as one, computed when it is read."""

    def __init__(self, left: TableView, right: TableView, join: Callable[[Any, Any], Any], how: How) -> None:
        self._left = left
        self._right = right
        self._join = joined(join, how)

    def get(self, key: Any) -> Any:
        return self._join(self._left.get(key), self._right.get(key))

    def as_of(self, key: Any, time_ms: int) -> Any:
        return self._join(self._left.as_of(key, time_ms), self._right.as_of(key, time_ms))


def joined(function: Callable[[Any, Any], Any], how: How) -> Callable[[Any, Any], Any]:
    """`function` of two rows, or None where the join has no row."""

    def inner(left: Any, right: Any) -> Any:
        return None if left is None or right is None else function(left, right)

    def left_outer(left: Any, right: Any) -> Any:
        return None if left is None else function(left, right)

    def outer(left: Any, right: Any) -> Any:
        return None if left is None and right is None else function(left, right)

    return {"inner": inner, "left": left_outer, "outer": outer}[how]
