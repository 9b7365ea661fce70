"""`sk.SqliteSink`: a table of an SQLite database, by upsert. One transaction for each batch, in a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.sinks import Row, Sink, Unavailable
from streamkit.processing.connectors.upsert import upsert
from streamkit.processing.units import Duration

PATIENCE_S = 5.0  # other writers of the file are waited for so long in one call
PASSING = {  # no row is at fault
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}


class SqliteSink(Sink):
    """Rows of the table are found by `key`: one column, or several. See `columns` for where columns come
    from.

    `setup`: SQL that is executed when a task begins, such as `create table if not exists ...`. Lists and
    dicts are written as JSON text, times as ISO text.
    """

    def __init__(
        self,
        path: str | Path,
        table: str,
        *,
        key: str | Sequence[str] = "key",
        setup: str | None = None,
        max_rows: int = 1000,
        max_wait: Duration = "200ms",
    ) -> None:
        self.path = path
        self.max_rows = max_rows
        self.max_wait = max_wait
        self._upsert = upsert(table, key, "?")
        self._setup = setup
        self._connection: sqlite3.Connection | None = None

    @property
    def detail(self) -> str:
        return f"SQLite {self.path}, table {self._upsert.table}, key {', '.join(self._upsert.key)}"

    async def open(self) -> None:
        await blocking(self._open)

    async def write(self, rows: Sequence[Row]) -> None:
        await blocking(self._write, rows)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await blocking(connection.close)

    def _open(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                self.path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            if self._setup:
                connection.executescript(self._setup)
            connection.execute(f"explain {self._upsert.trial}", [None] * len(self._upsert.key))
        except sqlite3.OperationalError as error:
            if connection is not None:
                connection.close()
            if _passes(error):
                raise Unavailable(f"{self.path}: {error}") from error
            raise UsageError(f"{self.path}: {error}", hint=self._upsert.hint) from error
        self._connection = connection

    def _write(self, rows: Sequence[Row]) -> None:
        assert self._connection is not None
        changes = list(self._upsert.changes(rows, _adapted, (bytes,)))
        try:
            self._connection.execute("begin immediate")
            try:
                for statement, values in changes:
                    self._connection.executemany(statement, values)
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise
        except sqlite3.DatabaseError as error:
            if _passes(error):
                raise Unavailable(f"{self.path}: {error}") from error
            raise


def _passes(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING  # the rest is the extended code


def _adapted(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value
