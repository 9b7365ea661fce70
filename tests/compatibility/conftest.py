"""Prints what the matrix found as one table: a row for each client, a column for each feature."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compatibility.clients import CLIENTS

MARKS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "–"}
NAMES = {client.name for client in CLIENTS}


def cell_of(nodeid: str) -> tuple[str, str] | None:
    """(client, feature) of a test of the matrix."""
    scene, _, parameters = nodeid.partition("test_matrix.py::test_")[2].partition("[")
    client = next((name for name in NAMES if parameters.startswith(name)), None)
    if client is None:
        return None
    variant = parameters.removeprefix(client).strip("-]")
    return client, f"{scene.replace('_', ' ')}{': ' + variant if variant else ''}"


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
    clients = [client.name for client in CLIENTS]
    width = max(map(len, cells))
    terminalreporter.section("client × feature")
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(clients))
    for feature in sorted(cells):
        marks = (f"{cells[feature].get(client, '–'):^{len(client)}}" for client in clients)
        terminalreporter.write_line(f"{feature:{width}}  " + "  ".join(marks))
    for client in CLIENTS:
        for lacking, why in client.lacks.items():
            terminalreporter.write_line(f"{client.name} lacks {lacking}: {why}")
