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


FOREIGN: tuple[type[Driver], ...] = (Java,)
