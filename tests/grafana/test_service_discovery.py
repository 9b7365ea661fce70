"""A real Prometheus, configured as docs/operations.md says, finds the workers of a supervisor."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.prometheus_process import BINARY, PrometheusProcess
from tests.support.worker_process import WorkerProcess

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
APP = 'import streamkit as sk\napp = sk.App("{name}")\napp.stream("{name}-in").to("{name}-out")\n'


def configuration() -> str:
    (found,) = re.findall(r"```yaml\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    return str(found)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        assert response.headers["Content-Type"] == "application/json"
        return json.load(response)


@pytest.mark.skipif(BINARY is None, reason="needs prometheus (Debian's package)")
def test_prometheus_finds_the_workers(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP.format(name=name))
    with WorkerProcess("shop", broker.bootstrap, "-w", "2", "--sd", "127.0.0.1:0", cwd=tmp_path) as workers:
        workers.said("task started")
        url = json.loads(workers.log[workers.lines("service discovery")[0]])["url"]
        listed = get(url)
        assert [group["labels"] for group in listed] == [
            {"__meta_streamkit_app": name, "__meta_streamkit_slot": slot} for slot in ("0", "1")
        ]
        addresses = {"127.0.0.1:9399": url.removeprefix("http://").removesuffix("/sd")}
        with PrometheusProcess(tmp_path / "prometheus", configuration(), addresses) as prometheus:
            for slot in ("0", "1"):
                prometheus.wait_for(f'streamkit_worker_up{{app="{name}",slot="{slot}"}}', at_least=1)
            prometheus.wait_for('up{job="streamkit-supervisor"}', at_least=1)
            started = json.loads(workers.log[workers.lines('"slot":0', '"worker started"')[0]])
            os.kill(started["pid"], signal.SIGKILL)
            prometheus.wait_for(f'streamkit_worker_restarts_total{{app="{name}",slot="0"}}', at_least=1)
            workers.said('"slot":0', '"worker started"', times=2)
            assert get(url.replace("/sd", "/readyz"))["ready"]
            assert get(url) == listed, "it has the port of the one before"
            prometheus.wait_for('changes(process_start_time_seconds{slot="0"}[1m])', at_least=1)
        assert workers.stop() == 0
