"""`topic` as processes on a real broker: success, failure, exit codes, --json."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from confluent_kafka import Producer

from tests.support.broker_process import BrokerProcess, environment, streamkit
from tests.support.command_line import Cli, CliHere

LONG_AGO_MS = 1_356_998_400_000


@pytest.fixture(scope="module")
def cli(broker: BrokerProcess) -> Cli:
    return Cli(broker.bootstrap)


def test_a_topic_from_its_creation_to_its_deletion(cli: Cli, name: str) -> None:
    assert cli.json("topic", "create", name, "-p", "3", "-c", "retention.ms=-1") == {
        "name": name, "partitions": 3,
    }  # fmt: skip
    assert {"name": name, "partitions": 3, "replicas": 1} in cli.json("topic", "list")
    described = cli.json("topic", "describe", name)
    assert described["settings"] == {"retention.ms": "-1"}
    assert described["partitions"] == [
        {"partition": p, "leader": 1, "replicas": [1], "isr": [1], "start": 0, "end": 0} for p in range(3)
    ]
    assert cli.out("topic", "describe", name).splitlines() == [
        "partition  leader  replicas  isr  start  end",
        *(f"{p}          1       1         1    0      0" for p in range(3)),
        "",
        "setting       value",
        "retention.ms  -1",
    ]
    assert cli.json("topic", "delete", name) == {"deleted": [name]}
    assert name not in cli.out("topic", "list")


def test_records_written_are_read_back(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name)
    written = cli.lines(
        "topic", "produce", name, "-K", ":", "-H", "source=test", stdin=b"a:1\nb:\xff\r\nc:x:y\n"
    )
    assert [(r["topic"], r["partition"], r["offset"]) for r in written] == [(name, 0, n) for n in range(3)]
    read = cli.lines("topic", "consume", name, "-o", ":end")
    assert [(r["key"], r["value"]) for r in read] == [("a", "1"), ("b", {"base64": "/w=="}), ("c", "x:y")]
    assert all(r["headers"] == [["source", "test"]] for r in read)
    assert [r["timestamp"] for r in read] == [r["timestamp"] for r in written]
    assert cli.out("topic", "consume", name, "-o", "-1:end") == "0\t2\tc\tx:y\n"
    assert cli.out("topic", "consume", name, "-n", "1", "--raw") == "1\n"


def test_control_characters_of_a_record_reach_no_terminal(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name)
    assert cli.out("topic", "produce", name, "-k", "k\x1b", "-v", "a\tb\x1b[2J") == "1 acknowledged\n"
    assert cli.out("topic", "consume", name, "-o", ":end") == "0\t0\tk\\x1b\ta\\tb\\x1b[2J\n"


def test_ranges_by_offset_and_by_time(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name, "-c", "retention.ms=-1")
    producer = Producer({"bootstrap.servers": cli.bootstrap})
    for day in range(3):
        producer.produce(name, str(day), timestamp=LONG_AGO_MS + day * 86_400_000)
    assert producer.flush(10) == 0
    assert cli.out("topic", "consume", name, "-o", "1:2", "--raw") == "1\n"
    assert cli.out("topic", "consume", name, "-o", "@2013-01-02:end", "--raw") == "1\n2\n"
    assert cli.out("topic", "consume", name, "-o", "@2013-01-01:2013-01-02", "--raw") == "0\n"
    assert cli.out("topic", "consume", name, "-o", "@-1h:end", "--raw") == ""


def test_a_timestamp_past_the_retention_is_remarked(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name)
    done = cli.run("topic", "produce", name, "-v", "old", "-t", str(LONG_AGO_MS))
    assert done.returncode == 0
    assert done.stderr.decode().startswith(
        f"warning: the timestamp {LONG_AGO_MS} is already past the retention"
    )


def test_following_a_topic_until_interrupted(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name)
    command = streamkit("topic", "consume", name, "--json")
    env = environment(STREAMKIT_BOOTSTRAP=cli.bootstrap)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        cli.out("topic", "produce", name, "-v", "one")
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["value"] == "one"
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (4, ["topic", "describe", "no-such"], "error: there is no topic 'no-such'"),
        (4, ["topic", "delete", "no-such"], "error: there is no topic 'no-such'"),
        (4, ["topic", "consume", "no-such"], "error: there is no topic 'no-such'"),
        (2, ["topic", "create", "a b"], "error: "),
        (2, ["topic", "create", "x", "-c", "no.such.setting=1"], "error: "),
        (2, ["topic", "create", "x", "-c", "nothing"], "error: --config 'nothing' needs the form KEY=VALUE"),
        (2, ["topic", "create", "x", "-p", "0"], "error: Invalid value for '-p' / '--partitions'"),
        (2, ["topic", "consume", "x", "-o", "later"], "error: 'later' is not an offset"),
        (2, ["topic", "produce", "x", "-k", "a", "-K", ":"], "error: --key and --key-separator exclude"),
        (2, ["topic", "list", "--nonsense"], "error: No such option"),
        (2, ["topic", "list", "--bootstrap", "nonsense"], "error: 'nonsense' is not an address"),
        (3, ["topic", "list", "--bootstrap", "127.0.0.1:1"], "error: no broker answers at 127.0.0.1:1"),
    ],
)  # fmt: skip
def test_failures_are_short_and_have_their_codes(cli: Cli, code: int, words: list[str], says: str) -> None:
    assert cli.fails(code, *words).startswith(says)


def test_what_to_do_next_is_what_one_would_want(cli: Cli, name: str) -> None:
    here = CliHere(cli.bootstrap)
    here.out("topic", "create", name)
    for words, hint in [
        (["topic", "create", name], f"streamkit topic describe {name}"),
        (["topic", "delete", "no-such"], "streamkit topic list"),
        (["topic", "describe", "no-such"], "streamkit topic create no-such"),
        (["dlq", "redrive", "no-such"], "streamkit dlq list"),
        (["topic", "consume", name, "-o", "earliest"], "did you mean start?"),
    ]:
        assert here.run(*words).stderr.decode().splitlines()[-1] == f"next:  {hint}"


def test_a_topic_grows_and_its_settings_come_and_go(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name, "-p", "2", "-c", "retention.ms=-1")
    settings = ("-c", "retention.ms", "-c", "max.message.bytes=2000")
    assert cli.json("topic", "alter", name, "-p", "3", *settings) == {"name": name, "partitions": 3}
    assert cli.json("topic", "describe", name)["settings"] == {"max.message.bytes": "2000"}
    assert cli.out("topic", "alter", name, "-p", "3") == f"altered {name}\n"
    assert cli.fails(2, "topic", "alter", name, "-p", "1").startswith("error: ")
    assert "nothing to alter" in cli.fails(2, "topic", "alter", name)
    assert "retention.mss" in cli.fails(2, "topic", "alter", name, "-c", "retention.mss=1")


def test_a_misspelled_topic_is_answered_with_the_one_that_was_meant(cli: Cli, name: str) -> None:
    cli.out("topic", "create", f"{name}-of-orders")
    done = cli.run("topic", "describe", f"{name}-of-ordres")
    assert done.returncode == 4
    assert f"next:  did you mean {name}-of-orders?" in done.stderr.decode()


def test_a_topic_that_records_make_is_remarked(cli: Cli, name: str) -> None:
    done = cli.run("topic", "produce", name, "-v", "one")
    assert done.stdout == b"1 acknowledged\n"
    assert done.stderr.decode().startswith(f"made the topic {name}, with 1 partition; ")
    assert cli.out("topic", "produce", name, "-v", "two") == "1 acknowledged\n"


def test_what_exists_already_is_refused(cli: Cli, name: str) -> None:
    cli.out("topic", "create", name)
    assert name in cli.fails(5, "topic", "create", name)
    assert "no partition 7" in cli.fails(2, "topic", "produce", name, "-p", "7", "-v", "x")
    assert "no partition 7" in cli.fails(2, "topic", "consume", name, "-p", "7")
