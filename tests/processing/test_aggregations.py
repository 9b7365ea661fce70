"""Every aggregation: its value in one window, merged from panes, and after a restart."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import RefusedError, UsageError
from streamkit.processing.accumulators import Layout
from streamkit.processing.windows import Session

NUMBERS = random.Random(5).choices(range(1, 400), k=300)
EXACT = {
    "count": (sk.Count(), len(NUMBERS)),
    "sum": (sk.Sum(), sum(NUMBERS)),
    "min": (sk.Min(), min(NUMBERS)),
    "max": (sk.Max(), max(NUMBERS)),
    "mean": (sk.Mean(), statistics.mean(NUMBERS)),
    "var": (sk.Var(), statistics.variance(NUMBERS)),
    "std": (sk.Std(), statistics.stdev(NUMBERS)),
    "first": (sk.First(), NUMBERS[0]),
    "last": (sk.Last(), NUMBERS[-1]),
    "top": (sk.TopN(n=3), sorted(NUMBERS, reverse=True)[:3]),
    "distinct": (sk.CountDistinct(), len(set(NUMBERS))),
    "all": (sk.Collect(), NUMBERS),
    "reduce": (sk.Reduce(function=max), max(NUMBERS)),
    "own": (
        sk.Aggregate(
            start=lambda: [0, 0],
            add=lambda pair, x: [pair[0] + x, pair[1] + 1],
            join=lambda a, b: [a[0] + b[0], a[1] + b[1]],
            finish=lambda pair: pair[0] - pair[1],
        ),
        sum(NUMBERS) - len(NUMBERS),
    ),
}
SKETCHED = {
    "approximately": (sk.ApproxCountDistinct(), len(set(NUMBERS)), 0.05),
    "median": (sk.Quantile(q=0.5), statistics.median(NUMBERS), 0.03),
    "p99": (sk.Quantile(q=0.99), statistics.quantiles(NUMBERS, n=100)[98], 0.03),
}
WINDOWS = (sk.tumbling("1h"), sk.hopping("1h", "10m"), sk.session("10s"))


@pytest.mark.parametrize("window", WINDOWS, ids=("tumbling", "hopping", "session"))
def test_one_pass_over_everything(window: Any) -> None:
    app = sk.App("everything")
    topic = app.topic("in", key=str, value=int)
    wanted = {name: one[0] for name, one in {**EXACT, **SKETCHED}.items()}
    app.stream(topic).window(window).aggregate(**wanted).to("out")
    with app.test() as t:
        records = [(number, "k", 3600 + second * 10) for second, number in enumerate(NUMBERS)]
        t.send_all(topic, records[:150])
        t.restart()
        t.send_all(topic, records[150:])
        t.advance_to(20_000)
        [result] = [r for r in t.read("out") if r["count"] == len(NUMBERS)][:1]
    for name, (_, value) in EXACT.items():
        assert result[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    for name, (_, value, tolerance) in SKETCHED.items():
        assert result[name] == pytest.approx(value, rel=tolerance), name


def is_rare(number: int) -> bool:
    return number % 7 == 0


def is_absurd(number: int) -> bool:
    return number < 0


PATIENT = (sk.tumbling("2m", grace="1d"), sk.hopping("2m", "1m", grace="1d"), sk.session("10s", grace="1d"))


@pytest.mark.parametrize("window", PATIENT, ids=("tumbling", "hopping", "session"))
def test_where_is_a_filter_before_the_aggregation(window: Any) -> None:
    """Panes and sessions in which nothing passes are merged with others; records come out of order."""
    wanted = {name: one[0] for name, one in {**EXACT, **SKETCHED}.items() if name != "all"}  # keeps no panes
    app = sk.App("filtered")
    topic = app.topic("in", key=str, value=int)
    rare = {name: one.where(is_rare) for name, one in wanted.items()}
    app.stream(topic).window(window).aggregate(everything=sk.Count(), **rare).to("out")
    with app.test() as t:
        records = [(number, "k", 3600 + place * 10) for place, number in enumerate(NUMBERS)]
        t.send_all(topic, [record for place, record in enumerate(records) if place % 3 != 1])
        t.restart()
        t.send_all(topic, records[1::3])
        t.advance_to(200_000)
        results = t.read("out")
    for result in results:
        start, end = ((result[edge] // 1000 - 3600) // 10 for edge in ("start_ms", "end_ms"))
        inside = NUMBERS[max(start, 0) : end + isinstance(window, Session)]
        kept = [number for number in inside if is_rare(number)]
        assert (result["everything"], result["count"], result["sum"]) == (len(inside), len(kept), sum(kept))
        assert (result["min"], result["max"]) == (min(kept, default=None), max(kept, default=None))
        assert (result["first"], result["last"]) == ((kept[0], kept[-1]) if kept else (None, None))
        assert result["mean"] == (pytest.approx(statistics.mean(kept)) if kept else None)
        assert result["var"] == (pytest.approx(statistics.variance(kept)) if len(kept) > 1 else None)
        assert (result["top"], result["distinct"]) == (sorted(kept, reverse=True)[:3], len(set(kept)))
        assert (result["reduce"], result["own"]) == (max(kept, default=None), sum(kept) - len(kept))
    assert any(result["count"] for result in results)


@pytest.mark.parametrize("window", WINDOWS, ids=("tumbling", "hopping", "session"))
def test_of_no_value_that_passes_there_is_no_least_and_the_sum_is_zero(window: Any) -> None:
    app = sk.App("absurd")
    topic = app.topic("in", key=str, value=int)
    wanted = {name: one[0].where(is_absurd) for name, one in {**EXACT, **SKETCHED}.items()}
    app.stream(topic).window(window).aggregate(**wanted).to("out")
    with app.test() as t:
        t.send_all(topic, [(number, "k", 3600 + place * 10) for place, number in enumerate(NUMBERS)])
        t.advance_to(20_000)
        results = t.read("out")
    nothing = {"count": 0, "sum": 0, "top": [], "distinct": 0, "all": [], "own": 0, "approximately": 0}
    assert results
    for result in results:
        assert {name: result[name] for name in wanted} == {**dict.fromkeys(wanted), **nothing}


def test_what_is_passed_over_is_not_looked_into() -> None:
    app = sk.App("discounts")
    orders = app.topic("orders", key=str)
    discount = sk.Sum(lambda order: order["discount"]).where(lambda order: "discount" in order)
    app.stream(orders).window(sk.tumbling("1m")).aggregate(n=sk.Count(), discount=discount).to("out")
    with app.test() as t:
        for order in ({}, {"discount": 3}, {}):
            t.send(orders, order, key="k", ts=1)
        t.advance_to(60)
        [result] = t.read("out")
    assert (result["n"], result["discount"]) == (3, 3)


def test_a_condition_is_asked_once_of_a_record() -> None:
    asked: list[int] = []

    def is_big(number: int) -> bool:
        asked.append(number)
        return number > 10

    app = sk.App("asked")
    numbers = app.topic("numbers", key=str, value=int)
    big = {"n": sk.Count().where(is_big), "sum": sk.Sum().where(is_big), "max": sk.Max().where(is_big)}
    app.stream(numbers).window(sk.tumbling("1m")).aggregate(**big).to("out")
    with app.test() as t:
        t.send_all(numbers, [(number, "k", 1) for number in (5, 50)])
        t.advance_to(60)
        [result] = t.read("out")
    assert asked == [5, 50]
    assert (result["n"], result["sum"], result["max"]) == (1, 50, 50)


def test_distinct_values_by_the_hundred_thousand() -> None:
    layout = Layout((("n", sk.ApproxCountDistinct()),))
    from streamkit.processing.sketches import HyperLogLog, hashed

    a, b = HyperLogLog(), HyperLogLog()
    for number in range(60_000):
        (a if number % 3 else b).add(hashed(str(number)))
    merged = layout.copy(layout.merge([False, a], [False, b]))[1]
    assert merged.estimate() == pytest.approx(60_000, rel=0.05)


def test_quantiles_of_numbers_below_zero_and_of_none() -> None:
    from streamkit.processing.sketches import QuantileSketch

    sketch = QuantileSketch()
    assert sketch.quantile(0.5) is None
    for number in (-100.0, -1.0, 0.0, 1.0, 1e6):
        sketch.add(QuantileSketch.bucket_of(number))
    quantiles = [sketch.quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)]
    assert quantiles == pytest.approx([-100, -1, 0, 1, 1e6], rel=0.01)
    with pytest.raises(ValueError, match="no place"):
        QuantileSketch.bucket_of(float("nan"))


def test_a_value_that_cannot_be_aggregated_leaves_all_slots_alone() -> None:
    app = sk.App("torn", on_error=sk.Skip())
    topic = app.topic("in", key=str)
    for window in (sk.tumbling("1m"), sk.session("1m"), sk.count_window(2)):
        app.stream(topic).window(window).aggregate(n=sk.Count(), sum=sk.Sum("x")).map(lambda r: r["sum"]).to(
            "out"
        )
    with app.test() as t:
        for x in (1, "text", 2):
            t.send(topic, {"x": x}, key="k", ts=1)
        t.advance_to(1000)
        assert t.read("out") == [3, 3, 3]


def changed(window: Any = None, by: Any = None, **aggregations: Any) -> sk.App:
    app = sk.App("changed")
    topic = app.topic("in", key=str)
    app.stream(topic).window(window or sk.tumbling("1m")).aggregate(**aggregations)
    if by is not None:
        app.stream(topic).deduplicate("1m", by=by)
    return app


def committed(app: sk.App) -> str:
    """The metadata of a commit of it."""
    with app.test() as t:
        t.send("in", {"a": 1, "b": 2}, key="k", ts=1)
        metadata: str = t._commits["in", 0][1]
    return metadata


def resume(app: sk.App, metadata: str) -> None:
    with app.test() as t:
        t.tasks[0].resume(("in", 0), metadata, 1)


def test_state_made_by_another_function_is_refused() -> None:
    metadata = committed(changed(x=sk.Sum(lambda v: v["a"] * 2)))
    resume(changed(x=sk.Sum(lambda v: v["a"] * 2)), metadata)
    with pytest.raises(RefusedError, match="other types or aggregations"):
        resume(changed(x=sk.Sum(lambda v: v["a"] * 2).where(lambda v: v["a"])), metadata)
    for other in (lambda v: v["b"] * 2, lambda v: v["a"] * 3, lambda v: v["a"] + 2):
        with pytest.raises(RefusedError, match="other types or aggregations"):
            resume(changed(x=sk.Sum(other)), metadata)
    with pytest.raises(RefusedError, match="other types or aggregations"):
        resume(changed(sk.hopping("1m", "30s"), x=sk.Sum(lambda v: v["a"] * 2)), metadata)


def test_what_does_not_change_what_is_stored_is_no_reason_to_refuse() -> None:
    metadata = committed(changed(x=sk.Sum(lambda v: v["a"] * 2)))
    resume(changed(x=sk.Sum(lambda order: order["a"] * 2)), metadata)
    resume(changed(total=sk.Sum(lambda v: v["a"] * 2)), metadata)  # another name for the result
    resume(changed(sk.tumbling("1m", grace="5m"), x=sk.Sum(lambda v: v["a"] * 2)), metadata)

    def mean(finish: Any, add: Any = lambda s, v: [s[0] + v["a"], s[1] + 1]) -> sk.App:
        return changed(x=sk.Aggregate(start=lambda: [0, 0], add=add, finish=finish))

    metadata = committed(mean(lambda s: s[0] / s[1]))
    resume(mean(lambda s: round(s[0] / s[1], 2)), metadata)  # what is emitted is made of what is stored
    with pytest.raises(RefusedError, match="other types or aggregations"):
        resume(mean(None, add=lambda s, v: [s[0] + v["b"], s[1] + 1]), metadata)


def test_columns_that_change_places_are_refused() -> None:
    metadata = committed(changed(x=sk.Sum("a"), y=sk.Sum("b")))
    with pytest.raises(RefusedError, match="other types or aggregations"):
        resume(changed(x=sk.Sum("b"), y=sk.Sum("a")), metadata)


def test_commits_of_former_versions_of_the_package_are_accepted() -> None:
    """Their fingerprints had the names of parameters and of results in them."""

    metadata = '{"stores":{"in-window":"a1300919","in-deduplicate":"c6f53ed8"}}'
    resume(changed(x=sk.Sum(lambda v: v["a"] * 2), by=lambda v: v["a"]), metadata)
    with pytest.raises(RefusedError, match="in-deduplicate was written with other types"):
        resume(changed(x=sk.Sum(lambda v: v["a"] * 2), by=lambda v: v["b"]), metadata)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: sk.Count("x"),
        lambda: sk.TopN(n=0),
        lambda: sk.Quantile(q=1.5),
        sk.Reduce,
        lambda: sk.Aggregate(start=int),
        lambda: sk.Sum().where(bool).where(bool),
    ],
)
def test_impossible_aggregations_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()
