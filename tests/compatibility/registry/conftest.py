"""The registry for a whole session, and its tools' absence as the only reason to skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compatibility.registry.apicurio import Apicurio
from tests.support import worker_process
from tests.support.broker_process import BrokerProcess
from tests.support.maven import is_installable

INSTALLED_S = 900  # the first run also fetches it


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.timeout(INSTALLED_S))


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits for a registry that is slow at first."""
    monkeypatch.setattr(worker_process, "WAIT_S", 120.0)


@pytest.fixture(scope="session")
def registry(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    if not is_installable():
        pytest.skip("Apicurio Registry needs a JDK and Maven (Debian: default-jdk-headless, maven)")
    registry = Apicurio(tmp_path_factory.mktemp("registry"), broker.bootstrap)
    try:
        yield registry.start()
    finally:
        registry.kill()
