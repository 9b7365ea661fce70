"""Who plays the book, and where: a client, on one broker that serves the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.compatibility.book.stages import OneBroker, Stage, ThreeBrokers
from tests.compatibility.clients import EVERYDAY, Confluent
from tests.compatibility.clients.foreign import FOREIGN
from tests.compatibility.contract import FEATURES, Client
from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess

SETTINGS = (
    *("--set", "auto.create.topics.enable=false"),
    *("--set", "offsets.topic.num.partitions=4"),
    *("--set", "transaction.state.log.num.partitions=4"),
    *("--set", "log.cleaner.backoff.ms=100"),
    *("--set", "group.consumer.min.heartbeat.interval.ms=100"),
    *("--set", "group.consumer.heartbeat.interval.ms=200"),
)
QUICK_TO_FAIL = (
    *("--set", "broker.heartbeat.interval.ms=200"),
    *("--set", "broker.session.timeout.ms=1000"),
)
PLAYERS = [
    *(pytest.param(one, id=one.name, marks=pytest.mark.everyday) for one in EVERYDAY),
    *(
        pytest.param(one, id=one.name, marks=(pytest.mark.compat_all, pytest.mark.xdist_group(one.name)))
        for one in FOREIGN
    ),
]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Clients of every day play in `make compat`; on three brokers the quickest of them in `make slices`."""
    if item.get_closest_marker("three_brokers"):
        item.add_marker(pytest.mark.xdist_group("three"))
        if not any(quick in item.name for quick in ("confluent-kafka", "aiokafka")):
            item.add_marker(pytest.mark.compat_all)
    elif item.get_closest_marker("everyday"):
        item.add_marker(pytest.mark.compat)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """No client is asked for what it declares to lack: that cell of the table is a dash."""
    lacking = [item for item in items if is_beyond(item)]
    if lacking:
        config.hook.pytest_deselected(items=lacking)
        items[:] = [item for item in items if not is_beyond(item)]


def is_beyond(item: pytest.Item) -> bool:
    needed = {feature for mark in item.iter_markers("needs") for feature in mark.args}
    if not needed:
        return False  # among them all tests that are not in the book
    assert needed <= FEATURES.keys(), f"{item.nodeid} needs what FEATURES does not name"
    played = getattr(item, "callspec", None)
    client = played and (played.params.get("client") or played.params.get("kind"))
    return client is not None and bool(needed & client.lacks.keys())


class Ensemble:
    """The clients that were started, each at each address once."""

    def __init__(self) -> None:
        self._started: dict[tuple[type[Client], str], Any] = {}
        self._stack = ExitStack()

    def get(self, kind: Any, bootstrap: str) -> Any:
        why_not = getattr(kind, "why_not", lambda: None)()
        if why_not is not None:
            pytest.skip(why_not)
        found = self._started.get((kind, bootstrap))
        if found is None:
            found = self._started[kind, bootstrap] = kind(bootstrap)
            self._stack.callback(found.close)
        return found

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def ensemble() -> Iterator[Ensemble]:
    started = Ensemble()
    yield started
    started.close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("stage") / "data", *SETTINGS).start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeBrokers]:
    cluster = BrokerCluster(tmp_path_factory.mktemp("three"), 3, *SETTINGS, *QUICK_TO_FAIL).start()
    yield ThreeBrokers(cluster)
    cluster.kill()


@pytest.fixture(
    params=["one", pytest.param("three", marks=(pytest.mark.three_brokers, pytest.mark.needs("failover")))]
)
def place(request: pytest.FixtureRequest) -> Stage:
    """Where a scene that claims safety is played."""
    if request.param == "one":
        return OneBroker(request.getfixturevalue("stage"))
    return request.getfixturevalue("three_brokers")


@pytest.fixture(params=PLAYERS)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    return request.param


@pytest.fixture(params=PLAYERS)
def client(request: pytest.FixtureRequest, ensemble: Ensemble, stage: BrokerProcess) -> Client:
    return ensemble.get(request.param, stage.bootstrap)


@pytest.fixture(scope="session")
def judge(ensemble: Ensemble, stage: BrokerProcess) -> Confluent:
    """The client that prepares scenes and looks at what became of them."""
    return ensemble.get(Confluent, stage.bootstrap)


@pytest.fixture
def topic(judge: Confluent, name: str) -> str:
    """A topic of three partitions."""
    judge.create_topic(name, 3)
    return name


@pytest.fixture
def line(judge: Confluent, name: str) -> str:
    """A topic of one partition."""
    judge.create_topic(name, 1)
    return name
