"""What the demo shows: on a terminal a few lines with one that moves, else plain lines as they come true."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

BAR = 8


class Screen:
    """Facts first (`fact`), then one line of progress, then what came of it (`outcome`)."""

    def __init__(self, console: Console, total: int, *, live: bool) -> None:
        self._console = console
        self._total = total
        self._facts: list[tuple[str, str]] = []
        self._outcome: list[Text] = []
        self._stage = "sending"
        self._done = 0
        self._lag: int | None = None
        self._watermark: float | None = None
        self._began = time.monotonic()
        self._seconds = 0.0
        self._live = Live(console=console, auto_refresh=False) if live else None

    def __enter__(self) -> Screen:
        self._frame.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._frame.__exit__(*error)

    @property
    def _frame(self) -> AbstractContextManager[Any]:
        return self._live or nullcontext()

    @property
    def rate(self) -> float:
        """Records a second since the job began to answer."""
        return self._done / self._seconds if self._seconds else 0.0

    def fact(self, label: str, text: str) -> None:
        self._facts.append((label, text))
        if self._live is None:
            self._console.print(f" {label:<8} {text}", highlight=False, soft_wrap=True)
        self._draw()

    def sent(self, count: int) -> None:
        self._done = count
        self._draw()

    def begin(self) -> None:
        """The flights are there; the job begins."""
        self._stage, self._done = "starting the job", 0
        self._draw()

    def waiting(self) -> None:
        """The job did not answer yet: its time begins after this look."""
        self._began = time.monotonic()

    def progress(self, done: int, lag: int, watermark: float | None) -> None:
        """`watermark` in seconds since the epoch."""
        if done > self._done:
            self._seconds = time.monotonic() - self._began
        self._stage, self._done, self._lag = "", done, lag
        self._watermark = watermark or self._watermark
        self._draw()

    def outcome(self, *lines: Text) -> None:
        self._outcome = list(lines)
        if self._live is None:
            for line in (self._progress(), *lines):
                self._console.print(line, highlight=False, soft_wrap=True)
        self._draw()

    def _draw(self) -> None:
        if self._live is None:
            return
        grid = Table.grid(padding=(0, 1))
        for label, text in self._facts:
            grid.add_row(Text(f" {label:<8}", style="bold"), Text(text, overflow="fold"))
        whole = Table.grid()
        whole.add_row(grid)
        for line in (self._progress(), *self._outcome):
            whole.add_row(line)
        self._live.update(whole, refresh=True)

    def _progress(self) -> Text:
        filled = BAR * self._done // self._total if self._total else 0
        line = Text(" ")
        if self._live is not None:
            line.append("█" * filled, style="green").append("░" * (BAR - filled) + " ", style="dim")
        line.append(f"{self._done:,}/{self._total:,}")
        if self._stage:
            return line.append(f"   {self._stage}")
        line.append(f"  {self.rate:,.0f} records/s")
        if self._watermark is not None:
            line.append(f"  watermark {datetime.fromtimestamp(self._watermark, UTC):%Y-%m-%d %H:%M}")
        return line if self._lag is None else line.append(f"  lag {self._lag:,}")
