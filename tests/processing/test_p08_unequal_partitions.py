"""SEMANTICS P8: inputs that meet in one state have equal partition counts. A stream is moved to where it
meets the others; where nothing can be moved, the start names both topics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.topology import Plan
from tests.support.broker_process import BrokerProcess
from tests.support.command_line import Cli
from tests.support.worker_process import Outside, WorkerProcess

TABLES = """
import streamkit as sk

app = sk.App("{name}")
a, b = (app.table_from(app.topic(f"{name}-{{side}}", key=str, value=int)) for side in "ab")
a.join(b, lambda x, y: [x, y]).to("{name}-both")
"""
KEYS = [f"key-{n}" for n in range(12)]


def topics(app: sk.App, **partitions: int) -> list[sk.Topic[str, int]]:
    return [app.topic(name, key=str, value=int, partitions=count) for name, count in partitions.items()]


def internal(plan: Plan) -> dict[str, int | None]:
    return {topic.name: topic.partitions for topic in plan.topics if topic.internal}


def planned(app: sk.App, found: Mapping[str, int] | None = None) -> dict[str, int | None]:
    return internal(app.topology().plan(found or {}))


# -- moved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_of_two_joined_streams_the_one_with_fewer_partitions_is_moved(guarantee: Any) -> None:
    app = sk.App("unequal", guarantee=guarantee)
    a, b = topics(app, a=4, b=3)
    app.stream(a).join(app.stream(b), lambda x, y: (x, y), within="10s").to("out")
    assert planned(app) == {"unequal-a-join-right-repartition": 4, "unequal-a-join-changelog": 4}
    with app.test() as t:
        for n, key in enumerate(KEYS):
            t.send(a, n, key=key, ts=1)
            t.send(b, -n, key=key, ts=2, headers=[("from", b"b")])
        t.restart()
        t.send(b, 99, key=KEYS[0], ts=3)
        assert t.read("out") == [*([n, -n] for n in range(len(KEYS))), [0, 99]]
        moved = t.records("unequal-a-join-right-repartition")
        assert [r.timestamp_ms for r in moved if r.value is not None] == [2000] * len(KEYS) + [3000]


@pytest.mark.parametrize("partitions", [2, 7])
def test_a_stream_goes_to_the_table_that_it_looks_rows_up_in(partitions: int) -> None:
    app = sk.App("lookups")
    orders, users = topics(app, orders=partitions, users=3)
    app.stream(orders).join(app.table_from(users, name="rows"), lambda order, user: order + user).to("out")
    assert planned(app) == {"lookups-orders-join-left-repartition": 3, "lookups-rows-changelog": 3}
    with app.test() as t:
        for n, key in enumerate(KEYS):
            t.send(users, 100 * n, key=key, ts=0)
            t.send(orders, n, key=key, ts=1)
        assert sorted(t.read("out")) == [101 * n for n in range(len(KEYS))]


def test_merged_streams_are_moved_where_state_comes_after() -> None:
    app = sk.App("merged")
    a, b, c = topics(app, a=4, b=3, c=4)
    both = app.stream(a).merge(app.stream(b), app.stream(c))
    both.window(sk.tumbling("1m")).aggregate(n=sk.Sum(), name="sums").to("out")
    assert planned(app) == {"merged-a-merge-b-source-repartition": 4, "merged-sums-changelog": 4}
    with app.test() as t:
        for topic in (a, b, c):
            t.send_all(topic, [(1, key, 1) for key in KEYS])
        t.advance_to(120)
        assert [window["n"] for window in t.read("out")] == [3] * len(KEYS)


def test_a_stateless_operator_before_a_merge_changes_no_name() -> None:
    def names(*, more: bool) -> set[str]:
        app = sk.App("merged")
        a, b, c = topics(app, a=2, b=4, c=2)
        low, high = app.stream(c).branch(lambda n: n < 5, lambda _: True)
        first = app.stream(a).filter(bool) if more else app.stream(a)
        first.merge(app.stream(b), low, high, name="all").deduplicate("1m", name="once").to("out")
        plan = app.topology().plan({})
        again = app.topology().plan({topic.name: topic.partitions or 1 for topic in plan.topics})
        assert internal(again) == internal(plan)
        return set(internal(plan))

    moved = {f"merged-all-{side}-repartition" for side in ("a-source", "c-branch-0", "c-branch-1")}
    assert names(more=False) == names(more=True) == {*moved, "merged-once-changelog"}


def test_without_state_they_may_differ() -> None:
    app = sk.App("stateless")
    a, b = app.topic("a", value=int, partitions=4), app.topic("b", value=int, partitions=3)
    app.stream(a).merge(app.stream(b)).to("out")
    assert planned(app) == {}
    with app.test() as t:
        t.send(a, 1)
        t.send(b, 2)
        assert sorted(t.read("out")) == [1, 2]


def test_a_group_by_has_as_many_partitions_as_what_it_meets() -> None:
    app = sk.App("grouped")
    views = app.topic("views", value=str, partitions=2)
    (users,) = topics(app, users=5)
    named = app.stream(views).group_by(lambda user: user, key=str, name="by-user")
    named.join(app.table_from(users, name="rows"), lambda view, user: user).to("out")
    assert planned(app) == {"grouped-by-user-repartition": 5, "grouped-rows-changelog": 5}
    with app.test() as t:
        t.send_all(users, [(n, key) for n, key in enumerate(KEYS)])
        t.send_all(views, [(key, None) for key in KEYS])
        assert sorted(t.read("out")) == list(range(len(KEYS)))


def test_two_group_bys_that_meet_have_the_larger_count() -> None:
    app = sk.App("pair")
    left = app.stream(app.topic("left", value=int, partitions=2)).group_by(lambda n: n % 2, key=int, name="l")
    right = app.stream(app.topic("right", value=int, partitions=3)).group_by(
        lambda n: n % 2, key=int, name="r"
    )
    left.join(right, lambda x, y: (x, y), within="1m", name="join").to("out")
    assert planned(app) == {"pair-l-repartition": 3, "pair-r-repartition": 3, "pair-join-changelog": 3}


def test_a_declared_count_is_kept_and_its_stream_is_moved() -> None:
    app = sk.App("declared")
    left = app.stream(app.topic("left", value=int)).group_by(lambda n: n, key=int, partitions=2, name="l")
    right = app.stream(app.topic("right", key=int, value=int, partitions=4))
    left.join(right, lambda x, y: (x, y), within="1m", name="join").to("out")
    assert planned(app) == {
        "declared-l-repartition": 2,
        "declared-join-left-repartition": 4,
        "declared-join-changelog": 4,
    }


def test_a_chain_of_joins_moves_each_stream_that_has_to_be() -> None:
    app = sk.App("chain")
    a, b, rows = topics(app, a=2, b=6, rows=3)
    table = app.table_from(rows, name="table")
    named = app.stream(a).join(table, lambda x, y: x + y, name="named")
    named.join(app.stream(b), lambda x, y: x + y, within="1m", name="met").to("out")
    assert planned(app) == {
        "chain-named-left-repartition": 3,
        "chain-table-changelog": 3,
        "chain-met-left-repartition": 6,
        "chain-met-changelog": 6,
    }
    with app.test() as t:
        for key in KEYS:
            t.send(rows, 1, key=key, ts=0)
            t.send(a, 10, key=key, ts=1)
            t.send(b, 100, key=key, ts=2)
        assert t.read("out") == [111] * len(KEYS)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.sampled_from(KEYS))))
def test_counts_make_no_difference_to_what_is_joined(
    left: int, right: int, records: list[tuple[bool, str]]
) -> None:
    app = sk.App("any")
    a, b = topics(app, a=left, b=right)
    app.stream(a).join(app.stream(b), lambda x, y: (x, y), within="20s", how="outer").to("out")
    with app.test() as t:
        for n, (is_left, key) in enumerate(records):
            t.send(a if is_left else b, n, key=key, ts=n)
        t.advance_to(1000)
        pairs = [
            [x, y]
            for x, (of_a, mine) in enumerate(records)
            for y, (of_b, theirs) in enumerate(records)
            if of_a and not of_b and mine == theirs and abs(x - y) <= 20
        ]
        met = {n for pair in pairs for n in pair}
        alone = [[n, None] if of_a else [None, n] for n, (of_a, _) in enumerate(records) if n not in met]
        assert sorted(t.read("out"), key=str) == sorted(pairs + alone, key=str)


# -- stable -----------------------------------------------------------------------------------------------


def test_what_was_moved_once_stays_so_though_the_counts_have_become_equal() -> None:
    app = sk.App("stays")
    a, b = (app.topic(name, key=str, value=int) for name in ("a", "b"))
    app.stream(a).join(app.stream(b), lambda x, y: (x, y), within="10s", name="join").to("out")
    before = planned(app, {"a": 3, "b": 4})
    assert before == {"stays-join-left-repartition": 4, "stays-join-changelog": 4}
    assert planned(app, {"a": 4, "b": 4, "stays-join-left-repartition": 4}) == before
    assert planned(app, {"a": 8, "b": 4, "stays-join-left-repartition": 4}) == before
    both = "b (8 partitions), stays-join-left-repartition (4 partitions)"
    with pytest.raises(UsageError, match=re.escape(both)):
        planned(app, {"a": 3, "b": 8, "stays-join-left-repartition": 4})


def test_a_topic_that_another_operator_made_is_no_move_of_an_earlier_run() -> None:
    app = sk.App("own")
    a, b = topics(app, a=2, b=2)
    keyed = app.stream(a).group_by(lambda n: f"key-{n}", key=str, name="pair-left")
    keyed.join(app.stream(b), lambda x, y: x + y, within="10s", name="pair").to("out")
    before = app.topology().plan({})
    again = app.topology().plan({"a": 2, "b": 2, **internal(before)})  # type: ignore[dict-item]
    assert [sub.topics for sub in again.subtopologies] == [sub.topics for sub in before.subtopologies]
    assert again.topology.nodes == before.topology.nodes


def test_a_repartition_topic_that_exists_keeps_its_partitions() -> None:
    app = sk.App("kept")
    a, b = topics(app, a=3, b=4)
    grouped = app.stream(a).group_by(str, name="by")
    grouped.join(app.stream(b), lambda x, y: (x, y), within="1m", name="join").to("out")
    assert planned(app)["kept-by-repartition"] == 4
    existing = planned(app, {"kept-by-repartition": 3})
    assert existing["kept-by-repartition"] == 3
    assert existing["kept-join-left-repartition"] == 4


def test_the_explanation_and_the_drawing_show_what_is_moved() -> None:
    from streamkit.processing.explain import Explanation
    from streamkit.processing.graph import mermaid

    app = sk.App("shown")
    a, b = topics(app, a=4, b=3)
    app.stream(a).join(app.stream(b), lambda x, y: (x, y), within="1m", name="join").to("out")
    text = str(app.explain())
    assert "join-right  repartition: to 4 partitions, through shown-join-right-repartition" in text
    assert "shown-join-right-repartition  4 partitions internal" in text
    assert "shown-join-right-repartition" in mermaid(app.topology())

    other = sk.App("counted")
    streams = [app_topic.stream() for app_topic in (other.topic(n, key=str, value=int) for n in "ab")]
    streams[0].join(streams[1], lambda x, y: (x, y), within="1m", name="join").to("out")
    assert "repartition" not in str(other.explain())
    assert "to 7 partitions" in str(Explanation(other.topology(), {"a": 2, "b": 7}))
    assert "join-left-repartition" in mermaid(other.topology(), {"a": 2, "b": 7})


# -- refused ----------------------------------------------------------------------------------------------


def test_tables_are_not_moved() -> None:
    app = sk.App("tables")
    a, b = topics(app, a=4, b=3)
    app.table_from(a).join(app.table_from(b), lambda x, y: x + y)
    with pytest.raises(UsageError, match=r"a \(4 partitions\), b \(3 partitions\)"):
        app.test()


def sum_both(
    app: sk.App, a: sk.Topic[str, int], b: sk.Topic[str, int] | sk.Stream[str, int]
) -> sk.Table[str, int]:
    """Two agents and one table."""
    sums = app.table("sums", key=str, default=int)

    def add(n: int, record: sk.Record[str]) -> None:
        sums[record.key] += n

    app.agent(a, name="from_a")(add)
    app.agent(b, name="from_b")(add)
    return sums


def test_agents_that_share_a_table_name_both_topics() -> None:
    app = sk.App("agents")
    a, b = topics(app, a=4, b=3)
    sum_both(app, a, b)
    with pytest.raises(UsageError, match=r"a \(4 partitions\), b \(3 partitions\)") as refused:
        app.test()
    assert "repartition(partitions=...)" in refused.value.hint


def test_agents_may_share_a_table_once_a_stream_is_moved_by_hand() -> None:
    app = sk.App("agents")
    a, b = topics(app, a=4, b=3)
    sums = sum_both(app, a, app.stream(b).repartition(name="moved"))
    assert planned(app) == {"agents-moved-repartition": 4, "agents-sums-changelog": 4}
    with app.test() as t:
        for topic in (a, b):
            t.send_all(topic, [(1, key) for key in KEYS])
        assert dict(sums) == dict.fromkeys(KEYS, 2)


def test_a_name_that_a_move_needs_is_refused_to_others() -> None:
    app = sk.App("named")
    a, b = topics(app, a=4, b=3)
    app.stream(a).join(app.stream(b), lambda x, y: x, within="1m", name="join").to("out", name="join-right")
    with pytest.raises(UsageError, match="join-right is the name"):
        app.test()


def test_a_worker_refuses_what_the_cluster_has(broker: BrokerProcess, name: str, tmp_path: Path) -> None:
    outside = Outside(broker.bootstrap)
    outside.create(f"{name}-a", 4)
    outside.create(f"{name}-b", 3)
    (tmp_path / "job.py").write_text(TABLES.format(name=name))
    with WorkerProcess("job.py", broker.bootstrap, cwd=tmp_path) as worker:
        worker.said(f"{name}-a (4 partitions), {name}-b (3 partitions)")
        assert worker.wait() == 2
    with WorkerProcess("job.py", broker.bootstrap, "-w", "2", cwd=tmp_path) as workers:
        workers.said(f"{name}-a (4 partitions), {name}-b (3 partitions)")
        assert workers.wait() == 2
    cli, job = Cli(broker.bootstrap), str(tmp_path / "job.py")
    assert f"{name}-a (4 partitions)" in cli.fails(2, "app", "explain", job, "--bootstrap", broker.bootstrap)
    assert f"{name}-a  any number of partitions" in cli.out("app", "explain", job)


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
