"""What a worker needs of an output: records out, and the certainty that all of them arrived.

A commit calls `flush` and learns that everything sent before it is acknowledged. Records sent *while* a
flush waits belong to the next commit: the sink holds them back, so that processing never stops for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamkit.processing.fuse import SinkRecord


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

    async def close(self) -> None:
        """Drop what was not flushed."""
        ...
