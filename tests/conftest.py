"""Fixtures that start what others wrote against: real brokers in processes of their own.

With `--on-kafka` they are Apache Kafka's, and only tests that ask for a broker are played: nothing that the
engine does may need ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import maven
from tests.support.apache_kafka import KafkaCluster, KafkaNode, quick
from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess

BROKERS = {"broker", "new_broker", "cluster", "new_cluster"}

Broker = BrokerProcess | KafkaNode
Cluster = BrokerCluster | KafkaCluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--on-kafka", action="store_true", help="play what needs a broker on Apache Kafka's")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("on_kafka"):
        return
    played, left_out = [], []
    for item in items:
        asks = not BROKERS.isdisjoint(getattr(item, "fixturenames", ()))
        (played if asks else left_out).append(item)
    items[:] = played
    config.hook.pytest_deselected(items=left_out)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip is a hole: under CI all that a test may need is installed, so a skip fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and exitstatus == 0 and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def on_kafka(request: pytest.FixtureRequest) -> bool:
    """Whether the brokers of this run are Apache Kafka's."""
    chosen = bool(request.config.getoption("on_kafka"))
    if chosen and not maven.is_installable():
        pytest.skip("Apache Kafka needs a JDK, and Maven to fetch it (Debian: default-jdk-headless, maven)")
    return chosen


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, on_kafka: bool) -> Iterator[Broker]:
    """One broker for all tests that neither stop it nor count on an empty one; use fresh topic names."""
    process = _broker(on_kafka, tmp_path_factory.mktemp("broker") / "data").start()
    yield process
    process.stop()


@pytest.fixture
def new_broker(tmp_path: Path, on_kafka: bool) -> Iterator[Callable[..., Broker]]:
    """A factory of brokers (not started) with directories of their own: `new_broker(*options)`."""
    made: list[Broker] = []

    def make(*options: str) -> Broker:
        made.append(_broker(on_kafka, tmp_path / f"broker-{len(made)}", *options))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture
def new_cluster(tmp_path: Path, on_kafka: bool) -> Iterator[Callable[..., Cluster]]:
    """A factory of clusters (not started): `new_cluster(voters, *options)`."""
    made: list[Cluster] = []

    def make(voters: int, *options: str) -> Cluster:
        made.append(_cluster(on_kafka, tmp_path / f"cluster-{len(made)}", voters, *options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.kill()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, on_kafka: bool) -> Iterator[Cluster]:
    """Three brokers for all tests that harm none of them; use fresh names of topics and groups."""
    brokers = _cluster(on_kafka, tmp_path_factory.mktemp("cluster"), 3).start()
    yield brokers
    brokers.kill()


def _broker(on_kafka: bool, path: Path, *options: str) -> Broker:
    return KafkaNode(path, *quick(1), *options) if on_kafka else BrokerProcess(path, *options)


def _cluster(on_kafka: bool, path: Path, voters: int, *options: str) -> Cluster:
    if on_kafka:
        return KafkaCluster(path, voters, *quick(voters), *options)
    return BrokerCluster(path, voters, *options)


@pytest.fixture
def name() -> str:
    """A name that no other test uses, for topics, groups and apps."""
    return f"t-{uuid4().hex[:12]}"
