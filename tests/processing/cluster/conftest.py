"""The broker that workers are tried on: ours, or the cluster that STREAMKIT_TEST_BOOTSTRAP names."""

from __future__ import annotations

import os

import pytest

from tests.support.worker_process import Outside


@pytest.fixture
def outside(request: pytest.FixtureRequest) -> Outside:
    address = os.environ.get("STREAMKIT_TEST_BOOTSTRAP")
    return Outside(address or request.getfixturevalue("broker").bootstrap)
