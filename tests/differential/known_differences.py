"""docs/differences.md as the judge reads it: rows of differences, and APIs that are not served."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "differences.md"
DIFFERENCES = "## Answers that differ"
OF_CLUSTERS = "## Answers of clusters that differ"
UNSERVED = "## APIs that are not served"
MAX_ROWS = 30
MAX_ROWS_OF_CLUSTERS = 8


@dataclass(frozen=True)
class Row:
    """Which answers it speaks of: patterns with `*`, but for the reason. An API is named `FETCH v12`."""

    api: str
    scenario: str
    field: str
    kafka: str
    ours: str
    reason: str

    def covers(self, *cells: str) -> bool:
        patterns = (self.api, self.scenario, self.field, self.kafka, self.ours)
        return all(fnmatchcase(cell, pattern) for cell, pattern in zip(cells, patterns, strict=True))


@dataclass
class KnownDifferences:
    rows: list[Row]
    unserved: dict[int, str]
    """Why each API, by its key, is not served."""
    of_clusters: list[Row] = field(default_factory=list)
    """Those of the rows that speak of clusters alone."""
    seen: set[Row] = field(default_factory=set)

    @classmethod
    def read(cls, *, of_clusters: bool = False, page: Path = PAGE) -> KnownDifferences:
        """Two clusters differ where two nodes do, and in a little more."""
        text = page.read_text()
        rows = [Row(*cells) for cells in _table(text, DIFFERENCES)]
        further = [Row(*cells) for cells in _table(text, OF_CLUSTERS)] if of_clusters else []
        unserved = {int(key): reason for key, _, reason in _table(text, UNSERVED)}
        return cls([*rows, *further], unserved, further)

    def covers(self, *cells: str) -> bool:
        found = [row for row in self.rows if row.covers(*cells)]
        self.seen.update(found)
        return bool(found)

    def unseen(self, apis: set[str], *, whole: bool) -> list[Row]:
        """Rows of these APIs, or of all if the `whole` was played, whose difference was not met."""
        return [
            row
            for row in self.rows
            if row not in self.seen and (whole or any(fnmatchcase(f"{api} v", row.api[:-1]) for api in apis))
        ]


def _table(text: str, heading: str) -> list[list[str]]:
    section = text.partition(heading)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]
