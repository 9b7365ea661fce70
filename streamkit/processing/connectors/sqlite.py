"""`sk.SqliteSink`: a table of an SQLite database, by upsert. One transaction for each batch, in a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Unpack

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.sinks import Row, Unavailable
from streamkit.processing.connectors.upsert_sink import UpsertOptions, UpsertSink

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


class SqliteSink(UpsertSink):
    """Rows of the table are found by `key`: one column, or several. See `columns` for where columns come
    from, and `UpsertOptions` for the options; a `setup` may be `create table if not exists ...`.

    Lists and dicts are written as JSON text, times as ISO text.
    """

    mark: ClassVar[str] = "?"
    kept: ClassVar[Sequence[type]] = (bytes,)

    def __init__(self, path: str | Path, table: str, **options: Unpack[UpsertOptions]) -> None:
        super().__init__(table, **options)
        self.path = path

    @property
    def database(self) -> str:
        return f"SQLite {self.path}"

    async def _connect(self) -> sqlite3.Connection:
        return await blocking(self._connected)

    async def _disconnect(self, connection: sqlite3.Connection) -> None:
        await blocking(connection.close)

    async def _write(self, rows: Sequence[Row]) -> None:
        await blocking(self._written, rows)

    def _adapted(self, value: Any) -> Any:
        return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value

    def _connected(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                self.path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            if self._setup:
                connection.executescript(self._setup)
            connection.execute(*self._upsert.trial)
        except sqlite3.OperationalError as error:
            if connection is not None:
                connection.close()
            if wrong := _wrong_place(Path(self.path)):
                raise UsageError(
                    f"{self.path}: {wrong}", hint="mend the path of SqliteSink(...), or make the directory"
                ) from error
            if _passes(error):
                raise Unavailable(f"{self.path}: {error}") from error
            raise UsageError(f"{self.path}: {error}", hint=self._upsert.hint) from error
        return connection

    def _written(self, rows: Sequence[Row]) -> None:
        changes = self._changes(rows)
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


def _wrong_place(path: Path) -> str:
    """Why no database will ever be there: nothing that somebody waits for makes directories."""
    with suppress(PermissionError):
        if path.is_dir():
            return "this is a directory, not a database"
        if not path.parent.is_dir():
            return f"there is no directory {path.parent}"
    return ""


def _passes(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING  # the rest is the extended code
