"""The Grafana dashboards, from the tables below: `python grafana/generate.py` writes dashboards/*.json.

The JSON files are committed, so that Grafana needs nothing but them; a test says when they are out of date,
and another runs every query here against a real Prometheus that scrapes a broker and a worker at work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, HEIGHT = 24, 8
INTERVAL = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """A graph, or with `kind="stat"` a number. `queries` are (PromQL, legend) pairs."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str
    kind: str = "timeseries"
    stacked: bool = False
    width: int = 8


def rate(metric: str, by: str = "", where: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate(streamkit_{metric}{{{where}}}[{INTERVAL}]))"


def quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    grouping = f"le, {by}" if by else "le"
    buckets = f"rate(streamkit_{metric}_bucket{{{where}}}[{INTERVAL}])"
    return f"histogram_quantile({q}, sum by ({grouping}) ({buckets}))"


BROKER = 'instance=~"$instance"'
PROCESS = 'job="streamkit-broker", instance=~"$instance"'
FAILED = rate("broker_failed_requests_total", "api, error", BROKER)
BROKER_PANELS = (
    Panel(
        "Up", "short", ((f"min(up{{{PROCESS}}})", "up"),),
        "1 while every broker answers Prometheus.", kind="stat", width=4,
    ),
    Panel(
        "Offline partitions", "short", ((f"sum(streamkit_offline_partitions{{{BROKER}}})", "offline"),),
        "Partitions that cannot be served. Anything above 0 needs somebody now.", kind="stat", width=4,
    ),
    Panel(
        "Under min ISR", "short",
        ((f"sum(streamkit_under_min_isr_partitions{{{BROKER}}})", "under min ISR"),),
        "Partitions that refuse acks=all.", kind="stat", width=4,
    ),
    Panel(
        "Partitions", "short", ((f"sum by (role) (streamkit_partitions{{{BROKER}}})", "{{role}}"),),
        "Partitions on these brokers, by role.", kind="stat", width=4,
    ),
    Panel(
        "Connections", "short", ((f"sum(streamkit_connections{{{BROKER}}})", "open"),),
        "Open connections.", kind="stat", width=4,
    ),
    Panel(
        "Log size", "bytes", ((f"sum(streamkit_log_size_bytes{{{BROKER}}})", "bytes"),),
        "Bytes in all logs.", kind="stat", width=4,
    ),
    Panel(
        "Records in", "wps", ((rate("broker_records_in_total", "topic", BROKER), "{{topic}}"),),
        "Records appended a second, by topic.",
    ),
    Panel(
        "Bytes in", "Bps", ((rate("broker_bytes_in_total", "topic", BROKER), "{{topic}}"),),
        "Bytes appended a second, by topic.",
    ),
    Panel(
        "Bytes out", "Bps", ((rate("broker_bytes_out_total", "topic", BROKER), "{{topic}}"),),
        "Bytes fetched a second, by topic.",
    ),
    Panel(
        "Requests", "reqps", ((rate("request_duration_seconds_count", "api", BROKER), "{{api}}"),),
        "Requests a second, by API.",
    ),
    Panel(
        "Request time, p99", "s",
        ((quantile(0.99, "request_duration_seconds", "api", BROKER), "{{api}}"),),
        "99 of 100 requests are answered within this time. A Fetch waits for records by design.",
    ),
    Panel(
        "Time by phase", "s", ((rate("request_phase_seconds_sum", "phase", BROKER), "{{phase}}"),),
        "Seconds a second that requests spend in each phase: where a slow request is slow.", stacked=True,
    ),
    Panel(
        "Errors answered", "reqps",
        ((f"{FAILED} or vector(0)", "{{api}} {{error}}"),),
        "Errors a second, by API and error. An error that never happened has no series: that is 0.",
    ),
    Panel(
        "Requests in flight", "short",
        ((f"sum by (instance) (streamkit_inflight_requests{{{BROKER}}})", "{{instance}}"),),
        "Requests received and not answered yet, parked Fetches included.",
    ),
    Panel(
        "Rebalances", "short",
        ((f"sum by (group) (increase(streamkit_rebalances_total{{{BROKER}}}[{INTERVAL}]))", "{{group}}"),),
        "Rebalances, by consumer group. A steady stream of them is a storm.",
    ),
    Panel(
        "Log size by topic", "bytes",
        ((f"sum by (topic) (streamkit_log_size_bytes{{{BROKER}}})", "{{topic}}"),),
        "Bytes of each topic's logs.", stacked=True,
    ),
    Panel(
        "CPU", "percentunit",
        ((f"rate(process_cpu_seconds_total{{{PROCESS}}}[{INTERVAL}])", "{{instance}}"),),
        "Of one core. A broker is one process and one core.",
    ),
    Panel(
        "Memory", "bytes", ((f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"),),
        "Resident memory.",
    ),
    Panel(
        "Open files", "short",
        (
            (f"process_open_fds{{{PROCESS}}}", "{{instance}}"),
            (f"process_max_fds{{{PROCESS}}}", "limit {{instance}}"),
        ),
        "File descriptors and their limit.",
    ),
)  # fmt: skip

APP = 'app=~"$app"'
WORKER = 'job="streamkit-worker"'
APP_PANELS = (
    Panel(
        "Workers", "short", ((f"sum(streamkit_worker_up{{{APP}}})", "up"),),
        "Workers that run.", kind="stat", width=4,
    ),
    Panel(
        "Lag", "short", ((f"sum(streamkit_source_lag_records{{{APP}}})", "records"),),
        "Records between what is processed and the end of the topics.", kind="stat", width=4,
    ),
    Panel(
        "Watermark", "dateTimeAsIso",
        ((f"1000 * min(streamkit_watermark_timestamp_seconds{{{APP}}})", "watermark"),),
        "How far event time has come, in the slowest task.", kind="stat", width=4,
    ),
    Panel(
        "Since the last commit", "s",
        ((f"time() - min(streamkit_last_commit_timestamp_seconds{{{APP}}} > 0)", "age"),),
        "Grows while commits fail or are put off.", kind="stat", width=4,
    ),
    Panel(
        "Late records", "short", ((f"sum(streamkit_late_records_total{{{APP}}})", "late"),),
        "Records that came after their window had closed.", kind="stat", width=4,
    ),
    Panel(
        "Dead letters", "short", ((f"sum(streamkit_dlq_records_total{{{APP}}})", "dead letters"),),
        "Records that were sent to a dead-letter topic.", kind="stat", width=4,
    ),
    Panel(
        "Records", "wps", ((rate("agent_records_total", "agent, result", APP), "{{agent}} {{result}}"),),
        "Records a second, by operator and by what became of them.",
    ),
    Panel(
        "Lag by partition", "short",
        ((f"sum by (topic, partition) (streamkit_source_lag_records{{{APP}}})", "{{topic}}-{{partition}}"),),
        "One partition far above the others: skewed keys, or a slow worker.",
    ),
    Panel(
        "Time of the loop", "percentunit", ((rate("agent_time_seconds_total", "state", APP), "{{state}}"),),
        "Busy with records, idle, or blocked by outputs that are not acknowledged.", stacked=True,
    ),
    Panel(
        "Latency, end to end", "s",
        (
            (quantile(0.5, "e2e_latency_seconds", where=APP), "p50"),
            (quantile(0.99, "e2e_latency_seconds", where=APP), "p99"),
        ),
        "From a record's timestamp to its processing. Replayed history is as late as it is old.",
    ),
    Panel(
        "Time of one slice, p99", "s", ((quantile(0.99, "agent_batch_seconds", where=APP), "p99"),),
        "How long the loop works on records before it looks at anything else.",
    ),
    Panel(
        "Lateness of the loop", "s",
        ((f"max by (instance) (streamkit_event_loop_lag_seconds{{{WORKER}}})", "{{instance}}"),),
        "How late timers run. A plain function that blocks shows here.",
    ),
    Panel(
        "Windows", "short",
        (
            (f"sum(streamkit_windows_open{{{APP}}})", "open"),
            (f"sum(streamkit_windows_closed_total{{{APP}}})", "closed, in all"),
        ),
        "Windows by key. Open ones that only grow: the watermark stands still.",
    ),
    Panel(
        "Late records a second", "wps", ((rate("late_records_total", "action", APP), "{{action}}"),),
        "By what became of them.",
    ),
    Panel(
        "Dead letters a second", "wps",
        ((rate("dlq_records_total", "agent, error_class", APP), "{{agent}} {{error_class}}"),),
        "By the operator that failed.",
    ),
    Panel(
        "Commits", "ops", ((rate("commits_total", "result", APP), "{{result}}"),),
        "Commits a second, by how they ended.",
    ),
    Panel(
        "Time of a commit, p99", "s", ((quantile(0.99, "commit_seconds", where=APP), "p99"),),
        "From the freeze to durable offsets.",
    ),
    Panel(
        "State", "short",
        (
            (f"sum by (store) (streamkit_store_keys{{{APP}}})", "{{store}}"),
            (rate("changelog_records_total", where=APP), "changes a second"),
        ),
        "Entries of each store, and how fast they change.",
    ),
    Panel(
        "CPU", "percentunit",
        ((f"rate(process_cpu_seconds_total{{{WORKER}}}[{INTERVAL}])", "{{instance}}"),),
        "Of one core, for each worker process.", width=12,
    ),
    Panel(
        "Memory", "bytes", ((f"process_resident_memory_bytes{{{WORKER}}}", "{{instance}}"),),
        "Resident memory of each worker process.", width=12,
    ),
)  # fmt: skip


def dashboard(uid: str, title: str, panels: tuple[Panel, ...], variable: tuple[str, str]) -> dict[str, Any]:
    """A whole dashboard. `variable` is the name of its filter and the query for the choices."""
    name, query = variable
    return {
        "uid": uid,
        "title": title,
        "tags": ["streamkit"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                {
                    "name": name,
                    "type": "query",
                    "datasource": DATASOURCE,
                    "query": {"query": query, "refId": "variable"},
                    "refresh": 2,
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "current": {"text": ["All"], "value": ["$__all"]},
                },
            ]
        },
        "panels": place(panels),
    }


def place(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """The panels side by side, row under row."""
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        height = HEIGHT // 2 if panel.kind == "stat" else HEIGHT
        placed.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height}))
        x += panel.width
        if x >= COLUMNS:
            x, y = 0, y + height
    return placed


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    stacking = {"mode": "normal" if panel.stacked else "none"}
    custom = {"stacking": stacking, "fillOpacity": 25 if panel.stacked else 8}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(panel.queries)
        ],
    }


DASHBOARDS = {
    "broker.json": dashboard(
        "streamkit-broker", "streamkit · broker", BROKER_PANELS,
        ("instance", "label_values(streamkit_build_info, instance)"),
    ),
    "app.json": dashboard(
        "streamkit-app", "streamkit · app", APP_PANELS, ("app", "label_values(streamkit_worker_up, app)")
    ),
}  # fmt: skip


def rendered(name: str) -> str:
    return json.dumps(DASHBOARDS[name], indent=2) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (DIRECTORY / name).write_text(rendered(name))
