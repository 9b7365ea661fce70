"""Streams over a pattern of topics: what is there and what comes later is read; state needs a repartition."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import NotFoundError, UsageError
from streamkit.processing.patterns import declared_name, grown, matching
from streamkit.processing.topology import Plan
from streamkit.processing.worker.worker import leaders


def reads(plan: Plan) -> dict[str, int]:
    return {sub.topics[0]: sub.partitions for sub in plan.subtopologies}


def test_topics_that_are_there_and_topics_that_come_later_are_read() -> None:
    app = sk.App("shop")
    orders = app.topic(pattern="orders-.*", key=str, value=int)
    seen: list[tuple[str, str, int]] = []
    app.stream(orders).map(lambda n: n + 1).peek(
        lambda n, record: seen.append((record.topic, record.key, n))
    ).to("all")
    with app.test(partitions={"orders-eu": 3}) as t:
        for n in range(6):
            t.send("orders-eu", n, key=f"k{n}")
        t.send("orders-us", 10, key="a")
        assert seen == [*(("orders-eu", f"k{n}", n + 1) for n in range(6)), ("orders-us", "a", 11)]
        t.restart()
        t.send("orders-us", 20, key="a")
        t.send_all("orders-asia", [(30, "b"), (40, "c")])
        assert [n for _, _, n in seen[7:]] == [21, 31, 41]
        assert t.read("all") == [1, 2, 3, 4, 5, 6, 11, 21, 31, 41]
        assert [t.committed("orders-us"), t.committed("orders-asia")] == [2, 2]
        assert [r.value for r in t.records("orders-us")] == [10, 20]
        with pytest.raises(NotFoundError):
            t.send("invoices", 1)
        with pytest.raises(NotFoundError):
            t.send("my-orders-eu", 1)
        with pytest.raises(UsageError, match="a record needs one topic"):
            t.send(orders, 1)


def test_windows_behind_a_pattern_count_over_all_its_topics() -> None:
    app = sk.App("shop", guarantee="exactly_once")
    orders = app.topic(pattern="orders-.*", key=str, value=int)
    counted = app.stream(orders).repartition(4).window(sk.tumbling("10s", grace="5s")).aggregate(n=sk.Sum())
    counted.to("sums")
    counted.late.to("late")
    with app.test(partitions={"orders-eu": 2}) as t:
        t.send("orders-eu", 1, key="ann", ts=1)
        t.send("orders-us", 2, key="ann", ts=2)
        t.restart()
        t.send("orders-asia", 4, key="ann", ts=9)
        t.send("orders-eu", 8, key="ann", ts=11)
        t.send("orders-us", 16, key="ann", ts=9)  # within the grace of what came to ann's partition so far
        t.send("orders-eu", 32, key="ann", ts=20)
        t.send("orders-us", 64, key="ann", ts=9)
        assert t.read("late") == [64]
        t.advance_to(100)
        assert [window["n"] for window in t.read("sums")] == [23, 8, 32]
        assert all(
            record.headers == [] for record in t.records("shop-orders-pattern-repartition-repartition")
        )


def test_a_table_and_a_join_behind_a_pattern() -> None:
    app = sk.App("shop")
    orders = app.topic("orders", pattern="orders-(eu|us)", key=str, value=int)
    users = app.table_from(app.topic("users", key=str, value=str, partitions=3))
    totals = app.table("totals", key=str, default=int)

    @app.agent(app.stream(orders).repartition(name="one-place"), sink="totals-of")
    def total(amount: int, record: sk.Record[str]) -> int:
        totals[record.key] += amount
        return totals[record.key]

    app.stream(orders).repartition(name="to-users").join(users, lambda n, user: f"{user} {n}").to("named")
    plan = app.topology()
    with pytest.raises(UsageError, match="one-place comes behind a pattern") as refused:
        plan.plan({})
    assert "shop-one-place-repartition" in refused.value.hint
    assert plan.plan({"shop-one-place-repartition": 5}).partition_counts["shop-to-users-repartition"] == 3


def test_agents_and_several_streams_may_share_a_topic_of_two_patterns() -> None:
    app = sk.App("shop")
    every, eu = app.topic(pattern=".*-orders", value=int), app.topic(pattern="eu-.*", value=int)
    rates = app.global_table(app.topic("rates", key=str, value=int))
    done: list[tuple[str, int]] = []

    @app.agent(every, concurrency=4, sink="out")
    async def slowly(n: int) -> int:
        return n

    app.stream(every).merge(app.stream("others").map(lambda n: -n)).to("merged")
    app.stream(eu).join(rates, lambda n, rate: n * rate, on=lambda _: "eur").peek(
        lambda n, record: done.append((record.topic, n))
    )
    with app.test() as t:
        t.send("rates", 100, key="eur")
        t.send("eu-orders", 1)
        t.send("us-orders", 2)
        t.send("eu-returns", 3)
        t.send("others", 4)
        assert sorted(t.read("out")) == [1, 2]
        assert t.read("merged") == [1, 2, -4]
        assert done == [("eu-orders", 100), ("eu-returns", 300)]


def test_what_the_app_writes_is_not_matched() -> None:
    app = sk.App("orders", on_error=sk.DeadLetter("orders-bad"))
    orders = app.topic(pattern="orders-.*", key=str, value=int)
    app.stream(orders).repartition(2, name="spread").to("orders-checked")
    plan = app.topology().plan({"orders-eu": 3, "orders-checked": 1, "orders-bad": 1})
    strange = [
        "orders-replies-1f",
        "__orders-x",
        "other",
        "orders-spread-repartition",
        "orders-bad",
        "orders-",
    ]
    assert matching(plan, strange) == {"orders-"}
    assert reads(plan) == {"orders-spread-repartition": 2, "orders-eu": 3}
    assert leaders(plan) == {"orders-spread-repartition": []}


def test_a_plan_grows_and_keeps_the_names_of_its_tasks() -> None:
    app = sk.App("shop")
    app.stream(app.topic(pattern="t-.*", value=int)).to("out")
    app.stream("fixed").to("out")
    plan = app.topology().plan({"t-m": 2})
    assert reads(plan) == {"fixed": 1, "t-m": 2}
    more = grown(plan, {"t-m": 1, "t-a": 3, "z": 9})
    assert reads(more) == {"fixed": 1, "t-m": 2, "t-a": 3}
    assert more.matched == ("t-m", "t-a")
    assert [sub.index for sub in more.subtopologies] == [0, 1, 2]
    assert grown(more, {"t-a": 2}) is more
    assert reads(grown(more, {"t-m": 4})) == {"fixed": 1, "t-m": 4, "t-a": 3}


def test_one_task_is_always_there_where_one_worker_is_to_lead() -> None:
    def app(*, on_leader: bool) -> sk.App:
        app = sk.App("shop")
        app.stream(app.topic(pattern="t-.*", value=int)).to("out")
        app.timer("1s", on_leader=on_leader)(lambda: None)
        return app

    assert reads(app(on_leader=False).topology().plan({"t-a": 2})) == {"t-a": 2}
    plan = app(on_leader=True).topology().plan({"t-a": 2})
    assert reads(plan) == {"shop-leader": 1, "t-a": 2}
    assert plan.subtopologies[0].index == 0
    with app(on_leader=True).test() as t:
        t.send("t-b", 1)
        t.sleep(5)
        assert t.read("out") == [1]


def test_a_pattern_that_matches_every_name_is_no_hindrance_to_who_leads() -> None:
    app = sk.App("shop")
    app.stream(app.topic(pattern=".*", value=int)).peek(print)
    app.timer("1s", on_leader=True)(lambda: None)
    plan = app.topology().plan({"a": 2, "shop-leader": 1})
    assert reads(plan) == {"shop-leader": 1, "a": 2}


def test_internal_topics_of_a_former_version_are_not_matched() -> None:
    app = sk.App("shop")
    app.stream(app.topic(pattern="shop-.*", value=int)).peek(print)
    own = ["shop-old-changelog", "shop-old-repartition", "shop-replies-0123456789ab"]
    assert matching(app.topology().plan({}), [*own, "shop-eu", "__shop-x"]) == {"shop-eu"}


def test_what_was_redriven_of_dead_letters_is_not_matched() -> None:
    app = sk.App("shop")
    app.stream(app.topic(pattern="in-.*", value=int), on_error=sk.DeadLetter("in-bad")).peek(print)
    assert matching(app.topology().plan({}), ["in-bad", "in-bad-redriven", "in-redriven"]) == {"in-redriven"}


def test_two_patterns_of_one_name_are_told_apart() -> None:
    app = sk.App("shop")
    app.topic(pattern="orders-.*")
    with pytest.raises(UsageError, match="declared twice") as refused:
        app.topic(pattern="orders_.*")
    assert refused.value.hint == "give it a name of its own: app.topic(name, pattern=...)"
    with pytest.raises(UsageError, match="declared twice") as refused:
        app.topic(pattern="orders-.*")
    assert "share it" in refused.value.hint


def test_a_worker_is_given_thousands_of_topics_in_no_time() -> None:
    app = sk.App("shop")
    app.stream(app.topic(pattern="t-.*", value=int)).peek(print)
    plan = app.topology().plan({f"t-{n}": 1 for n in range(2000)})
    began = process_time()
    assert [plan.subtopology_reading(f"t-{n}").topics for n in range(2000)] == [
        (f"t-{n}",) for n in range(2000)
    ]
    assert process_time() - began < 1


def test_state_directly_behind_a_pattern_is_refused() -> None:
    app = sk.App("shop")
    orders = app.topic(pattern="orders-.*", key=str, value=int)
    for declare in (
        lambda: app.stream(orders).window(sk.tumbling("1s")),
        lambda: app.stream(orders).map(abs).to_table(),
        lambda: app.table_from(orders),
        lambda: app.stream(orders).deduplicate("1s"),
        lambda: app.stream(orders).join(app.stream(orders), lambda x, y: x, within=1),
    ):
        with pytest.raises(UsageError, match="partitioned by its key") as refused:
            declare()
        assert ".repartition(...)" in refused.value.hint
    counts = app.table("counts", key=str, default=int)
    app.agent(orders, tables=[counts], name="direct")(lambda n: None)
    with pytest.raises(UsageError, match="its stream orders-pattern-source-7 is not partitioned"):
        app.topology()


def both(app: sk.App) -> None:
    app.stream("a-1").to("out")
    app.stream(app.topic(pattern="a.*")).to("out")
    app.topology().plan({})


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda app: app.topic(pattern="orders-("), "is no pattern of topics"),
        (lambda app: app.topic(), "without a name"),
        (lambda app: app.topic(pattern="a.*", partitions=3), "made by others"),
        (lambda app: app.stream("in").to(app.topic(pattern="a.*")), "a sink needs one topic"),
        (lambda app: app.global_table(app.topic(pattern="a.*")), "a global table needs one topic"),
        (lambda app: [app.topic(pattern="a.*"), app.topic(pattern="a-.*")], "declared twice"),
        (both, "a-1 is a stream of its own, and a.* matches it"),
    ],
)
def test_what_a_pattern_cannot_be(declare: Any, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        declare(sk.App("bad"))
    assert words in refused.value.message
    assert refused.value.hint


def test_names_for_patterns() -> None:
    def name(pattern: str) -> str:
        return declared_name(None, pattern, makes=False)

    assert name("orders-.*") == "orders-pattern"
    assert name(r"(eu|us)\.orders_\d+") == "eu-us-orders-d-pattern"
    assert name(".*") == "pattern"


def test_the_explanation_and_the_drawing_show_the_pattern() -> None:
    from streamkit.processing.explain import Explanation
    from streamkit.processing.graph import mermaid

    app = sk.App("shop")
    app.stream(app.topic(pattern="orders-.*", value=int)).map(abs).to("out")
    text = str(app.explain())
    assert "task 0  reads orders-pattern" in text
    assert "orders-pattern-source  source: topics orders-.*, value json" in text
    assert "orders-.*  a pattern, matches nothing yet" in text
    found = Explanation(app.topology(), {"orders-us": 1, "orders-eu": 2, "others": 3})
    assert "orders-.*  a pattern, matches orders-eu, orders-us" in str(found)
    assert found.json()["patterns"] == {"orders-.*": ["orders-eu", "orders-us"]}
    assert "orders-pattern-map" in mermaid(app.topology())


def test_an_agent_over_a_pattern_is_not_asked() -> None:
    app = sk.App("shop")

    @app.agent(app.topic(pattern="orders-.*", value=int))
    async def check(n: int) -> int:
        return n

    assert check.topic is None
    with app.test() as t, pytest.raises(UsageError):
        t.run(check.ask(1))
