"""What is declared wrongly is refused where it is declared, in the user's words, before any record comes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import streamkit as sk
from streamkit.errors import UsageError


async def later(order: Any) -> bool:
    return False


def several(order: Any) -> Any:
    yield order


async def as_in_faust(orders: Any) -> None:
    async for _ in orders:
        pass


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x


def nothing() -> None:
    pass


def letters(value: Any) -> str:
    return "abc"


def told(context: Any) -> dict[str, int] | None:
    return None


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("s.map(5)", r"map\(\) needs a function, got 5"),
        ("s.filter(later)", r"filter\(\) does not await, and later is async"),
        ("s.peek(later)", r"peek\(\) does not await"),
        ("s.map(several)", r"map\(\) takes one result, and several yields"),
        ("s.map(nothing)", r"map\(\) cannot call nothing\(\)"),
        ("s.map(lambda a, b, c: a)", r"map\(\) cannot call <lambda>\(a, b, c\)"),
        ("s.flat_map(later)", r"flat_map\(\) does not await"),
        ("s.branch(later)", r"branch\(\) does not await"),
        (
            "s.flat_map(letters)",
            r"flat_map\(\) passes on each of several results, and letters returns one str",
        ),
        (
            "s.process(lambda v, c: None, on_timer=told)",
            r"process\(on_timer=\) passes .* told returns one dict",
        ),
        ("s.group_by('product')", r"group_by\(\) needs a function, got 'product'"),
        ("s.deduplicate('1m', by='id')", r"deduplicate\(by=\) needs a function"),
        ("s.deduplicate(-1)", "a duration is finite and 0 or more, got -1"),
        ("s.process(lambda value: None)", r"process\(\) cannot call <lambda>\(value\)"),
        ("s.process(lambda v, c: None, on_timer=nothing)", r"process\(on_timer=\) cannot call nothing\(\)"),
        ("s.window('1m').aggregate(n=sk.Count())", "'1m' is no window"),
        ("s.window(sk.tumbling('1m')).aggregate(n=sk.Count)", "n=.*Count.* is no aggregation"),
        ("s.window(sk.tumbling('1m')).aggregate(n='count')", "n='count' is no aggregation"),
        ("s.window(sk.tumbling('1m')).aggregate(n=sk.Sum(later))", r"aggregate\(n=\) does not await"),
        ("sk.tumbling(None)", "None is not a duration"),
        ("sk.tumbling(float('inf'))", "finite"),
        ("sk.tumbling(0.0001)", "not a whole number of milliseconds"),
        ("sk.count_window('5')", "a window of '5' records is none"),
        ("s.join(t, lambda a, b: a, how='lefty')", "how is 'inner' or 'left' or 'outer', got 'lefty'"),
        (
            "s.join(s, lambda a, b: a, within='1s', how='full')",
            "how is 'inner' or 'left' or 'outer', got 'full'",
        ),
        ("s.join(s, lambda a: a, within='1s')", r"join\(\) cannot call <lambda>\(a\)"),
        ("t.join(t, lambda a: a)", r"join\(\) cannot call"),
        ("t.join(t, lambda a, b: a, on=nothing)", r"join\(on=\) cannot call nothing\(\)"),
        ("s.join(app.global_table(orders), lambda a, b: a, on='id')", r"join\(on=\) needs a function"),
        ("app.stream(orders, time='at')", "time= needs a function, got 'at'"),
        ("app.stream(orders, on_error='skip')", "on_error='skip' is no error policy"),
        ("app.agent(orders, on_error=sk.Skip)", "on_error=the class Skip is no error policy"),
        ("app.agent(orders, retry=3)", "retry=3 is no retry policy"),
        ("sk.DeadLetter(None)", "a dead letter goes to a topic that is named, got None"),
        ("sk.Retry('3')", "Retry needs at least one attempt, got '3'"),
        ("sk.App('b', on_error='skip')", "on_error='skip' is no error policy"),
        (
            "app.agent(orders)(several)",
            "the agent several yields, and its parameter is not declared as a stream",
        ),
        ("app.agent(orders)(lambda a, b, c: a)", r"the agent <lambda> cannot call|no operator name"),
        (
            "app.agent(orders)(as_in_faust)",
            "as_in_faust iterates over orders, which is not declared as a stream",
        ),
        ("app.agent(orders, timeout=0)(later)", "the agent later has no time to answer"),
        ("app.agent(later)", "@app.agent stands above later without its parentheses"),
        ("app.agent(app.agent(orders)(later))", "an agent reads a topic or a stream, and later is an agent"),
        ("app.agent([orders])", "an agent reads a topic or a stream, got "),
        ("app.agent(orders, sink=5)(later)", "5 is no sink"),
        ("app.agent(orders, concurrency='4')", "concurrency is at least 1, got '4'"),
        ("app.topic('other', partitions='3')", "the topic other cannot have '3' partitions"),
        ("sk.App(5)", "5 is no app name"),
        ("sk.App('b', standby_replicas='1')", "standby_replicas is at least 0, got '1'"),
        ("s.to(5)", r"to\(\) takes a topic, its name or an sk.Sink, got 5"),
        ("s.join(orders, lambda a, b: a, within='1s')", r"join\(\) takes a stream or a table that follows"),
        ("s.join(app.table('own', value=dict), lambda a, b: a)", r"join\(\) takes .*, got Table\('own'\)"),
        ("s.group_by(str, partitions=0)", "group-by to 0 partitions"),
        (
            "app.table('counts', default=0)",
            "default=0 of the table counts is not a function that makes a value",
        ),
        (
            "app.topic('other', value=Plain)",
            "no serde for .*Plain.*: a plain class does not say what its fields",
        ),
        ("sk.App('b', bootstrap=['a:1'])", r"bootstrap is HOST:PORT, several by commas, got \['a:1'\]"),
        ("app.stream(sk.FileSource('x.csv'))", "a stream reads a topic, got "),
        ("app.table_from(s)", "a stream reads a topic, got Stream"),
        ("app.timer(nothing)", "<function nothing .*> is not a duration"),
        ("app.timer('5s')(lambda app: None)", r"the timer <lambda> cannot call <lambda>\(app\)"),
        ("app.crontab(nothing)", "<function nothing .*> is no crontab"),
        ("sk.batch(later)", "@sk.batch needs a size"),
    ],
)
def test_it_is_refused_where_it_is_declared(declaration: str, message: str) -> None:
    app = sk.App("shop")
    orders = app.topic("orders", key=str, value=dict)
    names = {
        "sk": sk,
        "app": app,
        "orders": orders,
        "s": app.stream(orders),
        "t": app.table_from(app.topic("rows", key=str, value=dict)),
        "later": later,
        "Plain": Plain,
        "several": several,
        "as_in_faust": as_in_faust,
        "nothing": nothing,
        "letters": letters,
        "told": told,
    }
    with pytest.raises(UsageError, match=message) as refused:
        eval(declaration, names)  # noqa: S307
    assert "\n" not in refused.value.message


def test_what_to_do_next_is_in_the_traceback_too() -> None:
    with pytest.raises(UsageError) as refused:
        sk.tumbling("soon")
    assert refused.value.__notes__ == [f"next: {refused.value.hint}"]


def test_a_misspelled_name_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(AttributeError, match="did you mean 'tumbling'"):
        sk.Tumbling  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        sk.xyzzy  # noqa: B018


def test_one_name_to_abandon_is_one_name() -> None:
    assert sk.App("shop", abandon="totals").abandon == {"totals"}


def test_what_has_no_code_of_its_own_may_be_an_agent_still() -> None:
    app = sk.App("shop")

    async def priced(factor: int, amount: int) -> int:
        return factor * amount

    app.agent(app.topic("in", value=int), sink="out", name="double")(named(partial(priced, 2)))
    with app.test() as t:
        t.send("in", 3)
        assert t.read("out") == [6]


def named(function: Any) -> Any:
    function.__name__ = "double"
    return function


def test_a_window_leads_to_an_aggregation_only() -> None:
    windowed = sk.App("shop").topic("orders", key=str).stream().window(sk.tumbling("1m"))
    with pytest.raises(AttributeError, match=r"a window has no 'count' before aggregate\(n=sk.Count\(\)"):
        getattr(windowed, "count")  # noqa: B009


def test_a_join_says_which_group_by_needs_the_type_of_its_keys() -> None:
    app = sk.App("shop")
    customers = app.table_from(app.topic("customers", key=str, value=dict))
    orders = app.stream(app.topic("orders", value=dict))
    by_customer = orders.group_by(lambda order: order["customer"]).map(lambda order: order)
    with pytest.raises(UsageError, match="keys written differently") as refused:
        by_customer.join(customers, lambda order, customer: order)
    assert refused.value.hint == (
        "give orders-group-by its type, group_by(..., key=str), or annotate its function"
    )
    typed = orders.group_by(lambda order: order["customer"], key=str)
    typed.join(customers, lambda order, customer: order)
