"""A node that was started alone grows to a cluster of three, and shrinks again, by its commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.load import wait_for
from tests.support.broker_cluster import free_ports
from tests.support.broker_process import BrokerProcess, environment, streamkit


def run(*words: str, at: BrokerProcess) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        streamkit(*words), env=environment(STREAMKIT_BOOTSTRAP=at.bootstrap), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def asked(*words: str, at: BrokerProcess) -> Any:
    done = run(*words, "--json", at=at)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def roles(at: BrokerProcess) -> dict[int, str]:
    return {one["node"]: one["role"] for one in asked("cluster", "quorum", at=at)["nodes"]}


@pytest.fixture
def grown(new_broker: Callable[..., BrokerProcess], tmp_path: Path) -> list[BrokerProcess]:
    """Node 1, which was alone with a topic, and nodes 2 and 3 that joined it and do not vote yet."""
    ports = free_ports(3)
    first = new_broker("--node-id", "1").start()
    assert run("topic", "create", "t", "-p", "3", at=first).returncode == 0
    assert run("topic", "produce", "t", "-v", "from before", at=first).returncode == 0
    assert first.stop() == 0
    first.options += ("--controller-listen", f"127.0.0.1:{ports[0]}")
    first.start()
    founder = ("--voters", f"1@127.0.0.1:{ports[0]}")
    others = [
        new_broker("--node-id", str(n), *founder, "--controller-listen", f"127.0.0.1:{ports[n - 1]}").start()
        for n in (2, 3)
    ]
    return [first, *others]


def controller_of(node: BrokerProcess) -> str:
    return node.options[node.options.index("--controller-listen") + 1]


@pytest.mark.timeout(120)
def test_from_one_to_three_and_back(grown: list[BrokerProcess]) -> None:
    first, second, third = grown
    assert roles(first) == {1: "leader", 2: "observer", 3: "observer"}

    assert asked("cluster", "admit", "2", controller_of(second), at=first) == {"voters": [1, 2]}
    assert asked("cluster", "admit", "3", controller_of(third), at=second) == {"voters": [1, 2, 3]}
    again = run("cluster", "admit", "3", controller_of(third), at=first)
    assert (again.returncode, "voter already" in again.stderr) == (5, True)

    assert run("partition", "move", "t", "--to", "1,2,3", "--yes", at=first).returncode == 0
    first.kill()
    wait_for(lambda: 1 not in {one["leader"] for one in partitions(second)}, "the others lead")
    assert roles(second)[1] == "voter"
    assert run("topic", "produce", "t", "-v", "without the first", at=second).returncode == 0
    told = run("topic", "consume", "t", "-o", ":end", "--raw", at=third)
    assert sorted(told.stdout.splitlines()) == ["from before", "without the first"]
    assert run("cluster", "health", at=second).returncode == 7

    first.start()
    wait_for(lambda: run("cluster", "health", at=second).returncode == 0, "healthy again")
    assert asked("cluster", "dismiss", "1", at=third) == {"voters": [2, 3]}
    assert roles(second)[1] == "observer"
    gone = run("cluster", "dismiss", "1", at=third)
    assert (gone.returncode, "not a voter" in gone.stderr) == (4, True)


def partitions(at: BrokerProcess) -> Any:
    return asked("partition", "list", "t", at=at)


@pytest.mark.timeout(60)
def test_who_may_not_be_admitted_or_dismissed(
    grown: list[BrokerProcess], new_broker: Callable[..., BrokerProcess]
) -> None:
    first, second, _ = grown
    for code, said, words in (
        (4, "node 9 does not follow", ("admit", "9", controller_of(second))),
        (3, "no broker answers", ("admit", "2", "127.0.0.1:1")),
        (2, "not an address", ("admit", "2", "nonsense")),
        (5, "MISMATCHED_ENDPOINT_TYPE", ("admit", "2", second.bootstrap)),
        (5, "the only voter", ("dismiss", "1")),
    ):
        done = run("cluster", *words, at=first)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.splitlines()) <= 3
    assert roles(first) == {1: "leader", 2: "observer", 3: "observer"}
