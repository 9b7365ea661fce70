"""`sk.PostgresSink`: a table of PostgreSQL, by upsert, through psycopg (`pip install
"streamkit-log[postgres]"`).

One connection for each task, one transaction for each batch. What has lost its connection, or gives way to a
deadlock, is offered again over a new one; so is what meets a server that only reads, since another leads now.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Sequence
from typing import Any

from streamkit.errors import UsageError
from streamkit.processing.connectors.sinks import Row, Sink, Unavailable
from streamkit.processing.connectors.upsert import upsert
from streamkit.processing.units import Duration

CONNECT_S = 10
READ_ONLY = "25006"  # SQLSTATE
LIMITS = "54"  # the class of states of what is too large for PostgreSQL, however often it is offered
AS_THEY_ARE = (
    bytes,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)


class PostgresSink(Sink):
    """Rows of the table are found by `key`: one column, or several, with a unique index on them. See
    `columns` for where columns come from.

    `url`: a connection string as libpq reads it; without a password in it, libpq's `PGPASSWORD` or
    `~/.pgpass` hold. `table` may name a schema. `setup`: SQL that is executed when a task begins. Lists and
    dicts are written as jsonb.
    """

    def __init__(
        self,
        url: str,
        table: str,
        *,
        key: str | Sequence[str] = "key",
        setup: str | None = None,
        max_rows: int = 1000,
        max_wait: Duration = "200ms",
    ) -> None:
        self.max_rows = max_rows
        self.max_wait = max_wait
        self._url = url
        self._upsert = upsert(table, key, "%s")
        self._setup = setup
        self._connection: Any = None

    @property
    def detail(self) -> str:
        return f"PostgreSQL, table {self._upsert.table}, key {', '.join(self._upsert.key)}"

    async def open(self) -> None:
        psycopg = _psycopg()
        await self.close()
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=CONNECT_S
            )
        except psycopg.ProgrammingError:  # which quotes it, password and all
            raise UsageError(
                "PostgreSQL: the connection string cannot be read", hint="postgresql://user@host/database"
            ) from None
        except psycopg.Error as error:
            raise Unavailable(f"PostgreSQL: {error}") from error
        try:
            if self._setup:
                await connection.execute(self._setup)
            await connection.execute(f"explain {self._upsert.trial}", [None] * len(self._upsert.key))
        except psycopg.Error as error:
            await connection.close()
            if passes(error):
                raise Unavailable(f"PostgreSQL: {error}") from error
            raise UsageError(f"PostgreSQL: {error}", hint=self._upsert.hint) from error
        self._connection = connection

    async def write(self, rows: Sequence[Row]) -> None:
        psycopg = _psycopg()
        changes = list(self._upsert.changes(rows, _adapted, AS_THEY_ARE))
        if self._connection is None:
            await self.open()
        try:
            async with self._connection.transaction(), self._connection.cursor() as cursor:
                for statement, values in changes:
                    await cursor.executemany(statement, values)
        except psycopg.Error as error:
            if not passes(error):
                raise
            await self.close()
            raise Unavailable(f"PostgreSQL: {error}") from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def passes(error: Any) -> bool:
    """Is it the connection's or the server's affair, and not a row's?"""
    psycopg, state = _psycopg(), error.sqlstate or ""
    if state.startswith(LIMITS):
        return False
    return state == READ_ONLY or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        raise UsageError("PostgresSink needs psycopg", hint='pip install "streamkit-log[postgres]"') from None
    return psycopg


def _adapted(value: Any) -> Any:
    if isinstance(value, dict | list):
        from psycopg.types.json import Jsonb

        return Jsonb(value)
    return value
