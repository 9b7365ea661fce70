"""`streamkit demo` as a process: verified, again and again; and not verified when one input is altered."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess, environment, streamkit

# The whole command, except that one flight of January is told of as a minute later than it was.
ALTERED = """
import sys
from streamkit.cli.frame import run
from streamkit.demo import feed
true_value = feed.value_of
def altered(row):
    if (row["scheduled"], row["flight"]) == ("2013-01-01T10:15Z", "1545"):
        row = {**row, "delay": str(int(row["delay"]) + 1)}
    return true_value(row)
feed.value_of = altered
sys.exit(run(["demo", "--exit", "--json"]))
"""


@pytest.fixture
def port_9092_is_taken() -> Iterator[None]:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", 9092))
            holder.listen()
        except OSError:
            pass  # taken by somebody else: as good
        yield


def run(words: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=directory, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.xdist_group("demo")
@pytest.mark.usefixtures("port_9092_is_taken")
def test_january_is_verified_twice_in_a_row_and_an_altered_flight_is_noticed(tmp_path: Path) -> None:
    first = run(streamkit("demo", "--exit"), tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["broker", "data", "agents", "http", "27,004/27,004", "✓"]
    assert "(9092 is taken)" in lines[0]
    assert lines[1].endswith("27,004 flights, January  (--full = 336,776)")
    assert lines[4].endswith("lag 0")
    assert lines[5] == " ✓ 5,090 windows, 958 late flights and 521 dead letters equal the batch answer"

    second = run(streamkit("demo", "--json"), tmp_path)  # without a terminal it ends by itself
    assert second.returncode == 0
    result = json.loads(second.stdout)
    assert (result["verified"], result["flights"], result["late"]) == (True, 27_004, 958)

    altered = run([sys.executable, "-c", ALTERED], tmp_path)
    assert altered.returncode == 7
    result = json.loads(altered.stdout)
    assert not result["verified"]
    assert (
        result["differences"] == ["window ('UA', 1357034400000): expected (5, 5.2, 33), found (5, 5.4, 33)"]
        or len(result["differences"]) == 1
    )
    assert altered.stderr.splitlines()[-2].startswith(
        "error: 1 differences, first: window ('UA', 1357034400000)"
    )


@pytest.mark.xdist_group("demo")
def test_two_started_at_the_same_instant_both_verify(tmp_path: Path) -> None:
    running = []
    for name in ("one", "other"):
        directory = tmp_path / name
        directory.mkdir()
        running.append(
            subprocess.Popen(
                streamkit("demo", "--exit", "--json"),
                cwd=directory,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    results = [json.loads(demo.communicate(timeout=100)[0]) for demo in running]
    assert [demo.returncode for demo in running] == [0, 0]
    assert all(result["verified"] for result in results)
    assert results[0]["bootstrap"] != results[1]["bootstrap"]


@pytest.mark.xdist_group("demo")
def test_it_runs_twice_on_a_cluster_that_is_there(broker: BrokerProcess, tmp_path: Path) -> None:
    for _ in range(2):
        done = run(streamkit("demo", "--bootstrap", broker.bootstrap, "--exit", "--json"), tmp_path)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["verified"], result["bootstrap"]) == (True, broker.bootstrap)


def test_a_cluster_that_does_not_answer_is_exit_code_3(tmp_path: Path) -> None:
    failed = run(streamkit("demo", "--bootstrap", "127.0.0.1:1"), tmp_path)
    assert failed.returncode == 3
    assert failed.stderr.splitlines()[0] == "error: no broker answers at 127.0.0.1:1"
