"""Kafka's own `kafka-metadata-quorum` asks a broker of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat_java

QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("quorum") / "data").start()
    yield broker
    broker.stop()


def describe(broker: BrokerProcess, how: str) -> str:
    return run(QUORUM, "--bootstrap-server", broker.bootstrap, "describe", how)


def directory_id(data_dir: Path) -> str:
    lines = (data_dir / "meta.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["directory.id"]


def test_status(alone: BrokerProcess) -> None:
    said = dict(line.split(":", 1) for line in describe(alone, "--status").splitlines() if ":" in line)
    assert said["LeaderId"].strip() == "1" and said["MaxFollowerLag"].strip() == "0"
    assert directory_id(alone.data_dir) in said["CurrentVoters"]


def test_replication(alone: BrokerProcess) -> None:
    said = describe(alone, "--replication")
    assert "Leader" in said and directory_id(alone.data_dir) in said
