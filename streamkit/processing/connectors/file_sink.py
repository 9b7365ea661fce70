"""`sk.FileSink`: files that appear whole, and hold every record once however often it is written.

    orders-0-00000000000000000000-00000000000000009999.ndjson     topic, partition, first and last offset

A batch of rows is a file. It counts as written when it is durable under its name; the offsets are committed
after that. What is written again after a crash begins at an offset where a file begins, for commits fall
between batches, but may be cut otherwise. So each new file takes the place of those that were there when the
task began and begin within its span: when the commit has come past them, each record is in one file.

Only those, and under a name of both offsets: a worker that lost its task while it slept can neither overwrite
nor remove what its successor has written. At worst it leaves a file that repeats some rows.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.folder import folder_of
from streamkit.processing.connectors.formats import Format, FormatName, format_of
from streamkit.processing.connectors.sinks import BadRow, Row, Sink
from streamkit.processing.units import Duration

Span = tuple[int, int]  # first and last offset of a file
Place = tuple[str, int]


class FileSink(Sink):
    """Files in a directory, or in an object store (`s3://bucket/prefix`) by way of pyarrow.

    `format`: "ndjson", "csv", "parquet", or a `Format` with options. A file holds up to `max_rows`, or what
    came within `max_wait` of its first; a commit that waits for everything in hand cuts it short.
    `filesystem`: one of pyarrow's, where a URI cannot say enough.
    """

    needs_offsets = True

    def __init__(
        self,
        path: str | Path,
        format: Format | FormatName = "ndjson",
        *,
        max_rows: int = 10_000,
        max_wait: Duration = "10s",
        filesystem: Any = None,
    ) -> None:
        self.path = path
        self.max_rows = max_rows
        self.max_wait = max_wait
        self._format = format_of(format, str(path))
        self._filesystem = filesystem

    @property
    def detail(self) -> str:
        return f"{self._format.suffix[1:]} files in {self.path}"

    async def open(self) -> None:
        self._folder = folder_of(self.path, self._filesystem)
        self._before = _spans(await self._folder.open(), self._format.suffix)

    async def write(self, rows: Sequence[Row]) -> None:
        numbered = [(index, row) for index, row in enumerate(rows)]
        numbered.sort(key=lambda entry: _place(entry[1]))  # stable: offsets stay in order
        for place, some in groupby(numbered, lambda entry: _place(entry[1])):
            await self._write_file(place, list(some))

    async def _write_file(self, place: Place, numbered: Sequence[tuple[int, Row]]) -> None:
        try:
            data = await blocking(self._format.encode, [row.value for _, row in numbered])
        except BadRow as bad:
            raise BadRow(numbered[bad.index][0], bad.cause) from bad.cause
        span = (numbered[0][1].offset or 0, numbered[-1][1].offset or 0)
        await self._folder.put(self._name(place, span), data)
        for former in [s for s in self._before[place] if span[0] <= s[0] <= span[1]]:
            if former != span:
                await self._folder.remove(self._name(place, former))
            self._before[place].remove(former)

    def _name(self, place: Place, span: Span) -> str:
        return f"{place[0]}-{place[1]}-{span[0]:020d}-{span[1]:020d}{self._format.suffix}"


def _place(row: Row) -> Place:
    assert row.topic is not None and row.partition is not None  # `needs_offsets`
    return row.topic, row.partition


def _spans(names: Sequence[str], suffix: str) -> defaultdict[Place, list[Span]]:
    """What files of this format hold already."""
    name_of = re.compile(rf"(.+)-(\d+)-(\d{{20}})-(\d{{20}}){re.escape(suffix)}")
    found: defaultdict[Place, list[Span]] = defaultdict(list)
    for name in names:
        if match := name_of.fullmatch(name):
            found[match[1], int(match[2])].append((int(match[3]), int(match[4])))
    return found
