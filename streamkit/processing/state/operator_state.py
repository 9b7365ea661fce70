"""What a task asks of the state of one operator: windows, joins, tables, functions with state.

Between commits the operator keeps decoded values; at a commit the task takes its `changes` as bytes, and
after the commit writes them to `store`. Event time comes in through `advance`, which gives what time alone
makes: windows that close, outer joins that found no partner, timers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from streamkit.processing.state.store import Change, Store

Computed = tuple[Any, Any, int, int]  # value, key, event time, stream time: enters the graph by `push`


class OperatorState(Protocol):
    store: Store

    def load(self, watermark_ms: int) -> None:
        """Take up what the store holds, after a restore; the operator's watermark stood here."""
        ...

    def advance(self, watermark_ms: int, now_ms: int) -> Iterable[Computed | None]:
        """Event time and wall time have come so far. The watermark never falls.

        None among the results: much is done, the task may pause here and even commit. What came before is out
        of the state then; the rest is in it, and comes when a state loaded from that commit advances.
        """
        ...

    def due_ms(self) -> int | None:
        """Wall time at which `advance` has something to do even if event time stands still."""
        ...

    def changes(self) -> list[Change]:
        """What differs from the store since the last call, as (key, value or None) pairs."""
        ...

    def written(self) -> None:
        """The last `changes` are in the store."""
        ...
