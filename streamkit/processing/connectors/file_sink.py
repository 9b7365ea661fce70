"""`sk.FileSink`: files that appear whole, and hold every record once however often it is written.

    orders-0-00000000000000000000-00000000000000009999.ndjson     topic, partition, first and last offset

A batch of rows is a file. It counts as written when it is durable under its name; the offsets are committed
after that. After a crash rows come again from the last commit on, and then it matters which files were there
when the task began:

- One that begins before the first row that comes again, and reaches past it, has those rows already: they are
  not written again. (A commit may fall between two rows of a file: another part of the task was slower.)
- Those that begin later give way to the new files that take their place, which may be cut otherwise.

So when the commit has come past them, each record is in one file; and who goes back to the beginning on
purpose replaces what was there. Only files of that moment are touched, and a name says both offsets: a worker
that lost its task while it slept can neither overwrite nor remove what its successor has written. At worst it
leaves a file that repeats some rows.

Where a topic's name is too long for a file's, its beginning stands for it, with `~` and a digest of it all.
"""

from __future__ import annotations

import hashlib
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
Numbered = tuple[int, Row]  # with its number among the rows of a `write`


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
        return f"{self._format.suffix[1:]} files in {_shown(str(self.path))}"

    async def open(self) -> None:
        self._folder = folder_of(self.path, self._filesystem)
        self._before = _spans(await self._folder.open(), self._format.suffix)  # by stem
        self._covered: dict[Place, int] = {}  # up to this offset rows were there before
        self._reached: dict[Place, int] = {}  # up to this one they are there now

    async def write(self, rows: Sequence[Row]) -> None:
        numbered = [(index, row) for index, row in enumerate(rows)]
        numbered.sort(key=lambda entry: _place(entry[1]))  # stable: offsets stay in order
        for place, some in groupby(numbered, lambda entry: _place(entry[1])):
            await self._write_place(place, list(some))

    async def _write_place(self, place: Place, numbered: Sequence[Numbered]) -> None:
        first, before = _offset(numbered[0]), self._before[self._stem(place)]
        if place not in self._covered:
            there = (span[1] for span in before if span[0] < first <= span[1])
            self._covered[place] = self._reached[place] = max(there, default=first - 1)
        missing = [entry for entry in numbered if _offset(entry) > self._covered[place]]
        if missing:
            await self._write_file(place, missing)

    async def _write_file(self, place: Place, numbered: Sequence[Numbered]) -> None:
        try:
            data = await blocking(self._format.encode, [row.value for _, row in numbered])
        except BadRow as bad:
            raise BadRow(numbered[bad.index][0], bad.cause) from bad.cause
        span, stem = (_offset(numbered[0]), _offset(numbered[-1])), self._stem(place)
        before = self._before[stem]
        await self._folder.put(stem + self._rest(span), data)
        for former in [s for s in before if self._reached[place] < s[0] <= span[1]]:
            if former != span:
                await self._folder.remove(stem + self._rest(former))
            before.remove(former)
        self._reached[place] = span[1]

    def _stem(self, place: Place) -> str:
        """What the names of a partition's files begin with. Names of topics are ASCII, without a `~`."""
        topic, partition = place
        room = self._folder.longest_name - len(self._rest((0, 0)))
        stem = f"{topic}-{partition}"
        if len(stem) <= room:
            return stem
        end = f"~{hashlib.sha256(topic.encode()).hexdigest()[:16]}-{partition}"
        return topic[: room - len(end)] + end

    def _rest(self, span: Span) -> str:
        return f"-{span[0]:020d}-{span[1]:020d}{self._format.suffix}"


def _shown(path: str) -> str:
    """A URI may hold credentials, and options that say nothing to a reader."""
    scheme, separator, rest = path.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}" if separator else path


def _offset(numbered: Numbered) -> int:
    offset = numbered[1].offset
    assert offset is not None  # `needs_offsets`
    return offset


def _place(row: Row) -> Place:
    assert row.topic is not None and row.partition is not None  # `needs_offsets`
    return row.topic, row.partition


def _spans(names: Sequence[str], suffix: str) -> defaultdict[str, list[Span]]:
    """What files of this format hold already, by the stems of their names."""
    name_of = re.compile(rf"(.+-\d+)-(\d{{20}})-(\d{{20}}){re.escape(suffix)}")
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for name in names:
        if match := name_of.fullmatch(name):
            found[match[1]].append((int(match[2]), int(match[3])))
    return found
