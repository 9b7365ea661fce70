"""What the book's tables rest on: features have names, and the versions that are told are those that play."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.compatibility.clients import CLIENTS
from tests.compatibility.clients.foreign import DRIVERS
from tests.compatibility.contract import FEATURES, Client

TOLD = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
PYTHON = ("confluent-kafka", "aiokafka", "kafka-python")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_what_a_client_lacks_is_a_feature(client: type[Client]) -> None:
    assert client.lacks.keys() <= FEATURES.keys()


def test_every_feature_is_needed_by_a_scene() -> None:
    book = "".join(path.read_text() for path in (Path(__file__).parent / "book").glob("*.py"))
    compressions = {"snappy", "lz4", "zstd"}  # needed by the parameters of COMPRESSIONS
    assert not [name for name in FEATURES.keys() - compressions if f'"{name}"' not in book]


def test_the_documentation_tells_the_versions_that_play() -> None:
    pinned = {name: ".".join(version(name).split(".")[:2]) for name in PYTHON}
    pinned["Apache Kafka's own client"] = re.findall(
        r"kafka-clients</artifactId>\s*<version>([^<]+)", (DRIVERS / "java" / "pom.xml").read_text()
    )[0]
    for driver, package in (("kafkajs", "kafkajs"), ("platformatic", "@platformatic/kafka")):
        pinned[package] = json.loads((DRIVERS / driver / "package.json").read_text())["dependencies"][package]
    for driver, module in (("franz-go", "github.com/twmb/franz-go"), ("sarama", "github.com/IBM/sarama")):
        modules = (DRIVERS / driver / "go.mod").read_text()
        pinned[driver] = re.findall(rf"{module} v(\S+)", modules)[0]
    for name, number in pinned.items():
        assert re.search(rf"^\| {re.escape(name)}[^|]*\| {re.escape(number)} \|", TOLD, re.MULTILINE), (
            name,
            number,
        )


@pytest.mark.parametrize("driver", ["kafkajs", "platformatic"])
def test_lock_files_name_no_registry(driver: str) -> None:
    assert "resolved" not in (DRIVERS / driver / "package-lock.json").read_text()
