"""SEMANTICS P8: inputs that meet in one state have equal partition counts, or the start names both topics."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import Outside, WorkerProcess

JOB = """
import streamkit as sk

app = sk.App("{name}")
a, b = (app.topic(f"{name}-{{side}}", key=str, value=int) for side in "ab")
both = app.stream(a).merge(app.stream(b))
both.window(sk.tumbling("1s")).aggregate(n=sk.Count()).to("{name}-counts")
"""


def test_merged_streams_with_state_name_both_topics() -> None:
    app = sk.App("unequal")
    a, b = app.topic("a", key=str, value=int, partitions=4), app.topic("b", key=str, value=int, partitions=3)
    app.stream(a).merge(app.stream(b)).window(sk.tumbling("1s")).aggregate(n=sk.Count())
    with pytest.raises(UsageError, match=r"a \(4 partitions\), b \(3 partitions\)"):
        app.test()


def test_without_state_they_may_differ() -> None:
    app = sk.App("stateless")
    a, b = app.topic("a", value=int, partitions=4), app.topic("b", value=int, partitions=3)
    app.stream(a).merge(app.stream(b)).to("out")
    with app.test() as t:
        t.send(a, 1)
        t.send(b, 2)
        assert sorted(t.read("out")) == [1, 2]


def test_a_worker_refuses_what_the_cluster_has(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-a", 4)
    outside.create(f"{name}-b", 3)
    (tmp_path / "job.py").write_text(JOB.format(name=name))
    with WorkerProcess("job.py", broker.bootstrap, cwd=tmp_path) as worker:
        worker.said(f"{name}-a (4 partitions), {name}-b (3 partitions)")
        assert worker.wait() == 2
    with WorkerProcess("job.py", broker.bootstrap, "-w", "2", cwd=tmp_path) as workers:
        workers.said(f"{name}-a (4 partitions), {name}-b (3 partitions)")
        assert workers.wait() == 2


def test_streams_with_equal_keys_can_be_merged_wherever_the_keys_come_from() -> None:
    app = sk.App("merged")
    left = app.stream(app.topic("left", value=int)).group_by(lambda n: n % 2, key=int)
    right = app.stream(app.topic("right", value=int)).group_by(lambda n: n % 2, key=int)
    left.merge(right).window(sk.tumbling("1m")).aggregate(n=sk.Count()).to("out")
    with app.test() as t:
        t.send("left", 2, ts=0)
        t.send("right", 4, ts=1)
        t.advance_to(120)
        assert [window["n"] for window in t.read("out")] == [2]
