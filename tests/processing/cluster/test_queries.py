"""A row is had from any worker of the app, wherever its task runs."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.worker_process import Outside, WorkerProcess, eventually

JOB = Path(__file__).with_name("jobs") / "tables.py"
LOOPBACK = "--http", "127.0.0.1:0"
KEYS = [*(f"key-{n}" for n in range(40)), "a/b ü"]


def get(worker: WorkerProcess, path: str) -> tuple[int, Any]:
    """Status and answer."""
    line = next(line for line in worker.log if '"telemetry"' in line)
    port = re.search(r":(\d+)\"", line)
    assert port is not None, line
    connection = HTTPConnection("127.0.0.1", int(port[1]), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert (answer.status == 503) == (answer.getheader("Retry-After") is not None)
    connection.close()
    return answer.status, body


def rows(worker: WorkerProcess, table: str) -> dict[str, Any]:
    answers = {key: get(worker, f"/tables/{table}/{quote(key, safe='')}") for key in KEYS}
    return {key: body["value"] for key, (status, body) in answers.items() if status == 200}


def test_every_worker_answers_for_every_key(outside: Outside, name: str, tmp_path: Path) -> None:
    first, second, open_to_all = (
        WorkerProcess(JOB, outside.bootstrap, *http, cwd=tmp_path, JOB=name)
        for http in (LOOPBACK, LOOPBACK, ("--http", "0.0.0.0:0"))
    )
    with first, second:
        for worker in (first, second):
            worker.said("task started", times=2)
        outside.send(f"{name}-words", KEYS, str)
        wanted = dict.fromkeys(KEYS, 1)
        eventually(lambda: rows(first, "counts") == rows(second, "counts") == wanted)
        assert rows(first, "latest") == rows(second, "latest") == {key: json.dumps(key) for key in KEYS}
        status, body = get(first, "/tables/counts/key-7")
        assert (status, body | {"partition": None}) == (
            200, {"table": "counts", "key": "key-7", "partition": None, "value": 1},
        )  # fmt: skip
        wrong = next(p for p in range(4) if p != body["partition"])
        assert get(second, f"/tables/counts/key-7?partition={wrong}")[0] == 404
        assert get(second, f"/tables/counts/key-7?partition={body['partition']}") == (200, body)
        assert get(second, "/tables/counts/nobody") == (404, {"error": "counts has no row nobody"})
        assert get(first, "/tables/nothing/x") == (404, {"error": "no table nothing; tables: counts, latest"})
        assert get(first, "/tables/counts/key-7?partition=4")[0] == 400
        with open_to_all:
            open_to_all.said("telemetry")
            open_to_all.said("worker started")
            assert get(open_to_all, "/tables/counts/key-7")[0] == 403
            open_to_all.said("task started")
            closed = {key: get(first, f"/tables/counts/{quote(key, safe='')}") for key in KEYS}
            assert {status for status, _ in closed.values()} == {200, 503}
            assert all(
                "serves no tables" in body["error"] for status, body in closed.values() if status == 503
            )
            open_to_all.stop()
        eventually(lambda: rows(first, "counts") == wanted)
        second.kill()
        eventually(
            lambda: "does not answer" in json.dumps([get(first, f"/tables/counts/{k}") for k in KEYS[:20]])
        )
