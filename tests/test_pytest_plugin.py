"""The fixtures in a pytest of their own, and that the plugin costs those nothing who do not use it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support.broker_process import environment

pytest_plugins = ["pytester"]

PLUGIN = "streamkit.pytest_plugin"
WORDS = ("-p", PLUGIN, "-p", "no:cacheprovider")
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"

APP = """
import os
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

import streamkit as sk

app = sk.App("shop")
orders = app.topic("orders", key=str, value=int)
app.stream(orders).map(lambda n: n + 1).to("more")
drivers, brokers = [], []


def test_a_driver_for_each_call(streamkit_app):
    first, second = streamkit_app(app), streamkit_app(app, partitions={"orders": 3})
    first.send(orders, 1, key="a")
    second.send(orders, 2, key="a", partition=2)
    assert (first.read("more"), second.read("more")) == ([2], [3])
    drivers.extend([first, second])


def test_they_are_closed():
    for driver in drivers:
        with pytest.raises(RuntimeError, match="closed"):
            driver.send(orders, 1)


def test_the_app_can_be_driven_again(streamkit_app):
    driver = streamkit_app(app)
    driver.send(orders, 1, key="a")
    assert driver.read("more") == [2]


def test_a_real_broker(streamkit_broker):
    producer = Producer({"bootstrap.servers": streamkit_broker.bootstrap})
    producer.produce("topic", b"value")
    assert producer.flush(20) == 0
    brokers.append(streamkit_broker)
    Path("pid").write_text(str(streamkit_broker.pid))


def test_the_same_in_all_tests(streamkit_broker):
    assert brokers == [streamkit_broker]
    consumer = Consumer(
        {"bootstrap.servers": streamkit_broker.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["topic"])
    message = consumer.poll(20)
    assert message.error() is None and message.value() == b"value"
    consumer.close()
"""


@pytest.fixture(autouse=True)
def nothing_but_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_drivers_end_with_their_tests_and_the_broker_with_the_session(pytester: pytest.Pytester) -> None:
    """And who asks for the plugin twice gets it once."""
    pytester.makeconftest(f'pytest_plugins = ["{PLUGIN}"]')
    pytester.makepyfile(APP)
    pytester.runpytest_subprocess(*WORDS).assert_outcomes(passed=5)
    assert not Path(f"/proc/{(pytester.path / 'pid').read_text()}").exists()


def test_installing_the_package_installs_the_plugin() -> None:
    entry_points = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]
    assert entry_points == {"pytest11": {PLUGIN: PLUGIN}}


def test_loading_it_loads_nothing_else(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
import sys

def test_what_is_loaded():
    assert "{PLUGIN}" in sys.modules
    loaded = {{name for name in sys.modules if name.startswith("streamkit")}}
    assert loaded == {{"streamkit", "{PLUGIN}"}}
    assert not {{"confluent_kafka", "msgspec", "structlog", "rich", "click"}} & sys.modules.keys()
"""
    )
    pytester.runpytest_subprocess(*WORDS).assert_outcomes(passed=1)
