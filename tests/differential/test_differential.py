"""Whatever a client asks, it gets Kafka's answer, or one that docs/differences.md explains."""

from __future__ import annotations

import pytest

from streamkit.broker.server.routes import ROUTES
from streamkit.protocol.api import ApiKey
from tests.differential import coverage
from tests.differential.judge import Judge
from tests.differential.known_differences import MAX_ROWS

pytestmark = [pytest.mark.differential, pytest.mark.timeout(600)]

ADVERTISED = {
    route.api: range(route.min_version, route.max_version + 1)
    for route in sorted(ROUTES, key=lambda r: r.api)
}


@pytest.mark.parametrize("api", list(ADVERTISED), ids=lambda api: api.name.lower())
async def test_answers_as_kafka_does(judge: Judge, api: ApiKey) -> None:
    unlisted = await judge.judge(api)
    assert not unlisted, f"{len(unlisted)} differences:\n" + "\n".join(map(str, unlisted))


def test_every_version_that_we_advertise_is_judged(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    played = {api: numbers for api, numbers in ADVERTISED.items() if api in judge.played}
    with capsys.disabled():
        print("\n" + coverage.table(judge.counts, played))
        print(coverage.figures(judge))
    assert not (gaps := list(coverage.gaps(judge.counts, played))), "\n".join(gaps)


def test_the_list_of_differences_is_short_and_true(judge: Judge) -> None:
    assert len(judge.known.rows) <= MAX_ROWS
    played = {api.name for api in judge.played}
    unseen = judge.known.unseen(played, whole=judge.played == set(ADVERTISED))
    assert not unseen, f"listed, but the answers are the same: {unseen}"
    assert all(row.reason for row in judge.known.rows)


async def test_what_kafka_serves_and_we_do_not_is_listed(judge: Judge) -> None:
    kafka, ours = await judge.advertised()
    assert set(judge.known.unserved) == kafka - ours
