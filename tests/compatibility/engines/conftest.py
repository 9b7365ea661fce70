"""Where the engines play, what ends their processes, and their absence as the only reason to skip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.compatibility.book.stages import OneBroker, Stage, ThreeBrokers
from tests.compatibility.engines.program import Program
from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess
from tests.support.maven import is_installable

INSTALLED_S = 1200  # the first run also fetches and builds what it needs
QUICK_TO_FAIL = (
    *("--set", "broker.heartbeat.interval.ms=200"),
    *("--set", "broker.session.timeout.ms=1000"),
)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.timeout(INSTALLED_S))


@pytest.fixture(autouse=True, scope="session")
def _engines() -> None:
    if not is_installable():
        pytest.skip("engines need a JDK and Maven (Debian: default-jdk-headless, maven)")


@pytest.fixture(params=["one", "three"])
def place(
    request: pytest.FixtureRequest, broker: BrokerProcess, new_cluster: Callable[..., BrokerCluster]
) -> Stage:
    """One broker that was told nothing of engines, or three of which a leader dies."""
    if request.param == "one":
        return OneBroker(broker)
    return ThreeBrokers(new_cluster(3, *QUICK_TO_FAIL).start())


@pytest.fixture
def play() -> Iterator[Callable[[Program], Program]]:
    """Takes a program that was started; none outlives the test."""
    with ExitStack() as stack:

        def take(program: Program) -> Program:
            stack.callback(program.kill)
            return program

        yield take
