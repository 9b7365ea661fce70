"""Every query of Nexmark, in memory, against what SQL says of the same events."""

from __future__ import annotations

import sqlite3

import pytest

from apps.nexmark import queries
from apps.nexmark.generator import events
from tests.apps.nexmark.answers import SQL, answer, answers, rows_of
from tests.apps.nexmark.running import SIDE, run

COUNT = 4_000
STEP_MS = 10
"""So that they fill several windows."""


@pytest.fixture(scope="module")
def database() -> sqlite3.Connection:
    return answers(events(COUNT, step_ms=STEP_MS), SIDE)


def test_every_query_has_an_answer() -> None:
    assert set(queries.QUERIES) == set(SQL)


@pytest.mark.parametrize("query", SQL)
def test_query(query: str, database: sqlite3.Connection) -> None:
    written, _, _ = run(query, events(COUNT, step_ms=STEP_MS))
    right = answer(database, query)
    assert rows_of(query, written) == right
    assert right
