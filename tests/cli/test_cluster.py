"""`cluster` and `partition` as processes on three real brokers: success, failure, exit codes, --json."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.test_running_commands import ended, read_until, running
from tests.support.broker_cluster import BrokerCluster
from tests.support.command_line import Cli

FAST = ("--set", "broker.heartbeat.interval.ms=200", "--set", "broker.session.timeout.ms=1000")
NOWHERE = "127.0.0.1:1"


def eventually(look: Callable[[], bool], seconds: float = 20) -> None:
    end_s = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end_s
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cli(cluster: BrokerCluster) -> Cli:
    return Cli(cluster.bootstrap)


@pytest.fixture
def topic(cli: Cli, name: str) -> str:
    """Two partitions, each on two brokers; gone afterwards."""
    cli.out("topic", "create", name, "-p", "2", "--replication-factor", "2")
    return name


# -- cluster up, down ----------------------------------------------------------------------------------------


def first_of_free_ports(count: int) -> int:
    """A port from which on there are `count` free ones, and as many 10,000 above."""
    for first in range(20_000, 30_000, 7):
        held: list[socket.socket] = []
        try:
            for port in (*range(first, first + count), *range(first + 10_000, first + 10_000 + count)):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
    raise AssertionError("no free ports")


@contextmanager
def up(data_dir: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    with running("cluster", "up", "--data-dir", str(data_dir), *words, cwd=data_dir.parent) as process:
        yield process, read_until(process, "ready: streamkit cluster health")


@pytest.mark.timeout(120)
def test_up_and_down_and_up_again(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{first_of_free_ports(3)}"
    data_dir, cli = tmp_path / "data", Cli(listen)
    where = ("--data-dir", str(data_dir))
    with up(data_dir, "-n", "3", "--listen", listen, *FAST) as (process, lines):
        ready = sorted(line for line in lines if line.startswith("broker "))
        assert [line.split()[1] for line in ready] == ["1", "2", "3"] and len(lines) == 4
        cli.out("topic", "create", "kept")
        assert cli.fails(5, "cluster", "up", *where, "--listen", listen).endswith("already")
        victim = re.search(r"broker 3 ready at \S+, pid (\d+)", ready[2])
        assert victim is not None
        subprocess.run(["kill", "-9", victim[1]], check=True)
        told = read_until(process, "broker 3 was killed by SIGKILL; to have it back: streamkit ")[-1]
        back = told.rpartition("to have it back: streamkit ")[2].split()
        eventually(lambda: cli.run("cluster", "health").returncode == 7)
        with running(*back, cwd=tmp_path) as third:
            read_until(third, "ready")
            eventually(lambda: cli.run("cluster", "health").returncode == 0)
            assert ended(third, signal.SIGTERM) == 0
        assert cli.out("cluster", "down", *where) == f"stopped the cluster in {data_dir}\n"
        assert process.wait(timeout=30) == 0
    assert "no cluster runs on" in cli.fails(4, "cluster", "down", *where)
    refused = cli.fails(5, "cluster", "up", *where, "--listen", "127.0.0.1:19092")
    assert refused == f"error: {data_dir} holds a cluster of 3 brokers from {listen} on"
    with up(data_dir, "-n", "3", "--listen", listen) as (process, _):
        assert [one["name"] for one in cli.json("topic", "list")] == ["kept"]
        assert ended(process, signal.SIGINT) == 130


def test_down_and_up_where_they_cannot_work(cli: Cli, tmp_path: Path) -> None:
    assert "there is no cluster in" in cli.fails(4, "cluster", "down", "--data-dir", str(tmp_path / "none"))
    assert "not" in cli.fails(5, "cluster", "up", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:60000")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1] % 50_000}"
        if taken.getsockname()[1] < 50_000:
            where = ("--data-dir", str(tmp_path), "--listen", listen)
            assert "broker 1 did not start: " in cli.fails(1, "cluster", "up", "-n", "1", *where)


# -- cluster health, info, quorum ----------------------------------------------------------------------------


def test_info_and_quorum(cli: Cli, cluster: BrokerCluster) -> None:
    told = cli.json("cluster", "info")
    assert [(one["broker"], one["address"], one["state"]) for one in told["brokers"]] == [
        (node, cluster[node].bootstrap, "live") for node in (1, 2, 3)
    ]
    quorum = cli.json("cluster", "quorum")
    assert quorum["leader"] == told["controller"]
    assert sorted(one["node"] for one in quorum["nodes"]) == [1, 2, 3]
    assert sorted(one["role"] for one in quorum["nodes"]) == ["leader", "voter", "voter"]
    assert cli.out("cluster", "info").startswith(f"cluster {told['cluster']}, broker {told['controller']} ")
    assert re.match(r"epoch \d+, committed up to \d+\nnode  role ", cli.out("cluster", "quorum"))
    for words in (("health",), ("info",), ("quorum",), ("forget", "1")):
        assert NOWHERE in cli.fails(3, "cluster", *words, "--bootstrap", NOWHERE)


@pytest.mark.timeout(120)
def test_health_names_what_is_wrong(new_cluster: Callable[..., BrokerCluster]) -> None:
    cluster = new_cluster(3, *FAST).start(1, 2)
    cli = Cli(cluster.bootstrap)
    never = cli.run("cluster", "health")
    assert (never.returncode, never.stdout) == (7, b"broker 3 is gone\n"), "a voter that never registered"

    cluster.start(3)
    eventually(lambda: cli.out("cluster", "health") == "healthy: 3 brokers, all partitions in sync\n")
    assert cli.json("cluster", "health")["healthy"] is True
    cli.out("topic", "create", "all", "-r", "3", "-c", "min.insync.replicas=3")
    cli.out("topic", "create", "one", "-r", "1", "-c", "min.insync.replicas=1")
    cli.run("partition", "move", "one", "--to", "3", "--yes")
    assert cluster[3].stop() == 0
    eventually(lambda: b"offline" in cli.run("cluster", "health").stdout)
    said = cli.run("cluster", "health")
    assert (said.returncode, said.stdout.decode().splitlines()) == (
        7,
        [
            "broker 3 is gone",
            "offline: one:0",
            "below min.insync.replicas: all:0",
            "under-replicated: all:0, one:0",
        ],
    )
    seen = cli.run("cluster", "info", "--json").stdout.decode()
    assert '"broker": 3' in seen and '"fenced"' in seen
    assert [one["topic"] for one in cli.json("partition", "list", "--offline")] == ["one"]
    assert {one["topic"] for one in cli.json("partition", "list", "--under-replicated")} == {"all", "one"}
    cluster[2].kill()
    eventually(lambda: cli.run("cluster", "health").stdout.startswith(b"no controller decides\n"))
    assert cli.fails(6, "cluster", "quorum") == "error: the controller did not answer"


# -- topics --------------------------------------------------------------------------------------------------


def test_a_topic_shows_its_replicas(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name, "-p", "3", "--replication-factor", "3")
    for one in cli.json("topic", "describe", name)["partitions"]:
        assert sorted(one["replicas"]) == [1, 2, 3] and one["leader"] == one["replicas"][0]
        assert set(one["isr"]) <= {1, 2, 3}
    assert "only 3 broker(s) are registered" in cli.fails(2, "topic", "create", f"{name}-4", "-r", "4")


# -- partition list, move, elect -----------------------------------------------------------------------------


def place_of(cli: Cli, topic: str) -> list[list[int]]:
    return [one["replicas"] for one in cli.json("partition", "list", topic)]


def test_list(cli: Cli, topic: str) -> None:
    (second,) = cli.json("partition", "list", f"{topic}:1")
    assert (second["topic"], second["partition"]) == (topic, 1)
    assert second["leader"] == second["replicas"][0] and (second["adding"], second["removing"]) == ([], [])
    assert len(cli.out("partition", "list", topic).splitlines()) == 3
    assert cli.json("partition", "list", topic, "--offline") == []
    assert cli.json("partition", "list", topic, "--moving") == []
    assert "has no partition 7" in cli.fails(4, "partition", "list", f"{topic}:7")
    assert "no-such-topic" in cli.fails(4, "partition", "list", "no-such-topic")
    assert "is not TOPIC" in cli.fails(2, "partition", "list", f"{topic}:x")


def test_move_shows_a_plan_carries_it_out_and_waits(cli: Cli, topic: str) -> None:
    before = place_of(cli, topic)
    third = ({1, 2, 3} - set(before[0])).pop()
    target = f"{third},{before[0][0]}"
    plan = cli.run("partition", "move", f"{topic}:0", "--to", target)
    assert (plan.returncode, plan.stderr) == (0, b"that was the plan; --yes carries it out\n")
    assert plan.stdout.decode().splitlines()[1].split()[-1] == target
    assert place_of(cli, topic) == before

    done = cli.run("partition", "move", f"{topic}:0", "--to", target, "--yes")
    assert done.returncode == 0 and done.stderr.endswith(b"1 of 1 partitions have moved\n")
    (moved,) = cli.json("partition", "list", f"{topic}:0")
    assert moved["replicas"] == [third, before[0][0]] and sorted(moved["isr"]) == sorted(moved["replicas"])
    again = cli.run("partition", "move", f"{topic}:0", "--to", target, "--yes")
    assert (again.returncode, again.stderr) == (0, b"nothing to move\n")

    assert cli.run("partition", "move", topic, "--off", str(third), "--yes").returncode == 0
    assert all(third not in replicas for replicas in place_of(cli, topic))


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (2, "one of --to, --off and --cancel", ()),
        (2, "one of --to, --off and --cancel", ("--to", "1", "--cancel")),
        (2, "different broker ids by commas", ("--to", "1,1")),
        (2, "different broker ids by commas", ("--off", "x")),
        (2, "broker 9", ("--to", "1,9", "--yes")),
        (5, "only 1 brokers would stay", ("--off", "1,2")),
    ],
)
def test_moves_that_are_refused(cli: Cli, topic: str, code: int, said: str, words: tuple[str, ...]) -> None:
    failed = cli.run("partition", "move", topic, *words)
    assert failed.returncode == code and said in failed.stderr.decode()
    assert len(failed.stderr.decode().splitlines()) <= 3


@pytest.mark.timeout(120)
def test_a_move_that_cannot_end_is_told_and_cancelled(new_cluster: Callable[..., BrokerCluster]) -> None:
    """To a broker that has just stopped; it is waited for, found among those that move, and called off."""
    cluster = new_cluster(3, *FAST).start()
    cli = Cli(cluster.bootstrap)
    cli.out("topic", "create", "t", "-r", "1", "-c", "min.insync.replicas=1")
    ((home,),) = place_of(cli, "t")
    away = home % 3 + 1
    cluster[away].kill()
    cli = Cli(cluster[home].bootstrap)
    waited = cli.run("partition", "move", "t", "--to", str(away), "--yes", "--timeout", "1")
    assert waited.returncode == 6
    assert waited.stderr.decode().splitlines() == [
        "0 of 1 partitions have moved",
        "error: 1 partitions are still moving after 1 s; they go on by themselves",
        "next:  streamkit partition list --moving",
    ]
    (moving,) = cli.json("partition", "list", "--moving")
    assert (moving["adding"], moving["removing"]) == ([away], [home])
    assert cli.run("partition", "move", "--cancel", "--yes").returncode == 0
    assert cli.json("partition", "list", "--moving") == []
    assert place_of(cli, "t") == [[home]]


def test_a_throttle_is_set_shown_changed_and_lifted(cli: Cli, topic: str) -> None:
    before = place_of(cli, topic)
    third = ({1, 2, 3} - set(before[0])).pop()
    target = f"{third},{before[0][0]}"
    nothing = cli.run("partition", "throttle")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, b"", b"nothing is throttled\n")
    move = ("partition", "move", f"{topic}:0", "--to", target, "--throttle", "2MB", "--yes")

    done = cli.run(*move)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.decode().splitlines()
    assert (lines[0], lines[-1]) == ("throttled to 2 MB/s at each broker", "the throttle is lifted")
    assert cli.json("partition", "throttle")["leader_rates"] == {}

    named = f"{topic}-throttled"
    cli.out("topic", "create", named, "-c", "leader.replication.throttled.replicas=0:1")
    assert "nothing is throttled" in cli.fails(4, "partition", "throttle", "1MB")
    assert "neither a size nor off" in cli.fails(2, "partition", "throttle", "1 apple")
    assert cli.json("partition", "throttle")["leader_replicas"] == {named: ["0:1"]}
    assert cli.out("partition", "throttle").splitlines()[-1].split() == [named, "0:1", "-"]
    assert cli.run("partition", "throttle", "off").stderr == b"nothing is throttled\n"


def test_elect(cli: Cli, topic: str) -> None:
    (first, second), *_ = place_of(cli, topic)
    # The order says who is preferred; the leader stays who it is until it is asked to give way.
    assert cli.run("partition", "move", f"{topic}:0", "--to", f"{second},{first}", "--yes").returncode == 0
    results = cli.json("partition", "elect", f"{topic}:0")
    assert [(one["topic"], one["partition"], one["result"]) for one in results] == [(topic, 0, "elected")]
    eventually(lambda: cli.json("partition", "list", f"{topic}:0")[0]["leader"] == second)
    assert cli.json("partition", "elect", f"{topic}:0")[0]["result"] == "not needed"
    assert "not needed" in cli.out("partition", "elect", topic)
    assert "name the partitions, and add --yes" in cli.fails(2, "partition", "elect", "--unclean")
    assert "has no partition 9" in cli.fails(4, "partition", "elect", f"{topic}:9")


# -- cluster forget ------------------------------------------------------------------------------------------


def test_who_is_not_forgotten(cli: Cli, topic: str) -> None:
    assert "there is no broker 9" in cli.fails(4, "cluster", "forget", "9")
    assert "holds" in cli.fails(5, "cluster", "forget", str(place_of(cli, topic)[0][0]))


@pytest.mark.timeout(60)
def test_a_broker_that_leaves_for_good_is_forgotten(new_cluster: Callable[..., BrokerCluster]) -> None:
    cluster = new_cluster(1, *FAST).start()
    guest = cluster.broker_only(7).start()
    cli = Cli(cluster[1].bootstrap)
    assert cli.fails(5, "cluster", "forget", "7").endswith("broker 7 is live")
    assert "voter of the quorum" in cli.fails(5, "cluster", "forget", "1")
    assert guest.stop() == 0
    eventually(lambda: cli.run("cluster", "health").returncode == 7)
    assert cli.json("cluster", "forget", "7") == {"forgotten": 7}
    assert cli.out("cluster", "health") == "healthy: 1 brokers, all partitions in sync\n"
