"""Brokers for a whole module, and the tools' absence as the only reason to skip."""

from __future__ import annotations

import pytest

from tests.compatibility.java.kafka_tools import is_installable


@pytest.fixture(autouse=True, scope="session")
def _tools() -> None:
    if not is_installable():
        pytest.skip("Kafka's tools need a JDK and Maven (Debian: default-jdk-headless, maven)")
