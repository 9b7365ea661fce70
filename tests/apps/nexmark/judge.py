"""What Nexmark's queries answer, by DuckDB: nothing of the engine is known here.

Each file of `sql/` says what its query is, and gives the rows that the query's topic is to hold in the end.
It keeps to the published SQL as far as a batch can: windows are written out, and ties have an answer.
Its tables are `person`, `auction`, `bid` and `side_input`; a field `time_ms` is a timestamp
`time`, there and in answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from apps.nexmark.model import Auction, Bid, Event, Person

SQL = {
    path.stem: path.read_text()
    for path in sorted((Path(__file__).parent / "sql").iterdir(), key=lambda path: int(path.stem[1:]))
}
CORRECTED = {"q4": ("category",), "q18": ("bidder", "auction"), "q19": ("auction", "rank_number")}
"""Queries that correct themselves, and the columns by which the last row counts."""
EVENTS = (Person, Auction, Bid)


class Judge:
    """A database with these events in it."""

    def __init__(self, events: Iterable[Event], side: dict[int, str]) -> None:
        self._database = duckdb.connect()
        happened: dict[type, list[Event]] = {kind: [] for kind in EVENTS}
        for event in events:
            happened[type(event)].append(event)
        for kind, some in happened.items():
            columns = zip(*map(msgspec.structs.astuple, some), strict=True)
            names = kind.__struct_fields__
            self._load(kind.__name__, pa.table(dict(zip(names, map(pa.array, columns), strict=True))))
        self._load("side_input", pa.table({"key": list(side), "value": list(side.values())}))

    def difference(self, query: str, rows: list[dict[str, Any]]) -> str | None:
        """The first row that one of both has and the other has not, or None: they are the same, exactly."""
        self._database.execute(f"CREATE OR REPLACE TABLE expected AS {SQL[query]}")
        if not rows:
            return "nothing was written" if self._rows("FROM expected LIMIT 1") else None
        self._load("written", pa.Table.from_pylist(_final(query, rows)))
        names = {table: sorted(row[0] for row in self._rows(f"DESCRIBE {table}")) for table in BOTH}
        if names["written"] != names["expected"]:
            return f"columns {names['written']} in place of {names['expected']}"
        for verdict, has, has_not in (("missing", *BOTH), ("too many", *reversed(BOTH))):
            columns = ", ".join(f'"{name}"' for name in names["expected"])
            rest = f"SELECT {columns} FROM {has} EXCEPT ALL SELECT {columns} FROM {has_not}"
            for row in self._rows(f"{rest} ORDER BY ALL LIMIT 1"):
                return f"{verdict}: {dict(zip(names['expected'], map(str, row), strict=True))}"
        return None

    def _load(self, table: str, data: pa.Table) -> None:
        columns = ", ".join(_column(name) for name in data.column_names)
        self._database.register("data", data)
        self._database.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT {columns} FROM data")
        self._database.unregister("data")

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._database.execute(sql).fetchall()


BOTH = ("expected", "written")


def _column(name: str) -> str:
    short = name.removesuffix("_ms")
    return f'"{name}"' if short == name else f'make_timestamp_ms("{name}") AS "{short}"'


def _final(query: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = CORRECTED.get(query)
    if names is None:
        return rows
    return list({tuple(row[name] for name in names): row for row in rows}.values())
