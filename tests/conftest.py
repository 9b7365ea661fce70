"""Fixtures that start what others wrote against: real brokers in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.broker_process import BrokerProcess


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
def name() -> str:
    """A name that no other test uses, for topics, groups and apps."""
    return f"t-{uuid4().hex[:12]}"
