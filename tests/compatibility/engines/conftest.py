"""The engines' absence as the only reason to skip."""

from __future__ import annotations

import pytest

from tests.support.maven import is_installable


@pytest.fixture(autouse=True, scope="session")
def _engines() -> None:
    if not is_installable():
        pytest.skip("engines need a JDK and Maven (Debian: default-jdk-headless, maven)")
