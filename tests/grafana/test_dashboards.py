"""The dashboards: committed as generated, laid out without overlap, and every panel shows something."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamkit.demo import batch, feed, stage, verify
from tests.support.broker_process import BrokerProcess
from tests.support.prometheus_process import BINARY, PrometheusProcess

REPOSITORY = Path(__file__).resolve().parents[2]
GRAFANA = REPOSITORY / "grafana"
NAMES = ("app.json", "broker.json")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAFANA / "dashboards" / name).read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """(panel, PromQL) of every query of both dashboards, with Grafana's variables filled in."""
    for name in NAMES:
        for panel in load(name)["panels"]:
            for target in panel["targets"]:
                filled = target["expr"].replace("$__rate_interval", "20s")
                yield f"{name} {panel['title']}", re.sub(r"\$\w+", ".*", filled)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_file_is_what_the_generator_writes(name: str) -> None:
    committed = (GRAFANA / "dashboards" / name).read_text()
    assert committed == generator().rendered(name), "run: python grafana/generate.py"


@pytest.mark.parametrize("name", NAMES)
def test_panels_are_distinct_documented_and_do_not_overlap(name: str) -> None:
    dashboard = load(name)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    assert dashboard["uid"] == f"streamkit-{name.removesuffix('.json')}"


@pytest.mark.xdist_group("demo")
@pytest.mark.skipif(BINARY is None, reason="needs prometheus (Debian's package)")
def test_every_panel_shows_data_and_the_figures_are_the_jobs_own(
    tmp_path: Path, new_broker: Callable[..., BrokerProcess]
) -> None:
    """During flights, a real Prometheus scrapes the broker and the worker."""
    broker = new_broker("--http", "127.0.0.1:0").start()
    broker_http = broker.http
    rows = list(feed.rows())
    expected = batch.answer(rows)
    topics = stage.Topics(broker.bootstrap)
    topics.prepare()
    with stage.Worker(broker.bootstrap, tmp_path / "worker.log") as worker:
        addresses = {"127.0.0.1:6065": broker_http, "127.0.0.1:6066": worker.address}
        configuration = (GRAFANA / "prometheus" / "prometheus.yml").read_text()
        with PrometheusProcess(tmp_path / "prometheus", configuration, addresses) as prometheus:
            # Half before the first scrape, half after: so that every counter is seen to move.
            feed.send(rows[: len(rows) // 2], broker.bootstrap)
            stage.wait_until_done(topics, worker, lambda: None)
            prometheus.wait_for('up{job=~"streamkit-.*"}', at_least=2)
            prometheus.wait_for("streamkit_late_records_total", at_least=1)
            feed.send(rows[len(rows) // 2 :], broker.bootstrap)
            stage.wait_until_done(topics, worker, lambda: None)
            prometheus.wait_for('streamkit_broker_records_in_total{topic="demo.flights"}', at_least=len(rows))
            empty = waits_for_data(prometheus)
        assert not empty, f"no data: {empty}"
        compare_with_the_job(figures_at(broker_http), figures_at(worker.address), expected, len(rows))
    differences = verify.differences(expected, verify.collect(*stage.answers(topics)))
    assert differences == []


def waits_for_data(prometheus: PrometheusProcess, timeout_s: float = 15) -> list[tuple[str, str]]:
    """Panels that show nothing, however long one waits."""
    deadline = time.monotonic() + timeout_s
    empty = list(queries())
    while empty and time.monotonic() < deadline:
        empty = [(panel, promql) for panel, promql in empty if not prometheus.numbers(promql)]
        if empty:
            time.sleep(0.25)
    return empty


Figures = dict[str, list[tuple[dict[str, str], float]]]


def figures_at(address: str) -> Figures:
    """/metrics by the name of the sample, as Prometheus's own parser reads it."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as response:
        text = response.read().decode()
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def compare_with_the_job(broker: Figures, worker: Figures, expected: batch.Answer, flights: int) -> None:
    def total(figures: Figures, name: str, **labels: str) -> float:
        return sum(value for found, value in figures[f"streamkit_{name}"] if labels.items() <= found.items())

    late, cancelled = expected.late.total(), expected.cancelled.total()
    assert total(broker, "broker_records_in_total", topic="demo.flights") == flights
    assert total(broker, "broker_records_in_total", topic="demo.late") == late
    assert total(broker, "broker_records_in_total", topic="demo.cancelled") == cancelled
    for stream in ("demo.flights-source", "demo.flights-source-2"):
        assert total(worker, "agent_records_total", agent=stream, result="read") == flights
    assert total(worker, "agent_records_total", agent="departures", result="dead_letter") == cancelled
    assert total(worker, "agent_records_total", agent="departures", result="ok") == flights - cancelled
    dead = {"agent": "departures", "error_class": "CancelledFlightError"}
    assert total(worker, "dlq_records_total", **dead) == cancelled
    assert total(worker, "late_records_total", app="demo", action="sent_on") == late
    assert total(worker, "windows_closed_total", app="demo") + total(worker, "windows_open") == len(
        expected.windows
    )
    assert total(worker, "agent_queue_records", app="demo") == 0
    assert total(worker, "commits_total", app="demo", result="ok") > 0
    assert total(worker, "agent_time_seconds_total", app="demo", state="busy") > 0
    assert total(worker, "source_lag_records") == 0
