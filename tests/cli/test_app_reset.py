"""`app reset` where there is nothing to do or a word is wrong; see it at work in tests/processing/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.cli import reset
from streamkit.cli.admin import Cluster
from streamkit.errors import RefusedError
from tests.support.broker_process import BrokerProcess
from tests.support.command_line import Cli, CliHere


@pytest.fixture
def cli(broker: BrokerProcess) -> Cli:
    return CliHere(broker.bootstrap)


@pytest.fixture
def job(name: str, tmp_path: Path) -> str:
    (tmp_path / "job.py").write_text(
        f'import streamkit as sk\napp = sk.App("{name}")\napp.stream("{name}-in").to("{name}-out")\n'
    )
    return str(tmp_path / "job.py")


def test_what_never_ran_has_nothing_to_reset(cli: Cli, name: str, job: str) -> None:
    assert cli.json("app", "reset", job, "--yes") == {
        "app": name,
        "members": [],
        "offsets": [],
        "topics": [],
        "strangers": [],
        "directories": [],
        "done": True,
    }


@pytest.mark.parametrize(
    ("words", "code"), [(["--to", "1:2"], 2), (["--to", "x"], 2), (["--bootstrap", "127.0.0.1:1"], 3)]
)
def test_wrong_words(cli: Cli, job: str, words: list[str], code: int) -> None:
    cli.fails(code, "app", "reset", job, *words)
    cli.fails(4, "app", "reset", "nothing.py")


def test_the_topics_of_a_pattern_are_input(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        f'import streamkit as sk\napp = sk.App("{name}")\n'
        f'app.stream(app.topic(pattern="{name}-in-.*")).to("{name}-out")\n'
    )
    for region in ("eu", "us"):
        cli.out("topic", "create", f"{name}-in-{region}")
        cli.out("topic", "produce", f"{name}-in-{region}", "-v", "1")
    plan = cli.json("app", "reset", str(tmp_path / "job.py"), "--to", "end")
    assert {one["topic"]: one["to"] for one in plan["offsets"]} == {f"{name}-in-eu": 1, f"{name}-in-us": 1}


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> list[list[reset.Member]]:
    """Those of a group, each time that somebody looks; the last ones stay."""
    answers: list[list[reset.Member]] = []
    monkeypatch.setattr(reset, "_members", lambda *_: answers.pop(0) if len(answers) > 1 else answers[0])
    monkeypatch.setattr(reset, "POLL_S", 0.001)
    monkeypatch.setattr(reset, "MISSED_S", 0.05)
    return answers


@pytest.mark.parametrize("alive", [False, True])
def test_over_tls_dead_members_are_waited_for(
    broker: BrokerProcess, members: list[list[reset.Member]], alive: bool
) -> None:
    """Where our own client cannot ask for their removal."""
    cluster = Cluster(broker.bootstrap, {"security.protocol": "SSL"})
    one = reset.Member("m", None, "c", "h")
    members += [[one], [one], [one] if alive else []]
    plan = reset.Plan(
        app="a", members=[one], known=False, before={}, offsets={}, topics=[], strangers=[], directories=[]
    )
    if alive:
        with pytest.raises(RefusedError, match="a still has 1 members after 0 s: its workers are alive"):
            reset.carry_out(cluster, plan, force=True)
    else:
        reset.carry_out(cluster, plan, force=True)
        assert members == [[]]
