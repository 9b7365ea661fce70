"""What a worker needs of an output: records out, and the certainty that all of them arrived.

A commit calls `flush` and learns that everything sent before it is acknowledged. Records sent *while* a
flush waits belong to the next commit: the sink holds them back, so that processing never stops for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.source import Position


class Sink(Protocol):
    def send(self, topic: str, records: Sequence[SinkRecord]) -> None:
        """Take the records; never blocks. Raises once a delivery has failed for good."""
        ...

    @property
    def full(self) -> bool:
        """So much is unacknowledged that the worker should produce no more for now."""
        ...

    def serve(self) -> None:
        """Move on what found no room before; called in every turn of the loop. Raises as `send` does."""
        ...

    async def flush(self) -> None:
        """Return when every record sent before the call is acknowledged; raise if one cannot be."""
        ...

    def discard(self) -> None:
        """Forget what is not acknowledged: it is of tasks that others own."""
        ...

    async def close(self) -> None:
        """Drop what was not flushed."""
        ...


class TransactionalSink(Sink, Protocol):
    """A sink whose records become visible with a commit and not without one.

    The first record after a commit begins the next transaction. What cannot be delivered does not raise: the
    sink is `doomed`, takes no more, and waits for `abort`.
    """

    @property
    def doomed(self) -> bool:
        """This transaction cannot be committed any more."""
        ...

    def doom(self, reason: str) -> None:
        """Make it so."""
        ...

    @property
    def began_at_s(self) -> float | None:
        """On the monotonic clock, when the open transaction began; None: none is open."""
        ...

    @property
    def timeout_s(self) -> float:
        """A transaction that is older may have been aborted by the cluster."""
        ...

    async def start(self) -> None:
        """Become the one worker of this slot: whatever a predecessor left open is aborted first."""
        ...

    def stopping(self) -> None:
        """The worker ends: wait for no broker that does not answer."""
        ...

    def hold(self) -> None:
        """Everything that is sent from now on belongs to the next transaction, until `commit` or `abort`."""
        ...

    async def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """The ends of partitions written to, this transaction's records included."""
        ...

    async def commit(self, positions: Sequence[Position], group: Any) -> bool:
        """Offsets and records, all or nothing. False: doomed."""
        ...

    async def abort(self) -> None:
        """Drop what was sent since the last commit, wherever it is, and be ready for the next transaction.
        Then raise what would doom that, too.
        """
        ...
