"""What stands in for a sink in `app.test()`: rows in a list."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.processing.connectors.sinks import Row, Sink


class Collected(Sink):
    """Rows as they came, until they are taken."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    async def write(self, rows: Sequence[Row]) -> None:
        self._rows += rows

    def take(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows
