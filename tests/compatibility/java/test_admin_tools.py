"""Kafka's `kafka-features`, `kafka-configs` and `kafka-client-metrics` change a broker of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat_java

FEATURES = "org.apache.kafka.tools.FeatureCommand"
CONFIGS = "kafka.admin.ConfigCommand"
CLIENT_METRICS = "org.apache.kafka.tools.ClientMetricsCommand"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("admin") / "data").start()
    yield broker
    broker.stop()


def features(broker: BrokerProcess, *words: str, succeeds: bool = True) -> str:
    return run(FEATURES, "--bootstrap-server", broker.bootstrap, *words, succeeds=succeeds)


def finalized(broker: BrokerProcess) -> dict[str, str]:
    """The level of each feature, as the tool shows it."""
    lines = features(broker, "describe").splitlines()
    cells = (dict(re.findall(r"(\w+): (\S+)", line)) for line in lines)
    return {one["Feature"]: one["FinalizedVersionLevel"] for one in cells if "Feature" in one}


def configs(broker: BrokerProcess, kind: str, name: str | None, *words: str, succeeds: bool = True) -> str:
    entity = ("--entity-default",) if name is None else ("--entity-name", name)
    return run(
        CONFIGS, "--bootstrap-server", broker.bootstrap, "--entity-type", kind, *entity, *words,
        succeeds=succeeds,
    )  # fmt: skip


def test_features_down_and_up_again(alone: BrokerProcess) -> None:
    before = finalized(alone)
    levels = {"group.version": "1", "transaction.version": "2", "kraft.version": "1"}
    assert levels.items() <= before.items()
    assert before["metadata.version"] == "4.2-IV1"
    refused = features(alone, "downgrade", "--feature", "kraft.version=0", succeeds=False)
    assert "Can't downgrade the version of this feature" in refused
    features(alone, "downgrade", "--feature", "group.version=0", "--dry-run")
    assert finalized(alone) == before
    assert "was downgraded to 0" in features(alone, "downgrade", "--feature", "group.version=0")
    assert finalized(alone)["group.version"] == "0"
    features(alone, "upgrade", "--feature", "group.version=1")
    assert finalized(alone) == before


@pytest.mark.parametrize(
    ("kind", "name", "setting", "shown"),
    [
        ("brokers", None, "log.retention.ms=3600001", "log.retention.ms=3600001"),
        ("brokers", "1", "max.connections=12345", "max.connections=12345"),
        ("groups", "g", "consumer.session.timeout.ms=50001", "consumer.session.timeout.ms=50001"),
        ("client-metrics", "m", "interval.ms=1001", "interval.ms=1001"),
        ("broker-loggers", "1", "streamkit.broker=ERROR", "streamkit.broker.server=ERROR"),
    ],
)
def test_configurations_of_each_kind(
    alone: BrokerProcess, kind: str, name: str | None, setting: str, shown: str
) -> None:
    configs(alone, kind, name, "--alter", "--add-config", setting)
    assert shown in configs(alone, kind, name, "--describe")
    configs(alone, kind, name, "--alter", "--delete-config", setting.partition("=")[0])
    assert shown not in configs(alone, kind, name, "--describe")


def test_subscriptions_of_client_metrics(alone: BrokerProcess) -> None:
    def ask(*words: str) -> str:
        return run(CLIENT_METRICS, "--bootstrap-server", alone.bootstrap, *words)

    ask("--alter", "--name", "shop", "--metrics", "a.,b.", "--interval", "5000", "--match", "client_id=x.*")
    assert "shop" in ask("--list")
    described = ask("--describe", "--name", "shop")
    assert "interval.ms=5000" in described and "metrics=a.,b." in described
    ask("--delete", "--name", "shop")
    assert "shop" not in ask("--list")
