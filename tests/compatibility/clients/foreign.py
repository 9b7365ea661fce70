"""The clients of other languages, and what each of them lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.compatibility.clients.driver import Driver
from tests.support import toolchains

DRIVERS = Path(__file__).parents[1] / "drivers"


class Java(Driver):
    """Apache Kafka's own client."""

    name: ClassVar[str] = "java"
    lacks: ClassVar[Mapping[str, str]] = {}
    toolchain = toolchains.java(DRIVERS / "java")


class KafkaJs(Driver):
    """kafkajs, the client of most Node programs."""

    name: ClassVar[str] = "kafkajs"
    lacks: ClassVar[Mapping[str, str]] = {
        "places": "kafkajs tells the first offset of each partition alone",
        "static": "kafkajs knows no group.instance.id",
        "cooperative": "kafkajs has eager assignors alone",
        "consumer protocol": "kafkajs knows classic groups alone",
    }
    toolchain = toolchains.node(DRIVERS / "kafkajs")


class FranzGo(Driver):
    """franz-go, in Go."""

    name: ClassVar[str] = "franz-go"
    lacks: ClassVar[Mapping[str, str]] = {
        "transaction offsets": "franz-go commits in a transaction what its own group session has polled",
    }
    toolchain = toolchains.go(DRIVERS / "franz-go")


class Sarama(Driver):
    """sarama, in Go."""

    name: ClassVar[str] = "sarama"
    lacks: ClassVar[Mapping[str, str]] = {
        "consumer protocol": "sarama knows classic groups alone",
    }
    toolchain = toolchains.go(DRIVERS / "sarama")


class Platformatic(Driver):
    """@platformatic/kafka, for Node: of all clients it insists on the newest versions."""

    name: ClassVar[str] = "platformatic"
    lacks: ClassVar[Mapping[str, str]] = {
        "places": "@platformatic/kafka tells the first offset of each partition alone",
        "seek": "a stream of @platformatic/kafka is told where to begin, once",
        "pause": "a stream of @platformatic/kafka is paused whole",
        "cooperative": "@platformatic/kafka 1 has eager assignors alone",
        "broker's time": "@platformatic/kafka does not look at the batch's timestamp type",
        "failover": "@platformatic/kafka 1 keeps asking the broker that is gone",
        "isolation": "@platformatic/kafka 1 leaves out one aborted transaction of a producer in each fetch",
        "succession": "@platformatic/kafka says that it is producer 0, which fences it, on Kafka as here",
        "snappy": "@platformatic/kafka 1 does not read snappy as Java's client frames it",
        "zstd": "@platformatic/kafka takes zstd from Node itself, which has it from 22.15 on",
        "transaction timeout": "@platformatic/kafka has no setting for it",
        "transaction offsets": "@platformatic/kafka commits in a transaction what its own consumer read",
    }
    toolchain = toolchains.node(DRIVERS / "platformatic")


FOREIGN: tuple[type[Driver], ...] = (Java, KafkaJs, FranzGo, Sarama, Platformatic)
