"""Metrics as Prometheus reads them, and a health check that means it."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamkit.errors import RefusedError
from streamkit.telemetry import exposition
from streamkit.telemetry.exposition import TelemetryServer
from streamkit.telemetry.instruments import Registry


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def server(registry: Registry) -> Iterator[TelemetryServer]:
    with TelemetryServer(registry, host="127.0.0.1", port=0) as server:
        yield server


async def get(server: TelemetryServer, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(_get, server.url + path)


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_every_kind_of_instrument_parses(registry: Registry, server: TelemetryServer) -> None:
    registry.counter("closed_total", "Closed.", labels=("reason",)).labels('a "quoted"\nword').value += 3
    registry.gauge("open", "Open.").labels().value = 7
    histogram = registry.histogram("wait_seconds", "Waiting.", labels=("api",), bounds=(0.1, 1.0))
    for seconds in (0.05, 0.5, 0.6, 9.0):
        histogram.labels("Fetch").observe(seconds)
    status, text = await get(server, "/metrics")
    found = samples(text)
    assert status == 200
    assert found["streamkit_closed_total", (("reason", 'a "quoted"\nword'),)] == 3
    assert found["streamkit_open", ()] == 7
    buckets = [
        found["streamkit_wait_seconds_bucket", (("api", "Fetch"), ("le", le))]
        for le in ("0.1", "1.0", "+Inf")
    ]
    assert buckets == [1, 3, 4]
    assert found["streamkit_wait_seconds_count", (("api", "Fetch"),)] == 4
    assert found["streamkit_wait_seconds_sum", (("api", "Fetch"),)] == pytest.approx(10.15)
    assert found["process_resident_memory_bytes", ()] > 0


async def test_gauges_are_set_on_the_loop_at_each_scrape(registry: Registry, server: TelemetryServer) -> None:
    gauge = registry.gauge("age_seconds", "Age.").labels()

    def measure() -> None:
        assert asyncio.get_running_loop()
        gauge.value += 1

    registry.on_scrape.append(measure)
    await get(server, "/metrics")
    _, text = await get(server, "/metrics")
    assert samples(text)["streamkit_age_seconds", ()] == 2


async def test_a_failing_measurement_is_visible(registry: Registry, server: TelemetryServer) -> None:
    registry.on_scrape.append(lambda: 1 // 0)
    assert await get(server, "/metrics") == (500, "ZeroDivisionError: integer division or modulo by zero\n")


async def test_healthz_is_the_loop_answering(
    server: TelemetryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await get(server, "/healthz") == (200, "ok\n")
    monkeypatch.setattr(exposition, "LOOP_DEADLINE_S", 0.05)
    asking = asyncio.create_task(get(server, "/healthz"))
    await asyncio.sleep(0)  # the thread asks while the loop is stuck in the next line
    time.sleep(0.3)  # noqa: ASYNC251 — a stuck loop is the point
    assert await asking == (503, "the event loop does not answer\n")


async def test_readyz_gives_the_reasons(registry: Registry) -> None:
    reasons = ["not registered yet"]
    with TelemetryServer(registry, host="127.0.0.1", port=0, readiness=lambda: reasons) as server:
        status, body = await get(server, "/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": ["not registered yet"]})
        reasons.clear()
        status, body = await get(server, "/readyz")
        assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})


async def test_other_paths_and_closing(server: TelemetryServer) -> None:
    assert await get(server, "/nothing") == (404, "/metrics /healthz /readyz\n")
    assert (await get(server, "/healthz?verbose=1"))[0] == 200


async def test_a_taken_port_is_one_clear_error(registry: Registry, server: TelemetryServer) -> None:
    with pytest.raises(
        RefusedError, match=f"cannot serve metrics at 127.0.0.1:{server.port}: Address already"
    ):
        TelemetryServer(registry, host="127.0.0.1", port=server.port)
