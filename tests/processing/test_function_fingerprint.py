"""A function is known by what it computes, not by its layout, its names, or the Python that runs it."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest

from streamkit.processing.function_fingerprint import function_fingerprint as known


def test_a_function_is_known_by_what_it_computes() -> None:
    factor = 3
    # fmt: off
    same = [lambda v: v["a"] * 2 + factor, lambda v: (v["a"]
                                                      * 2) + factor]
    # fmt: on
    assert known(same[0]) == known(same[1])
    others = [
        lambda v: v["a"] * 2 - factor,
        lambda v: v["b"] * 2 + factor,
        lambda v: v["a"] * 4 + factor,
        lambda v: v["a"] * 2,
        lambda v: -v["a"] * 2 + factor,
        lambda v: v["a"] in (2, factor),
        lambda v: v["a"] not in (2, factor),
        lambda v: v["a"] < 2,
        lambda v: v["a"] > 2,
        lambda v: v["a"] in (2, 5),
        lambda v: v["a"] in (2, 6),
        lambda v, by=7: v["a"] * by,
        lambda v, *, by=8: v["a"] * by,
        functools.partial(lambda by, v: v["a"] * by, 9),
        operator.itemgetter("a"),
        operator.itemgetter("b"),
        operator.attrgetter("a"),
        len,
        sum,
    ]
    assert len({known(function) for function in [same[0], *others]}) == len(others) + 1
    factor = 4
    assert known(same[0]) == known(same[1]) != known(others[0])


def test_names_of_parameters_and_variables_do_not_count() -> None:
    def total(state: Any, value: Any) -> Any:
        """Adds."""
        for item in value.items:
            price = item.price
            state += price * 2
        return state

    def renamed(so_far: Any, order: Any) -> Any:
        for one in order.items:
            cost = one.price
            so_far = so_far + cost * 2
        return so_far

    assert known(total) == known(renamed)


class Thing:
    """Its `repr` is another in every process."""


def test_what_is_no_plain_value_does_not_count() -> None:
    assert known(functools.partial(len, Thing())) == known(functools.partial(len, Thing()))


def _looping(state: Any, value: Any) -> Any:
    while value.n > 3:
        state += value.x
        value.n -= 1
    try:
        return state / value.q
    finally:
        state += 1


def _many(state: Any, value: Any) -> Any:
    with value.lock as lock:
        for i in range(3):
            state[i] += lock
    del state[0]
    return {**state, "k": [*value.l, 1], "n": -value.n, "m": +value.m}


def _matching(value: Any) -> Any:
    match value:
        case {"a": x, "b": [1, y]}:
            return x + y
        case (1, 2) | "z":
            return 5
    return None


@pytest.mark.parametrize(
    ("function", "digits"),
    [
        (lambda v: [x.a for x in v.b if x.c > 3] + v.c, "cc77cef8"),
        (lambda v: {k: [y for y in x if y not in ("a", "b")] for k, x in v.items()}, "b665fa97"),
        (lambda v: sum(x * 2 for x in v), "fb055113"),
        (lambda v: v[1:3], "b2399772"),
        (lambda v: v[1:3:2], "e1849888"),
        (lambda v: {"a": 1, "b": v, "c": 3}, "62f2b65a"),
        (lambda v: round(v, ndigits=3), "73b8c8e2"),
        (lambda v: f"{v.a:>3} x {v!r}", "7ed1d105"),
        (lambda v: (v.a and not v.b) or 3, "0b7b903d"),
        (lambda v: 1 < v.a <= 3, "c591683f"),
        (lambda v: (0 if v.a is None else v.a, v.b is None), "80dba898"),
        (lambda v: v in {"a", "b"}, "b61eb3b7"),
        (lambda v: v * 10**6 + (2 * 3) - -1, "e2cfbc6f"),
        (_looping, "04b2ed31"),
        (_many, "b0fcea94"),
        (_matching, "072e16f8"),
        (operator.itemgetter("amount"), "5f22f2a7"),
    ],
)
def test_every_python_knows_it_by_the_same_digits(function: Any, digits: str) -> None:
    """3.11, 3.12 and 3.13 agree on them: where this fails, state of an older Python would be refused."""
    assert known(function) == digits
