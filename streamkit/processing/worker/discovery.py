"""Where the workers of one supervisor are scraped: Prometheus's HTTP service discovery, `GET /sd`.

All workers are named, also one that is down at the moment: a target that vanishes raises no alert, one that
does not answer does. Their addresses stay what they are for as long as the supervisor runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from streamkit.processing.worker.supervisor import Supervisor
from streamkit.telemetry.exposition import JSON, Reply, TelemetryServer

PATH = "/sd"

log = structlog.get_logger("supervisor")


@contextmanager
def discovery(
    app_id: str, workers: Sequence[str], address: tuple[str, int], supervisor: Supervisor
) -> Iterator[None]:
    """Serve /sd at `address`, and the supervisor's own /metrics, /healthz and /readyz. `workers`: HOST:PORT
    by slot.
    """
    body = targets(app_id, workers)
    host, port = address
    with TelemetryServer(supervisor.registry, host=host, port=port, readiness=supervisor.not_ready) as server:

        def reply(*_: object) -> Reply:
            return 200, JSON, body

        server.rooms[PATH] = reply
        log.info("service discovery", url=server.url + PATH)
        yield


def targets(app_id: str, workers: Sequence[str]) -> bytes:
    """What Prometheus expects: a group for each worker, since each has labels of its own."""
    groups = [
        {"targets": [address], "labels": {"__meta_streamkit_app": app_id, "__meta_streamkit_slot": str(slot)}}
        for slot, address in enumerate(workers)
    ]
    return json.dumps(groups).encode()
