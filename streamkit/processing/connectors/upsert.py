"""Rows as changes of a database table: insert, or update the row of the same key; a None value deletes it.

What SQLite and PostgreSQL have in common. A replay writes rows again in the same order, so whatever was
repeated, the table ends as if nothing had been. With `key=("topic", "partition", "offset")` it holds every
record once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.connectors.columns import columns_of, key_columns
from streamkit.processing.connectors.sinks import BadRow, Row

MOST_COLUMNS = 2000  # no table has more; and drivers take no statement of very many for the row's fault
Change = tuple[str, list[list[Any]]]  # a statement, and what goes into it each time
Adapt = Callable[[Any], Any]


class Upsert(msgspec.Struct, frozen=True):
    """Statements for one table. `mark` stands for a value in them."""

    table: str
    key: tuple[str, ...]
    mark: str

    def changes(self, rows: Sequence[Row], adapt: Adapt, keep: Sequence[type]) -> Iterator[Change]:
        """In the order of the rows: each statement with the values of all rows that follow one another in it.
        Raises BadRow.
        """
        made = [self._change(index, row, adapt, keep) for index, row in enumerate(rows)]
        for statement, same in groupby(made, lambda change: change[0]):
            yield statement, [values for _, values in same]

    @property
    def trial(self) -> tuple[str, list[None]]:
        """A statement that is refused where the table does not fit, and changes nothing."""
        return f"explain {self._insert(self.key)}", [None] * len(self.key)

    @property
    def hint(self) -> str:
        """How to make it fit."""
        columns = ", ".join(map(quoted, self.key))
        return f"create table {qualified(self.table)} ({columns}, ..., primary key ({columns})), as in setup="

    def _change(self, index: int, row: Row, adapt: Adapt, keep: Sequence[type]) -> tuple[str, list[Any]]:
        try:
            columns = {} if row.value is None else columns_of(row.value, keep)
            key = key_columns(self.key, columns, row.key, lambda name: getattr(row, name))
            if row.value is None:
                return self._delete(), [adapt(value) for value in key.values()]
            columns = key | columns
            if len(columns) > MOST_COLUMNS:
                raise ValueError(f"a row of {len(columns)} columns")
            return self._insert(tuple(columns)), [adapt(value) for value in columns.values()]
        except Exception as error:
            raise BadRow(index, error) from error

    def _insert(self, columns: tuple[str, ...]) -> str:
        updated = [name for name in columns if name not in self.key]
        names, marks = ", ".join(map(self._named, columns)), ", ".join([self.mark] * len(columns))
        changes = ", ".join(f"{self._named(name)} = excluded.{self._named(name)}" for name in updated)
        action = f"update set {changes}" if updated else "nothing"
        return (
            f"insert into {qualified(self.table)} ({names}) values ({marks}) "
            f"on conflict ({', '.join(map(self._named, self.key))}) do {action}"
        )

    def _delete(self) -> str:
        found = " and ".join(f"{self._named(name)} = {self.mark}" for name in self.key)
        return f"delete from {qualified(self.table)} where {found}"

    def _named(self, column: str) -> str:
        """Where a value is marked by a percent sign, another one is doubled."""
        return quoted(column).replace("%", "%%") if "%" in self.mark else quoted(column)


def upsert(table: str, key: str | Sequence[str], mark: str) -> Upsert:
    """The statements of a sink as it was declared."""
    names = (key,) if isinstance(key, str) else tuple(key)
    if not names:
        raise UsageError(
            f"the sink to {table} has no key, so a row that is written again would be there twice",
            hint='key=("topic", "partition", "offset") keeps each record once',
        )
    return Upsert(table, names, mark)


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def qualified(table: str) -> str:
    """`schema.table` names both."""
    return ".".join(map(quoted, table.split(".")))
