"""Prints what the book found as one table: a row for each scene, a column for each client that played."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compatibility.clients import CLIENTS

MARKS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "?"}
NAMES = [client.name for client in CLIENTS]


def cell_of(nodeid: str) -> tuple[str, str] | None:
    """(client, scene) of a test of the book."""
    path, _, test = nodeid.partition("@")[0].partition("::test_")
    scene, _, parameters = test.removesuffix("]").partition("[")
    chapter = path.partition("compatibility/book/test_")[2].removesuffix(".py")
    client = next((name for name in NAMES if name in parameters), None)
    if not chapter or client is None:
        return None
    variant = parameters.replace(client, "").strip("-")
    return client, f"{chapter}: {scene.replace('_', ' ')}{f' ({variant})' if variant else ''}"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    cells: dict[str, dict[str, str]] = {}
    for outcome, mark in MARKS.items():
        for report in terminalreporter.stats.get(outcome, []):
            found = cell_of(report.nodeid)
            if found is not None:
                cells.setdefault(found[1], {})[found[0]] = mark
    if not cells:
        return
    played = [client for client in CLIENTS if any(client.name in row for row in cells.values())]
    width = max(map(len, cells))
    terminalreporter.section("client × scene")
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(client.name for client in played))
    for scene in sorted(cells):
        marks = (f"{cells[scene].get(client.name, '–'):^{len(client.name)}}" for client in played)
        terminalreporter.write_line(f"{scene:{width}}  " + "  ".join(marks))
    for client in played:
        for lacking, why in client.lacks.items():
            terminalreporter.write_line(f"– {client.name}, {lacking}: {why}")
