"""`broker`, `worker`, `dev` and `app` as processes: they start, say so, end as told, and fail briefly."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker_process import REPOSITORY, BrokerProcess, environment, streamkit

WORDCOUNT = str(REPOSITORY / "apps" / "wordcount.py")


def run(*words: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        streamkit(*words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def running(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        streamkit(*words), cwd=cwd, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], said: str) -> list[str]:
    """Its lines on stderr up to the one that has these words."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if said in line:
            return lines
    raise AssertionError(f"it never said {said!r}:\n{''.join(lines)}")


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_worker_drains_at_a_signal(
    broker: BrokerProcess, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with running("worker", WORDCOUNT, "--bootstrap", broker.bootstrap, cwd=tmp_path) as worker:
        read_until(worker, "worker started")
        assert ended(worker, number) == code


def test_a_supervisor_runs_and_ends_its_workers(broker: BrokerProcess, tmp_path: Path) -> None:
    with running(
        "worker", f"{WORDCOUNT}:app", "-w", "2", "--bootstrap", broker.bootstrap, cwd=tmp_path
    ) as two:
        read_until(two, '"worker started","app"')
        read_until(two, '"worker started","app"')
        assert ended(two, signal.SIGTERM) == 0


@pytest.mark.xdist_group("demo")
def test_dev_brings_a_broker_and_starts_again_at_a_change(tmp_path: Path) -> None:
    assert run("new", "shop", cwd=tmp_path).returncode == 0
    shop = tmp_path / "shop"
    with running("dev", "app.py", cwd=shop) as dev:
        lines = read_until(dev, "worker started")
        assert lines[0].startswith("broker   embedded · 127.0.0.1:")
        (shop / "app.py").write_text((shop / "app.py").read_text() + "\n")
        read_until(dev, "reload   app.py")
        read_until(dev, "worker started")
        assert ended(dev, signal.SIGTERM) == 0


def test_an_app_is_drawn() -> None:
    assert run("app", "graph", "apps.wordcount:app").stdout.startswith("flowchart LR\n")


def test_an_app_is_explained_as_text_and_as_json() -> None:
    text = run("app", "explain", "apps.wordcount:app")
    assert (text.returncode, text.stderr) == (0, "")
    assert "word-counts" in text.stdout
    explained = run("app", "explain", "apps.wordcount:app", "--json")
    assert "wordcount-counts-changelog" in json.dumps(json.loads(explained.stdout))


def test_a_broker_starts_and_stops(new_broker: Callable[..., BrokerProcess]) -> None:
    assert new_broker().start().stop() == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (4, ["worker", "no_such_module:app"]),
        (4, ["worker", "no_such_file.py"]),
        (4, ["worker", "apps.wordcount:no_such_app"]),
        (3, ["worker", "apps.wordcount:app", "--bootstrap", "127.0.0.1:1"]),
        (2, ["worker", "apps.wordcount:app", "-w", "0"]),
        (2, ["worker", "apps.wordcount:app", "--http", "nonsense"]),
        (4, ["dev", "no_such_file.py"]),
        (4, ["app", "explain", "no_such_module"]),
        (2, ["app", "explain"]),
        (2, ["broker", "start", "--set", "num.partitons=3"]),
        (2, ["broker", "start", "--listen", "nonsense"]),
        (2, ["broker", "start", "--listen", "0.0.0.0:9092"]),
        (2, ["broker", "start", "--voters", "1@127.0.0.1"]),
        (2, ["broker", "start", "--voters", "1@127.0.0.1:9193,2@127.0.0.1:9293"]),
        (2, ["broker", "format", "--cluster-id", "nonsense"]),
        (2, ["nonsense"]),
    ],
)
def test_failures_are_short_and_have_their_codes(code: int, words: list[str]) -> None:
    failed = run(*words)
    lines = failed.stderr.splitlines()
    assert (failed.returncode, failed.stdout) == (code, ""), lines
    assert lines[0].startswith("error: ")
    assert len(lines) <= 3
    assert lines[-1].startswith("next:  ")


def test_a_directory_is_formatted_once(tmp_path: Path) -> None:
    words = ("broker", "format", "--node-id", "3", "--data-dir", str(tmp_path / "data"))
    done = run(*words, "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg")
    assert done.stdout == f"formatted {tmp_path}/data for node 3 of cluster MkU3OEVBNTcwNTJENDM2Qg\n"
    again = run(*words)
    assert again.returncode == 5
    assert "is formatted already" in again.stderr


def test_a_broker_refuses_a_taken_port(broker: BrokerProcess, tmp_path: Path) -> None:
    failed = run("broker", "start", "--listen", broker.bootstrap, "--data-dir", str(tmp_path / "data"))
    assert failed.returncode == 5
    assert len(failed.stderr.splitlines()) <= 3
    assert not (tmp_path / "data").exists()
