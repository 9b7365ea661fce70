"""`dlq` on a real broker: letters are listed, and go home as they were, each once, by choice too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer

import streamkit as sk
from streamkit.cli import redrive
from streamkit.cli.admin import Cluster
from streamkit.errors import RefusedError
from streamkit.processing.error_policy import dead_letter_headers
from streamkit.processing.testing import StoredRecord
from tests.processing.cluster.members import running, until_outside
from tests.support.broker_process import BrokerProcess
from tests.support.command_line import Cli, CliHere
from tests.support.worker_process import Outside

BEGAN_S = int(time.time()) - 3_600


def told_at(second: int) -> str:
    return datetime.fromtimestamp(BEGAN_S + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def cli(broker: BrokerProcess) -> Cli:
    return CliHere(broker.bootstrap)


def app_of(name: str, *, mended: bool) -> sk.App:
    app = sk.App(name, commit_interval="50ms")

    @app.agent(app.topic(f"{name}-in", key=str, value=int), sink=f"{name}-out", on_error=sk.DeadLetter(name))
    async def check(n: int) -> int:
        if not mended and n < 0:
            raise ValueError(f"{n} is negative")
        return 100 // n

    return app


async def test_letters_go_home(cli: Cli, broker: BrokerProcess, name: str) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-in", 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for second, number in enumerate((-4, 0, 5, -10, 0)):
        value, time_ms = json.dumps(number), (BEGAN_S + second) * 1000
        place = {"partition": 1, "timestamp": time_ms, "headers": [("h", b"1")]}
        producer.produce(f"{name}-in", value, key=f"k{number}", **place)
    producer.flush(10)
    async with running(app_of(name, mended=False), broker.bootstrap):
        await until_outside(lambda: outside.committed(name, f"{name}-in")[1] == 5)
    causes = cli.json("dlq", "show", name)
    assert [(c["letters"], c["operator"], c["error"], c["source"]) for c in causes] == [
        (2, "check", "ValueError", f"{name}-in"),
        (2, "check", "ZeroDivisionError", f"{name}-in"),
    ]
    (listed,) = [row for row in cli.json("dlq", "list") if row["topic"] == name]
    assert (listed["operator"], listed["letters"]) == ("check", 4)
    assert listed["errors"] == {"ValueError": 2, "ZeroDivisionError": 2}
    assert listed["oldest"] == told_at(0) and listed["newest"] == told_at(4)
    told = {"topic": name, "letters": 2, "to": {f"{name}-in": 2}, "left": 2, "homeless": 0}
    words = ("dlq", "redrive", name, "--error", "ValueError")
    assert cli.json(*words) == {**told, "redriven": False}
    assert outside.ends(f"{name}-in") == [0, 5], "it was only told what would be done"
    assert cli.json(*words, "--yes") == {**told, "redriven": True}
    records = outside.read(f"{name}-in")[-2:]
    assert records == [(b"k-4", -4, [("h", b"1")]), (b"k-10", -10, [("h", b"1")])]
    async with running(app_of(name, mended=True), broker.bootstrap):
        await until_outside(lambda: outside.committed(name, f"{name}-in")[1] >= 7)
    assert [value for _, value, _ in outside.read(f"{name}-out")] == [20, -25, -10]
    told = cli.out("dlq", "list", name).splitlines()
    assert [line.split() for line in told] == [
        ["topic", "operator", "letters", "oldest", "newest", "errors"],
        [name, "check", "2", told_at(1), told_at(4), "ZeroDivisionError", "2"],
    ]
    assert cli.out("dlq", "redrive", name, "--yes") == f"2 redriven to {name}-in\n"
    assert len(outside.read(f"{name}-in")) == 9
    assert cli.json("dlq", "show", name) == []
    assert cli.json("dlq", "list", name) == []


def letters(broker: BrokerProcess, name: str, values: Iterable[int]) -> None:
    """Dead letters of records of the topic {name}-in."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for value in values:
        failed = StoredRecord((f"{name}-in", 0, value), (None, b""), 1)
        headers = dead_letter_headers(failed, "check", KeyError("k"))
        producer.produce(name, json.dumps(value), headers=headers)
    assert producer.flush(10) == 0


def test_an_interrupted_run_repeats_nothing(
    cli: Cli, broker: BrokerProcess, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-in")
    outside.create(name)
    letters(broker, name, range(25))
    monkeypatch.setattr(redrive, "COMMIT_EVERY", 10)
    drive = redrive.Redrive(Cluster(broker.bootstrap), name, redrive.Choice())
    write, written = drive._notes.write, list[int]()

    def fail_in_the_second(*words: Any) -> None:
        written.append(words[2])
        write(*words)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(drive._notes, "write", fail_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        drive.send()
    assert [value for _, value, _ in outside.read(f"{name}-in")] == list(range(10))
    assert cli.json("dlq", "redrive", name, "--yes")["letters"] == 15
    assert [value for _, value, _ in outside.read(f"{name}-in")] == list(range(25))
    assert name not in {group["name"] for group in cli.json("group", "list")}, "which would be forgotten"


def test_of_two_runs_the_later_goes_on(
    broker: BrokerProcess, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-in")
    outside.create(name)
    letters(broker, name, range(25))
    monkeypatch.setattr(redrive, "COMMIT_EVERY", 10)
    former, later = (redrive.Redrive(Cluster(broker.bootstrap), name, redrive.Choice()) for _ in range(2))
    write = former._notes.write

    def overtaken(*words: Any) -> None:
        later.send()
        write(*words)

    monkeypatch.setattr(former._notes, "write", overtaken)
    with pytest.raises(RefusedError, match="another redrive"):
        former.send()
    assert [value for _, value, _ in outside.read(f"{name}-in")] == list(range(25))


def test_a_topic_made_again_has_letters_of_its_own(cli: Cli, broker: BrokerProcess, name: str) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-in")
    for _ in range(2):
        outside.create(name)
        letters(broker, name, [1, 2])
        assert cli.json("dlq", "redrive", name, "--yes")["letters"] == 2
        cli.out("topic", "delete", name)
    assert [value for _, value, _ in outside.read(f"{name}-in")] == [1, 2, 1, 2]


def test_a_topic_that_is_not_there(cli: Cli, name: str) -> None:
    assert "no topic" in cli.fails(4, "dlq", "redrive", name)
    assert "no topic" in cli.fails(4, "dlq", "list", name)


def test_letters_of_a_transaction_are_found_behind_its_marker(
    cli: Cli, broker: BrokerProcess, name: str
) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    failed = StoredRecord((f"{name}-in", 0, 7), (b"k", b"v"), 1)
    producer.produce(name, b"v", headers=dead_letter_headers(failed, "check", KeyError("k")))
    producer.commit_transaction(30)
    (listed,) = [row for row in cli.json("dlq", "list") if row["topic"] == name]
    assert (listed["operator"], listed["letters"], listed["errors"]) == ("check", 1, {"KeyError": 1})
