"""`sk.PostgresSink`: a table of PostgreSQL, by upsert, through psycopg (`pip install
"streamkit-log[postgres]"`).

What has lost its connection, or gives way to a
deadlock, is offered again over a new one; so is what meets a server that only reads, since another leads now.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

from streamkit.errors import UsageError
from streamkit.processing.connectors.sinks import Row, Unavailable
from streamkit.processing.connectors.upsert_sink import UpsertOptions, UpsertSink

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


class PostgresSink(UpsertSink):
    """Rows of the table are found by `key`: one column, or several, with a unique index on them. See
    `columns` for where columns come from, and `UpsertOptions` for the options.

    `url`: a connection string as libpq reads it; without a password in it, libpq's `PGPASSWORD` or
    `~/.pgpass` hold. `table` may name a schema. Lists and dicts are written as jsonb.
    """

    mark: ClassVar[str] = "%s"
    kept: ClassVar[Sequence[type]] = AS_THEY_ARE

    def __init__(self, url: str, table: str, **options: Unpack[UpsertOptions]) -> None:
        super().__init__(table, **options)
        self._url = url

    @property
    def database(self) -> str:
        return "PostgreSQL"

    async def _connect(self) -> Any:
        psycopg = _psycopg()
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
            await connection.execute(*self._upsert.trial)
        except psycopg.Error as error:
            await connection.close()
            if passes(error):
                raise Unavailable(f"PostgreSQL: {error}") from error
            raise UsageError(f"PostgreSQL: {error}", hint=self._upsert.hint) from error
        return connection

    async def _disconnect(self, connection: Any) -> None:
        await connection.close()

    async def _write(self, rows: Sequence[Row]) -> None:
        changes = self._changes(rows)
        try:
            async with self._connection.transaction(), self._connection.cursor() as cursor:
                for statement, values in changes:
                    await cursor.executemany(statement, values)
        except _psycopg().Error as error:
            if not passes(error):
                raise
            await self.close()
            raise Unavailable(f"PostgreSQL: {error}") from error

    def _adapted(self, value: Any) -> Any:
        if isinstance(value, dict | list):
            from psycopg.types.json import Jsonb

            return Jsonb(value)
        return value


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
