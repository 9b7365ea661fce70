"""`app reset` on a real broker, with real workers: what it shows, what it refuses, how an app begins anew."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.support.command_line import Cli, CliHere
from tests.support.worker_process import Outside, WorkerProcess

JOB = """
import streamkit as sk

app = sk.App("{name}", commit_interval="50ms", kafka={{"session.timeout.ms": 30000}})
totals = app.table("totals", default=int)

@app.agent(app.topic("{name}-in", value=int).by(lambda n: n % 2), sink="{name}-out")
def count(n: int, record: sk.Record[int]) -> int:
    totals[record.key] += 1
    return totals[record.key]
"""


@pytest.fixture
def job(name: str, tmp_path: Path) -> str:
    (tmp_path / "job.py").write_text(JOB.format(name=name))
    return str(tmp_path / "job.py")


def test_an_app_begins_anew(outside: Outside, name: str, job: str, tmp_path: Path) -> None:
    cli: Cli = CliHere(outside.bootstrap)
    worker = partial(WorkerProcess, job, outside.bootstrap, "--state-dir", "state", cwd=tmp_path)
    outside.create(f"{name}-in", 2)
    outside.send(f"{name}-in", range(10), str)
    through = f"{name}-{name}-in-group-by-repartition"
    own = [f"{name}-replies-0123456789ab", f"{name}-totals-changelog", through]
    outside.create(own[0])
    outside.create(f"{name}-eu-totals-changelog")  # the app t-….-eu's
    state = str(tmp_path / "state")
    words = ("app", "reset", job, "--state-dir", state)
    with worker() as running:
        outside.caught_up(name, f"{name}-in")
        outside.caught_up(name, through)
        before = outside.committed(name, f"{name}-in")
        plan = cli.json(*words)
        assert (plan["app"], plan["topics"], plan["done"]) == (name, sorted(own), False)
        assert plan["strangers"] == [f"{name}-eu-totals-changelog"]
        assert plan["directories"] == [f"{state}/{name}/slot-0"]
        moves = {(one["topic"], one["partition"]): (one["from"], one["to"]) for one in plan["offsets"]}
        assert [moves[f"{name}-in", partition] for partition in (0, 1)] == [(end, 0) for end in before]
        assert moves[through, 0][1] is None, "forgotten"
        assert len(plan["members"]) == 1
        assert "in use by another worker" in cli.fails(5, *words, "--yes")
        elsewhere = ("app", "reset", job)
        assert "has 1 members; stop its workers first" in cli.fails(5, *elsewhere, "--yes")
        assert "have joined again" in cli.fails(5, *elsewhere, "--yes", "--force")
        outside.send(f"{name}-in", range(10), str)
        outside.caught_up(name, f"{name}-in")
        outside.caught_up(name, through)
        running.kill()
    assert "has 1 members" in cli.fails(5, *words, "--yes"), "the group misses the worker in 30 s"
    assert cli.json(*words, "--yes", "--force")["done"]
    assert not {*own} & outside.topics()
    assert not Path(state, name).exists()
    assert outside.committed(name, f"{name}-in") == [0, 0]
    outside.create(f"{name}-seen")  # the app's own topics are where they were
    assert len(outside.read(f"{name}-in")) == 20
    with worker() as running:
        outside.caught_up(name, f"{name}-in")
        outside.caught_up(name, through)
        assert running.stop() == 0
    counts = Counter(count for _, count, _ in outside.read(f"{name}-out"))
    assert counts == Counter(dict.fromkeys(range(1, 11), 4)), "each twice, of two keys"
    told = cli.run(*words, "--yes", "--to", "end").stdout.decode().splitlines()
    assert told[0].split() == ["what", "name", "now", "then"]
    assert [line.split()[0] for line in told[1:]] == ["offset"] * (2 + outside.partitions(f"{name}-in")) + [
        "topic",
        "topic",
        "state",
    ]
    assert outside.committed(name, f"{name}-in") == outside.ends(f"{name}-in")
