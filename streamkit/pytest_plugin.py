"""Fixtures for the tests of an app; pytest finds them by itself wherever streamkit is installed.

    def test_orders_are_counted(streamkit_app):
        driver = streamkit_app(app)                   # in memory, on a virtual clock, closed with the test
        driver.send(orders, Order(...), ts=5)
        assert driver.read("revenue") == [...]

    def test_end_to_end(streamkit_broker):
        Producer({"bootstrap.servers": streamkit_broker.bootstrap})

Every run of pytest imports this module, also where nothing of streamkit is tested: so it imports nothing but
pytest before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from streamkit.embedded import EmbeddedBroker
    from streamkit.processing.app import App
    from streamkit.processing.testing import TopologyDriver


class StreamkitApp(Protocol):
    """What the fixture `streamkit_app` is, for an annotation."""

    def __call__(self, app: App, *, partitions: Mapping[str, int] | None = None) -> TopologyDriver:
        """The app on a driver of its own: `app.test(partitions=...)`, entered."""
        ...


@pytest.fixture
def streamkit_app() -> Iterator[StreamkitApp]:
    """A factory of drivers: `streamkit_app(app)` runs the app in memory until the end of the test."""
    with ExitStack() as drivers:

        def drive(app: App, *, partitions: Mapping[str, int] | None = None) -> TopologyDriver:
            return drivers.enter_context(app.test(partitions=partitions))

        yield drive


@pytest.fixture(scope="session")
def streamkit_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker for all tests of the session, a process of its own at `.bootstrap`, on a free port. Topics of
    one test are there in the next: use fresh names.
    """
    from streamkit.embedded import EmbeddedBroker

    with EmbeddedBroker(tmp_path_factory.mktemp("streamkit-broker")) as broker:
        yield broker
