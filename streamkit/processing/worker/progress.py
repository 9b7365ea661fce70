"""How far the restores of this worker are: a gauge for dashboards, a line that grows for those who wait.

On a terminal the line is redrawn in place; anywhere else a log line says the same every ten seconds. It sums
over all stores that are being restored at the moment.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import TextIO

import structlog

from streamkit.telemetry.instruments import Family, Gauge

REDRAW_S = 0.2
SAY_S = 10.0
WIDTH = 24
CLEAR = "\r\x1b[K"

log = structlog.get_logger("worker.restore")


class Progress:
    """Call `began` for each store, `left` as its records come, `ended` when it is whole or given up."""

    def __init__(self, remaining: Family[Gauge], terminal: TextIO | None = None) -> None:
        self._remaining = remaining
        self._terminal = terminal
        self._under_way: set[tuple[str, int]] = set()
        self._totals: dict[tuple[str, int], int] = {}  # of those that are done, too, while others are not
        self._lefts: dict[tuple[str, int], int] = {}
        self._began_s = self._said_s = 0.0
        self._drawn = False

    def began(self, store: str, partition: int, records: int) -> None:
        if not self._under_way:
            self._totals.clear()
            self._lefts.clear()
            self._began_s = self._said_s = monotonic()
        self._under_way.add((store, partition))
        self._totals[store, partition] = records
        self.left(store, partition, records)

    def left(self, store: str, partition: int, records: int) -> None:
        self._lefts[store, partition] = records
        self._remaining.labels(store, str(partition)).value = records
        now_s = monotonic()
        if now_s - self._said_s >= (SAY_S if self._terminal is None else REDRAW_S):
            self._said_s = now_s
            self._say(now_s)

    def ended(self, store: str, partition: int) -> None:
        self._remaining.forget(store, str(partition))
        self._under_way.discard((store, partition))
        self._lefts[store, partition] = 0
        if not self._under_way:
            self._erase()

    def _say(self, now_s: float) -> None:
        total, left = sum(self._totals.values()), sum(self._lefts.values())
        done, rate = total - left, (total - left) / max(now_s - self._began_s, 1e-3)
        if self._terminal is None:
            log.info("still restoring", records=done, of=total, per_second=round(rate))
            return
        full = WIDTH * done // max(total, 1)
        rest = f", {left / rate:.0f} s left" if rate else ""
        self._terminal.write(
            f"{CLEAR}restoring {'█' * full}{'░' * (WIDTH - full)} {done / max(total, 1):4.0%} "
            f"of {total:,} records, {rate:,.0f}/s{rest}"
        )
        self._terminal.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn and self._terminal is not None:
            self._terminal.write(CLEAR)
            self._terminal.flush()
            self._drawn = False


def standard_error() -> TextIO | None:
    """Where a line can be redrawn in place, if anywhere."""
    return sys.stderr if sys.stderr.isatty() else None
