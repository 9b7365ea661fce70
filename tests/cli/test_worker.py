"""`worker`, `dev` and `app explain` as processes: success, failure, signals, children that crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess, environment, streamkit
from tests.support.worker_process import Outside, WorkerProcess, eventually

APP = """
import streamkit as sk
app = sk.App("{name}", commit_interval="100ms")
app.stream(app.topic("{name}-in", partitions=2)).map(lambda v: v + {add}).to("{name}-out")
"""


def write_app(directory: Path, name: str, add: int = 1) -> Path:
    path = directory / "shop.py"
    path.write_text(APP.format(name=name, add=add))
    return path


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        streamkit(*words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", ["shop", "shop:app", "shop.py", "shop.py:app"])
def test_explain_finds_the_app(tmp_path: Path, words: str) -> None:
    write_app(tmp_path, "shop")
    assert "shop-in" in run("app", "explain", words, cwd=tmp_path).stdout
    done = run("app", "explain", words, "--json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)


@pytest.mark.parametrize(
    ("words", "code"),
    [("shpo", 4), ("shpo.py", 4), ("shop:other", 4), ("empty.py", 4), ("broken.py", 2)],
)
def test_a_wrong_app_is_two_lines_and_a_code(tmp_path: Path, words: str, code: int) -> None:
    write_app(tmp_path, "shop")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0")
    done = run("worker", words, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (code, 2)
    assert lines[0].startswith("error: ") and lines[1].startswith("next:  ")


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    write_app(tmp_path, "shop")
    done = run("worker", "shop", "--bootstrap", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 3
    assert "no broker answers at 127.0.0.1:1" in done.stderr


def test_another_partition_count_is_refused(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    write_app(tmp_path, name)
    Outside(broker.bootstrap).create(f"{name}-in", 5)
    done = run("worker", "shop", "--bootstrap", broker.bootstrap, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{name}-in has 5 partitions" in done.stderr and "2" in done.stderr


def test_the_supervisor_restarts_what_is_killed(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    write_app(tmp_path, name)
    outside = Outside(broker.bootstrap)
    with WorkerProcess("shop", broker.bootstrap, "-w", "2", cwd=tmp_path) as workers:
        workers.said("task started", times=2)
        started = json.loads(workers.log[workers.lines('"slot":0', '"worker started"')[0]])
        os.kill(started["pid"], signal.SIGKILL)
        workers.said('"slot":0', '"worker started"', times=2)
        outside.send(f"{name}-in", range(10), str)
        outside.caught_up(name, f"{name}-in")
        assert workers.stop() == 0


def test_workers_end_with_their_supervisor(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    write_app(tmp_path, name)
    with WorkerProcess("shop", broker.bootstrap, "-w", "2", cwd=tmp_path) as workers:
        workers.said('"worker started"', '"slot"', times=2)
        pids = [json.loads(workers.log[i])["pid"] for i in workers.lines('"worker started"', '"slot"')]
        workers.said("task started")
        workers.kill()
    eventually(lambda: not any(_alive(pid) for pid in pids), lambda: f"{pids} live on")


def test_ctrl_c_ends_several_workers_as_it_ends_one(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    write_app(tmp_path, name)
    with WorkerProcess("shop", broker.bootstrap, "-w", "2", cwd=tmp_path) as workers:
        workers.said('"worker started"', '"app"', times=2)
        assert workers.stop(signal.SIGINT) == 130


def test_an_agent_that_fails_ends_its_worker_at_once_and_names_the_line(
    broker: BrokerProcess, name: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        f"import streamkit as sk\napp = sk.App('{name}')\n"
        f"@app.agent(app.topic('{name}-in', value=dict))\n"
        "async def double(order):\n    return order['count'] * 2\n"
    )
    Outside(broker.bootstrap).send(f"{name}-in", [{"name": "ann"}])
    with WorkerProcess("shop.py", broker.bootstrap, cwd=tmp_path) as worker:
        assert worker.wait() == 1
        worker.said(f"error: double failed at {name}-in-0, offset 0: KeyError: 'count' (shop.py, line 5)")
        assert not worker.lines("past the deadline")


def test_a_setting_that_librdkafka_does_not_know_is_the_users(broker: BrokerProcess, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import streamkit as sk\napp = sk.App('x', kafka={'fetch.min.byte': 5})\napp.stream('i').to('o')\n"
    )
    done = run("worker", "shop.py", "--bootstrap", broker.bootstrap, cwd=tmp_path)
    assert done.returncode == 2
    assert 'App(kafka=...): No such configuration property: "fetch.min.byte"' in done.stderr


def test_dev_brings_a_broker_and_reloads(name: str, tmp_path: Path) -> None:
    path = write_app(tmp_path, name)
    dev = WorkerProcess(path, "", cwd=tmp_path)
    dev.command = streamkit("dev", str(path))
    with dev:
        dev.said("broker   embedded")
        address = dev.log[dev.lines("broker   embedded")[0]].split(" · ")[1].split()[0]
        dev.said("task started", times=2)
        outside = Outside(address)
        outside.send(f"{name}-in", [0])
        outside.caught_up(name, f"{name}-in")
        write_app(tmp_path, name, add=100)
        dev.said("reload   shop.py").said("task started", times=4)
        outside.send(f"{name}-in", [0])
        outside.caught_up(name, f"{name}-in")
        assert sorted(value for _, value, _ in outside.read(f"{name}-out")) == [1, 100]
        assert dev.stop() == 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
