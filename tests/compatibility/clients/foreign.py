"""The clients of other languages, and what each of them lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.compatibility.clients import toolchains
from tests.compatibility.clients.driver import Driver


class Java(Driver):
    """Apache Kafka's own client."""

    name: ClassVar[str] = "java"
    lacks: ClassVar[Mapping[str, str]] = {}
    toolchain = toolchains.java("java")


class KafkaJs(Driver):
    """kafkajs, the client of most Node programs."""

    name: ClassVar[str] = "kafkajs"
    lacks: ClassVar[Mapping[str, str]] = {
        "places": "kafkajs tells the first offset of each partition alone",
        "static": "kafkajs knows no group.instance.id",
        "cooperative": "kafkajs has eager assignors alone",
        "consumer protocol": "kafkajs knows classic groups alone",
    }
    toolchain = toolchains.node("kafkajs")


class FranzGo(Driver):
    """franz-go, in Go."""

    name: ClassVar[str] = "franz-go"
    lacks: ClassVar[Mapping[str, str]] = {
        "transaction offsets": "franz-go commits in a transaction what its own group session has polled",
    }
    toolchain = toolchains.go("franz-go")


class Sarama(Driver):
    """sarama, in Go."""

    name: ClassVar[str] = "sarama"
    lacks: ClassVar[Mapping[str, str]] = {
        "consumer protocol": "sarama knows classic groups alone",
    }
    toolchain = toolchains.go("sarama")


FOREIGN: tuple[type[Driver], ...] = (Java, KafkaJs, FranzGo, Sarama)
