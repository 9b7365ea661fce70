"""A table of a database as a sink: what all databases have in common, whatever their driver.

One connection for each task, and one transaction for each batch. A sink that has no connection makes one
when it is next written to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

from streamkit.processing.connectors.sinks import Row, Sink
from streamkit.processing.connectors.upsert import Change, upsert
from streamkit.processing.units import Duration


class UpsertOptions(TypedDict, total=False):
    """`key`: one column (`"key"` where none is named), or several. `setup`: SQL that is executed when a task
    begins. `max_rows` (1,000) and `max_wait` (200 ms): how many rows are one batch, at most.
    """

    key: str | Sequence[str]
    setup: str | None
    max_rows: int
    max_wait: Duration


class UpsertSink(Sink):
    """`mark` stands for a value in a statement, and of `kept` the driver takes instances as they are."""

    mark: ClassVar[str]
    kept: ClassVar[Sequence[type]]

    def __init__(
        self,
        table: str,
        *,
        key: str | Sequence[str] = "key",
        setup: str | None = None,
        max_rows: int = 1000,
        max_wait: Duration = "200ms",
    ) -> None:
        self.max_rows = max_rows
        self.max_wait = max_wait
        self._upsert = upsert(table, key, self.mark)
        self._setup = setup
        self._connection: Any = None

    @property
    @abstractmethod
    def database(self) -> str:
        """A few words."""

    @property
    def detail(self) -> str:
        return f"{self.database}, table {self._upsert.table}, key {', '.join(self._upsert.key)}"

    async def open(self) -> None:
        await self.close()
        self._connection = await self._connect()

    async def write(self, rows: Sequence[Row]) -> None:
        if self._connection is None:
            await self.open()
        await self._write(rows)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._disconnect(connection)

    def _changes(self, rows: Sequence[Row]) -> list[Change]:
        """Raises BadRow."""
        return list(self._upsert.changes(rows, self._adapted, self.kept))

    @abstractmethod
    async def _connect(self) -> Any:
        """Connect, execute the setup, and try the table. Raises Unavailable or UsageError."""

    @abstractmethod
    async def _disconnect(self, connection: Any) -> None:
        """A `write` over it may have been cancelled."""

    @abstractmethod
    async def _write(self, rows: Sequence[Row]) -> None:
        """All or none. Raises Unavailable, and BadRow or the driver's error where a row is at fault."""

    @abstractmethod
    def _adapted(self, value: Any) -> Any:
        """A dict or list as the driver takes it; anything else as it is."""
