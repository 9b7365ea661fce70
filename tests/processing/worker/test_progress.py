"""What those who wait for a restore see: a line that is redrawn, a gauge, and nothing once it is over."""

from __future__ import annotations

import io

import pytest

from streamkit.processing.worker import progress as module
from streamkit.processing.worker.progress import CLEAR, Progress
from streamkit.telemetry.instruments import Registry


def test_the_line_sums_over_stores_and_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REDRAW_S", 0.0)
    now_s = iter(range(100))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(now_s)))
    gauge, terminal = Registry().gauge("remaining", "", ["store", "partition"]), io.StringIO()
    progress = Progress(gauge, terminal)
    progress.began("totals", 0, 600)
    progress.began("totals", 1, 400)
    progress.left("totals", 0, 100)
    assert terminal.getvalue().endswith(" 50% of 1,000 records, 167/s, 3 s left")
    assert gauge.children["totals", "0"].value == 100
    progress.ended("totals", 0)
    assert not terminal.getvalue().endswith(CLEAR), "one is still under way"
    progress.left("totals", 1, 0)
    progress.ended("totals", 1)
    assert terminal.getvalue().endswith(CLEAR)
    assert not gauge.children
