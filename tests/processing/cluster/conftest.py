"""Topics and commits on the broker that workers are tried on, as another program sees them."""

from __future__ import annotations

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside


@pytest.fixture
def outside(broker: BrokerProcess) -> Outside:
    return Outside(broker.bootstrap)
