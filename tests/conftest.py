"""Fixtures that start what others wrote against: real brokers in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip is a hole: under CI all that a test may need is installed, so a skip fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and exitstatus == 0 and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all tests that neither stop it nor count on an empty one; use fresh topic names."""
    process = BrokerProcess(tmp_path_factory.mktemp("broker") / "data").start()
    yield process
    process.stop()


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """A factory of brokers (not started) with directories of their own: `new_broker(*options)`."""
    made: list[BrokerProcess] = []

    def make(*options: str) -> BrokerProcess:
        made.append(BrokerProcess(tmp_path / f"broker-{len(made)}", *options))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[..., BrokerCluster]]:
    """A factory of clusters (not started): `new_cluster(voters, *options)`."""
    made: list[BrokerCluster] = []

    def make(voters: int, *options: str) -> BrokerCluster:
        made.append(BrokerCluster(tmp_path / f"cluster-{len(made)}", voters, *options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.kill()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerCluster]:
    """Three brokers for all tests that harm none of them; use fresh names of topics and groups."""
    brokers = BrokerCluster(tmp_path_factory.mktemp("cluster"), 3).start()
    yield brokers
    brokers.kill()


@pytest.fixture
def name() -> str:
    """A name that no other test uses, for topics, groups and apps."""
    return f"t-{uuid4().hex[:12]}"
