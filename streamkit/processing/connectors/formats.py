"""How rows are written into files, and read from them: NDJSON, CSV, Parquet.

    encode(values)   a whole file, as bytes; raises BadRow for a value that has no place in it
    suffix           of the names of such files

NDJSON is one JSON value a line; bytes are lines already. CSV begins with the names of the columns, which are
those of the first row unless `columns=` says so. Parquet needs pyarrow (`pip install
"streamkit-log[parquet]"`); columns and their types are those of the rows, or `schema=`.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.connectors.columns import columns_of, plain
from streamkit.processing.connectors.sinks import BadRow

FormatName = Literal["ndjson", "csv", "parquet"]


class Format(ABC):
    """See the module."""

    suffix: str

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> bytes:
        """A file of these values."""


class Ndjson(Format):
    suffix = ".ndjson"

    def encode(self, values: Sequence[Any]) -> bytes:
        return b"".join(_each(values, _json_line))


class Csv(Format):
    """`columns`: which, in which order."""

    suffix = ".csv"

    def __init__(self, columns: Sequence[str] | None = None, delimiter: str = ",") -> None:
        self.columns = columns
        self.delimiter = delimiter

    def cells(self, record: bytes) -> list[str]:
        """The cells of one record, which may have line breaks between quotes."""
        return next(csv.reader([record.decode("utf-8-sig")], delimiter=self.delimiter))

    def row(self, record: bytes, header: Sequence[str]) -> dict[str, str] | bytes:
        """The cells by their columns; the record as it is, where they do not fit."""
        try:
            return dict(zip(header, self.cells(record), strict=True))
        except (ValueError, csv.Error):
            return record.rstrip(b"\r\n")

    def encode(self, values: Sequence[Any]) -> bytes:
        rows = _each(values, _cells)
        columns = list(self.columns or (rows[0] if rows else ()))
        known = set(columns)
        text = io.StringIO(newline="")
        out = csv.writer(text, delimiter=self.delimiter)
        out.writerow(columns)
        for index, row in enumerate(rows):
            unknown = [name for name in row if name not in known]
            if unknown:
                raise BadRow(index, ValueError(f"no column for {', '.join(unknown)}"))
            out.writerow([row.get(name) for name in columns])
        return text.getvalue().encode()


class Parquet(Format):
    """`schema`: a pyarrow schema; of the rows of each file, when there is none. `compression` as in
    pyarrow."""

    suffix = ".parquet"

    def __init__(self, schema: Any = None, compression: str = "zstd") -> None:
        self.schema = schema
        self.compression = compression

    def encode(self, values: Sequence[Any]) -> bytes:
        rows, _ = _each(values, _typed), pyarrow_modules()
        try:
            return self._file(rows)
        except Exception as error:
            raise BadRow(self._at_fault(rows), error) from error

    def _file(self, rows: Sequence[dict[str, Any]]) -> bytes:
        arrow, parquet = pyarrow_modules()
        out = io.BytesIO()
        table = arrow.Table.from_pylist(rows, schema=self.schema)
        parquet.write_table(table, out, compression=self.compression)
        return out.getvalue()

    def _at_fault(self, rows: Sequence[dict[str, Any]]) -> int:
        """A row that does not go together with those before it. Who has to guess would write the others in
        parts, and files know their rows by first and last offset.
        """
        fits, fails = 0, len(rows)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            try:
                self._file(rows[:middle])
            except Exception:
                fails = middle
            else:
                fits = middle
        return fits


def format_of(name: Format | FormatName | None, path: str) -> Format:
    """The format of this name; without one, of a file with such a name."""
    if isinstance(name, Format):
        return name
    known: dict[str, type[Format]] = {"ndjson": Ndjson, "csv": Csv, "parquet": Parquet}
    wanted = name or {"jsonl": "ndjson"}.get(path.rpartition(".")[2], path.rpartition(".")[2])
    if wanted not in known:
        raise UsageError(f"{path}: the format is not known", hint=f"format= is one of {', '.join(known)}")
    return known[wanted]()


def pyarrow_modules() -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow", hint='pip install "streamkit-log[parquet]"') from None
    return pyarrow, pyarrow.parquet


def _each(values: Sequence[Any], encode: Any) -> list[Any]:
    made = []
    for index, value in enumerate(values):
        try:
            made.append(encode(value))
        except Exception as error:
            raise BadRow(index, error) from error
    return made


def _json_line(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else msgspec.json.encode(plain(value))
    if b"\n" in data:
        raise ValueError("a line cannot hold a line break")
    return data + b"\n"


def _cells(value: Any) -> dict[str, Any]:
    columns = _columns(value)
    return {
        name: msgspec.json.encode(cell).decode() if isinstance(cell, dict | list) else cell
        for name, cell in columns.items()
    }


def _typed(value: Any) -> dict[str, Any]:
    import datetime
    import decimal

    keep = (bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)
    return _columns(value, keep)


def _columns(value: Any, keep: Sequence[type] = ()) -> dict[str, Any]:
    if value is None:
        raise ValueError("a row without a value has no columns")
    return columns_of(value, keep)
