"""`sk.FileSource`: records of files, read once or followed as they grow.

The position has an entry for each file: how many bytes (of a Parquet file: rows) are in the topic. So files
may come in any order of names, and each is read from where it was left. A file that has become shorter begins
anew. Rotate logs by giving each a name of its own (`app-2026-11-23.log`); one that is renamed is a new file.

Lines go into the topic as they are; a row of CSV or Parquet as an object of its columns. What cannot be
understood goes as it is, too, and meets the error policy of whoever reads the topic.
"""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import aiofiles
import msgspec
import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.formats import (
    Csv,
    Format,
    FormatName,
    Parquet,
    format_of,
    pyarrow_modules,
)
from streamkit.processing.connectors.sinks import Row, Unavailable
from streamkit.processing.connectors.sources import Portion, Position, Source
from streamkit.processing.units import Duration, duration_ms

CHUNK_BYTES = 256 << 10
CHUNK_ROWS = 1000
MAX_RECORD_BYTES = 900_000  # what brokers take by default, less some room

Rows = AsyncGenerator[tuple[list[Row], int], None]  # with the place in the file that is reached

log = structlog.get_logger("worker")


class FileSource(Source):
    """A file, all files of a directory, or those of a pattern (`logs/**/*.ndjson`); hidden ones are passed
    over.

    `format`: "ndjson" (any text by lines), "csv", "parquet", or an `sk.Csv` with options; by the name when
    not given. `follow`: look every `interval` for what is new, instead of ending; a line then counts when it
    is ended. `type`: what rows of CSV are turned into, "12" to 12 where a number is declared.
    """

    def __init__(
        self,
        path: str | Path,
        format: Format | FormatName | None = None,
        *,
        follow: bool = False,
        interval: Duration = "1s",
        type: Any = None,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self.path = Path(path)
        self._format = format_of(format, str(path))
        self._follow = follow
        self._interval_s = duration_ms(interval) / 1000
        self._type = type
        self._max_record_bytes = max_record_bytes

    @property
    def detail(self) -> str:
        return f"{'follows' if self._follow else 'reads'} {self._format.suffix[1:]} of {self.path}"

    async def read(self, position: Position) -> AsyncIterator[Portion]:
        reached: dict[str, int] = dict(position)
        looked_at: dict[str, int] = {}  # name → how large it was
        while True:
            sizes = await blocking(self._sizes)
            moved = False
            for name in sorted(name for name in sizes if looked_at.get(name) != sizes[name]):
                if self._is_shorter(sizes[name], reached.get(name, 0)):
                    log.warning("file has become shorter: read from its beginning", file=_readable(name))
                    reached[name] = 0
                    yield [], {name: 0}  # now: at the next look it may have outgrown the old place
                async with aclosing(self._read_on(name, reached.get(name, 0))) as portions:
                    async for rows, end in portions:
                        reached[name], moved = end, True
                        yield rows, {name: end}
                looked_at[name] = sizes[name]
            gone = [name for name in reached if name not in sizes] if sizes else []  # else: is it mounted?
            if gone:
                yield [], dict.fromkeys(gone)
                for name in gone:
                    del reached[name]
            if not self._follow:
                return
            if not moved:
                await asyncio.sleep(self._interval_s)

    def _is_shorter(self, size: int, start: int) -> bool:
        return size < start and not isinstance(self._format, Parquet)

    def _read_on(self, name: str, start: int) -> Rows:
        path = self._root / name
        return _parquet(path, start) if isinstance(self._format, Parquet) else self._records(path, start)

    async def _records(self, path: Path, start: int) -> Rows:
        """Whole records and where they end; at the end of a file that is read once, what is left counts
        too."""
        async with aiofiles.open(path, "rb") as file:
            header = await self._header(path, file)
            await file.seek(start)
            rest = b""
            while True:
                chunk = await file.read(CHUNK_BYTES)
                rest += chunk
                at_end = not chunk and not self._follow
                records, rest = _split(rest, quoted=isinstance(self._format, Csv), everything=at_end)
                if records:
                    first, start = start, start + sum(map(len, records))
                    yield [Row(value) for value in self._values(records, header, first == 0)], start
                if len(rest) > self._max_record_bytes:
                    raise StreamkitError(
                        f"{path}: the record at byte {start} is longer than {self._max_record_bytes} bytes",
                        hint="mend the file, or raise max_record_bytes= (and max.message.bytes of the topic)",
                    )
                if not chunk:
                    return

    async def _header(self, path: Path, file: Any) -> Sequence[str]:
        """Names of the columns, of CSV."""
        if not isinstance(self._format, Csv):
            return ()
        if self._format.columns is not None:
            return self._format.columns
        records, _ = _split(await file.read(CHUNK_BYTES), quoted=True, everything=True)
        try:
            return self._format.cells(records[0]) if records else ()
        except (ValueError, csv.Error) as error:
            raise StreamkitError(
                f"{path}: the names of its columns cannot be read: {error}",
                hint="mend the file; CSV is read as UTF-8",
            ) from None

    def _values(self, records: Sequence[bytes], header: Sequence[str], from_start: bool) -> Iterator[Any]:
        if not isinstance(self._format, Csv):
            yield from (line for record in records if (line := record.rstrip(b"\r\n")))
            return
        if from_start and self._format.columns is None:
            records = records[1:]
        for record in records:
            if record.strip():
                yield self._typed(self._format.row(record, header))

    def _typed(self, row: Any) -> Any:
        if self._type is None or isinstance(row, bytes):
            return row
        try:
            return msgspec.convert(row, self._type, strict=False)
        except msgspec.ValidationError:
            return msgspec.json.encode(row)

    @property
    def _root(self) -> Path:
        """What names of files are relative to."""
        plain = [part for part in (self.path, *self.path.parents) if not has_magic(str(part))]
        return plain[0] if plain[0] != self.path or self.path.is_dir() else self.path.parent

    def _sizes(self) -> Mapping[str, int]:
        """The files that are there. Raises OSError where there is none to read once."""
        root = self._root
        if has_magic(str(self.path)):
            found = [Path(name) for name in glob(str(self.path), recursive=True)]
        elif self.path.is_dir():
            found = [Path(entry.path) for entry in os.scandir(self.path)]
        else:
            found = [self.path] if self.path.exists() else []
        if not found and not self._follow:
            raise Unavailable(f"no file at {self.path}")
        return {
            str(path.relative_to(root)): path.stat().st_size
            for path in found
            if path.is_file() and not path.name.startswith(".")
        }


async def _parquet(path: Path, start: int) -> Rows:
    """Rows of a Parquet file, which is whole when it has its name, from row `start` on."""
    _, parquet = pyarrow_modules()
    file = await blocking(parquet.ParquetFile, path)
    try:
        if start >= file.metadata.num_rows:
            return
        at, batches = 0, file.iter_batches(CHUNK_ROWS)
        while (batch := await blocking(next, batches, None)) is not None:
            skipped = min(max(start - at, 0), batch.num_rows)
            at += batch.num_rows
            if skipped < batch.num_rows:
                yield [Row(row) for row in batch.slice(skipped).to_pylist()], at
    finally:
        await blocking(file.close)


def _split(data: bytes, *, quoted: bool, everything: bool) -> tuple[list[bytes], bytes]:
    """Whole records with their line ends, and the rest. `quoted`: between quotes a line break ends
    nothing."""
    *lines, rest = data.split(b"\n")
    records = [line + b"\n" for line in lines]
    if quoted:
        records, open_one = _joined(records)
        rest = open_one + rest
    if everything and rest:
        records, rest = [*records, rest], b""
    return records, rest


def _joined(lines: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """Lines with what follows them while a quote is open."""
    records, open_one, is_open = list[bytes](), list[bytes](), False
    for line in lines:
        open_one.append(line)
        is_open ^= line.count(b'"') % 2 == 1
        if not is_open:
            records.append(b"".join(open_one))
            open_one.clear()
    return records, b"".join(open_one)


def _readable(name: str) -> str:
    """File names need not be text."""
    return os.fsencode(name).decode(errors="replace")
