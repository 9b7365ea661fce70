"""State of a former version that nobody would take over is found and told, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import streamkit as sk
from streamkit.errors import RefusedError
from streamkit.processing.succession import Former, check_succession, losses
from streamkit.processing.tasks.checkpoint import CommitMetadata
from streamkit.processing.topology import Border, Topology

Build = Callable[[sk.App], object]


def topology(build: Build) -> Topology:
    app = sk.App("shop")
    build(app)
    return app.topology()


def commits(former: Topology) -> Iterator[tuple[str, str]]:
    """What a group has committed that worked on this."""
    for sub in former.subtopologies():
        for topic in sub.topics:
            metadata = CommitMetadata(
                changelogs={sub.changelog(store): 7 for store in sub.stores},
                ancestries={store: former.ancestries[store] for store in sub.stores},
            )
            yield topic, metadata.encode()


def internal(former: Topology) -> set[str]:
    changelogs = {sub.changelog(store) for sub in former.subtopologies() for store in sub.stores}
    return changelogs | {node.topic for node in former.nodes if isinstance(node, Border)}


def found(before: Build, now: Build) -> list[tuple[str, str, str]]:
    former = topology(before)
    remembered = Former.of("shop", commits(former))
    return [(o.kind, o.name, o.now) for o in losses(topology(now), remembered, internal(former))]


def refused(before: Build, now: Build, *abandoned: str) -> RefusedError:
    former = topology(before)
    with pytest.raises(RefusedError) as caught:
        check_succession(topology(now), commits(former), internal(former), abandoned)
    return caught.value


def large(value: dict[str, int]) -> bool:
    return value["n"] > 9


def small(value: dict[str, int]) -> bool:
    return value["n"] < 3


def counted(stream: sk.Stream[bytes | None, object], name: str | None = None) -> None:
    stream.window(sk.tumbling("1m")).aggregate(n=sk.Count(), name=name)


def two_windows(app: sk.App) -> None:
    orders = app.topic("orders", key=str)
    counted(app.stream(orders).filter(large))
    counted(app.stream(orders).filter(small))


def test_nothing_changed() -> None:
    assert found(two_windows, two_windows) == []


def test_a_stateless_operator_more_or_less_changes_nothing() -> None:
    def with_peek(app: sk.App) -> None:
        orders = app.topic("orders", key=str)
        counted(app.stream(orders).peek(print).filter(large))
        counted(app.stream(orders).filter(small))

    assert found(two_windows, with_peek) == []
    assert found(with_peek, two_windows) == []


def test_another_function_before_it_changes_nothing() -> None:
    def stricter(app: sk.App) -> None:
        orders = app.topic("orders", key=str)
        counted(app.stream(orders).filter(lambda v: v["n"] > 99))
        counted(app.stream(orders).filter(small))

    assert found(two_windows, stricter) == []


def test_a_new_store_changes_nothing() -> None:
    def three(app: sk.App) -> None:
        two_windows(app)
        counted(app.stream("payments").group_by(lambda v: v["id"]))

    assert found(two_windows, three) == []


def test_a_store_that_is_gone() -> None:
    def one(app: sk.App) -> None:
        counted(app.stream(app.topic("orders", key=str)).filter(large))

    assert found(two_windows, one) == [("gone", "orders-window-2", "")]


def test_the_first_of_two_is_gone_and_the_second_gets_its_name() -> None:
    def second(app: sk.App) -> None:
        counted(app.stream(app.topic("orders", key=str)).filter(small))

    assert found(two_windows, second) == [
        ("gone", "orders-window-2", "orders-window"),
        ("swapped", "orders-window", "orders-window-2"),
    ]


def test_a_new_name_is_recognised_by_its_place() -> None:
    def renamed(app: sk.App) -> None:
        orders = app.topic("orders", key=str)
        counted(app.stream(orders).filter(large), "many")
        counted(app.stream(orders).filter(small), "orders-window-2")

    assert found(two_windows, renamed) == [("gone", "orders-window", "many")]
    error = refused(two_windows, renamed)
    assert "shop has state of orders-window, which is declared no more" in error.message
    assert "called many now" in error.message
    assert 'name="orders-window"' in error.hint and "--abandon orders-window," in error.hint


def test_operators_that_change_places() -> None:
    def swapped(app: sk.App) -> None:
        orders = app.topic("orders", key=str)
        counted(app.stream(orders).filter(small))
        counted(app.stream(orders).filter(large))

    assert found(two_windows, swapped) == [
        ("swapped", "orders-window-2", "orders-window"),
        ("swapped", "orders-window", "orders-window-2"),
    ]
    error = refused(two_windows, swapped, "orders-window", "orders-window-2")
    assert "--abandon" not in error.hint, "to take another's state is no loss to accept"

    def in_names(app: sk.App) -> None:
        orders = app.topic("orders", key=str)
        counted(app.stream(orders).filter(small), "orders-window-2")
        counted(app.stream(orders).filter(large), "orders-window")

    assert found(two_windows, in_names) == []


def by_agent(topic: str) -> Build:
    def build(app: sk.App) -> None:
        totals = app.table("totals", default=int)

        @app.agent(app.topic(topic, key=str, value=int))
        def add(value: int, record: sk.Record[int]) -> None:
            totals[record.key] += value

    return build


def test_a_table_that_another_topic_writes() -> None:
    assert found(by_agent("orders"), by_agent("orders")) == []
    assert found(by_agent("orders"), by_agent("payments")) == [("moved", "totals", "payments")]
    error = refused(by_agent("orders"), by_agent("payments"))
    assert error.message == "shop has state of totals from orders, but totals reads payments now"


def grouped(name: str | None) -> Build:
    def build(app: sk.App) -> None:
        app.stream("orders").group_by(lambda v: v["id"], name=name).to("by-id")

    return build


def test_a_repartition_topic_that_nobody_reads() -> None:
    assert found(grouped(None), grouped("by_id")) == [("unread", "orders-group-by", "")]
    assert "shop-orders-group-by-repartition" in refused(grouped(None), grouped("by_id")).message
    assert found(grouped("a"), grouped("a")) == []


def test_a_repartition_topic_that_was_read_to_its_end_may_go() -> None:
    former, now, asked = topology(grouped(None)), topology(grouped("by_id")), list[str]()

    def is_drained(topic: str) -> bool:
        asked.append(topic)
        return True

    check_succession(now, commits(former), internal(former), is_drained=is_drained)
    assert asked == ["shop-orders-group-by-repartition"]
    with pytest.raises(RefusedError, match="nothing reads shop-orders-group-by-repartition any more"):
        check_succession(now, commits(former), internal(former), is_drained=lambda _: False)


def test_a_store_that_is_gone_is_missed_whatever_was_read() -> None:
    now = topology(lambda app: app.stream("orders").to("copy"))
    former = topology(two_windows)
    with pytest.raises(RefusedError, match="has state of orders-window"):
        check_succession(now, commits(former), internal(former), is_drained=lambda _: True)


def test_what_is_abandoned_by_name_is_no_reason() -> None:
    former = topology(two_windows)
    now = topology(lambda app: app.stream("orders").to("copy"))
    given_up = ["orders-window", "orders-window-2"]
    check_succession(now, commits(former), internal(former), given_up)
    error = refused(two_windows, lambda app: app.stream("orders").to("copy"), "orders-window")
    assert "orders-window-2" in error.message and "more)" not in error.message


def test_of_many_a_few_are_named() -> None:
    def five(app: sk.App) -> None:
        for number in range(5):
            counted(
                app.stream(f"topic-{number}").group_by(lambda v: v["id"], name=f"g{number}"), f"w{number}"
            )

    error = refused(five, lambda app: app.stream("topic-0").to("copy"))
    assert "(and 9 more)" in error.message
    assert error.hint.count("--abandon") == 3


def test_what_was_never_written_or_was_deleted_is_not_missed() -> None:
    former = topology(two_windows)
    empty = [("orders", CommitMetadata(changelogs={"shop-orders-window-changelog": 0}).encode())]
    now = topology(lambda app: app.stream("orders").to("copy"))
    check_succession(now, empty, internal(former))
    check_succession(now, commits(former), existing={"orders"})


def test_commits_that_others_made_say_nothing() -> None:
    now = topology(two_windows)
    check_succession(now, [("orders", ""), ("orders", "{"), ("orders", "by hand")], {"orders"})
    forged = CommitMetadata(changelogs={"payments": 7, "other-window-changelog": 7}).encode()
    check_succession(now, [("orders", forged)], {"orders", "payments", "other-window-changelog"})
    # of another app, shop-eu, which this group never read
    check_succession(now, [("orders", "")], {"orders", "shop-eu-totals-changelog"})
