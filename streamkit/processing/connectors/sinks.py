"""`sk.Sink`: where a stream's values leave for the world outside of topics, and how to write one's own.

    class Lines(sk.Sink):
        def __init__(self, path: str) -> None:
            self.path = path

        async def open(self) -> None:  # noqa: B027  (nothing to do for many)
            self.file = open(self.path, "a")

        async def write(self, rows: Sequence[sk.Row]) -> None:
            self.file.writelines(f"{row.value}\n" for row in rows)
            self.file.flush()

    stream.to(Lines("out.txt"), on_error=sk.DeadLetter("bad-lines"))

A sink is declared once; each task works with a shallow copy of it, and makes one call at a time. What `write`
has returned from is safe: only then are the offsets of these rows committed, so after a crash some rows are
written again. A sink that finds rows by their key, or by their offset, makes once of that.

What `write` raises says who suffers:

    Unavailable     nobody could write now: the same rows are offered again, for as long as it takes
    BadRow          this row is at fault: it meets the error policy, the others are offered again
    UsageError      the sink cannot work as it is declared: no row is at fault, the worker ends
    anything else   offered again as `retry=` says, then in halves, until the rows at fault stand alone
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from streamkit.errors import StreamkitError
from streamkit.processing.record import Headers
from streamkit.processing.units import Duration


class Row(msgspec.Struct, frozen=True):
    """A value on its way into the cluster or out of it.

    `topic`, `partition` and `offset` are those of the record that it comes from; None where it comes from
    many (the result of a window), or from outside. `timestamp_ms=None`, from outside: the time of its
    arrival.
    """

    value: Any
    key: Any = None
    timestamp_ms: int | None = None
    headers: Headers = []
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


class Unavailable(StreamkitError):
    """A system outside does not answer, or not now. Whoever raises it is called again, after a pause."""


class BadRow(StreamkitError):
    """The row of this index cannot be written, whatever else happens; `cause` says why."""

    def __init__(self, index: int, cause: Exception) -> None:
        super().__init__(f"row {index}: {cause}")
        self.index = index
        self.cause = cause


class Sink(ABC):
    """See the module. A `write` gets at most `max_rows`, or what came within `max_wait` of the first.

    `needs_offsets`: every row must come from one record, and rows in the order of their offsets.
    """

    max_rows: int = 500
    max_wait: Duration = "200ms"
    needs_offsets: ClassVar[bool] = False

    async def open(self) -> None:  # noqa: B027  (most have nothing to do)
        """A task begins. What is raised here ends the worker, unless it is Unavailable."""

    @abstractmethod
    async def write(self, rows: Sequence[Row]) -> None:
        """Return when all rows are safe."""

    async def close(self) -> None:  # noqa: B027
        """The task ends; a `write` may have been cancelled."""

    @property
    def detail(self) -> str:
        """A few words for `explain`."""
        return type(self).__name__
