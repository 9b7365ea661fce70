"""Patterns that clients send: RE2's meaning, judged by Python's `re` where both agree; none is slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.regular_expression import (
    InvalidPatternError,
    Pattern,
)

NAMES = ["orders", "orders-eu", "Orders", "a", "aa", "ab", "a.b", "a_b", "topic1", "topic12", "__internal"]


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("orders", ["orders"]),
        ("orders.*", ["orders", "orders-eu"]),
        ("^orders$", ["orders"]),
        ("(?i)ORDERS", ["Orders", "orders"]),
        ("(?i:o)rders", ["Orders", "orders"]),
        ("(?:a|b)+", ["a", "aa", "ab"]),
        ("(?P<name>a)b", ["ab"]),
        ("(?<name>a)b", ["ab"]),
        ("a{2}", ["aa"]),
        ("a{1,}", ["a", "aa"]),
        ("a{0,1}b?", ["a", "ab"]),
        (r"a\.b", ["a.b"]),
        ("a.b", ["a.b", "a_b"]),
        (r"topic\d", ["topic1"]),
        (r"topic\d+?", ["topic1", "topic12"]),
        ("[[:alpha:]]+[0-9]", ["topic1"]),
        ("[^a-z].*", ["Orders", "__internal"]),
        (r"[\w]+", ["Orders", "__internal", "a", "a_b", "aa", "ab", "orders", "topic1", "topic12"]),
        (r"\Qa.b\E", ["a.b"]),
        (r"\x61", ["a"]),
        (r"\x{61}", ["a"]),
        (r"orders\b.*", ["orders", "orders-eu"]),
        (r"orders\B.*", []),
        ("[]a]+", ["a", "aa"]),
        ("[a-]+", ["a", "aa"]),
        ("a||b", ["a"]),
        ("a{,2}", []),
        ("", []),
        (".*", sorted(NAMES)),
        (r"\s", []),
        (r"\S+a", ["aa"]),
    ],
)
def test_what_matches(pattern: str, matching: list[str]) -> None:
    assert Pattern(pattern).matching(NAMES) == matching


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (".*", "my app: 7"),
        (r"10\.0\.[0-9]+\.\d+", "10.0.12.3"),
        ("[^:]+:[^:]+", "a b:c"),
        (r"\w+\s\w+", "two words"),
        ("[[:punct:]]+", "/@~"),
        ("na.ve", "naïve"),
        ("naïve", "naïve"),
        ("[^a-z]", "ï"),
        (r"a\tb", "a\tb"),
    ],
)
def test_names_of_clients_may_have_any_character(pattern: str, name: str) -> None:
    assert Pattern(pattern).matches(name)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(",
            ")",
            "(a",
            "a)",
            "[a",
            "[z-a]",
            "*a",
            "a**",
            "a{2}{3}",
            "a{1001}",
            "a{3,2}",
            "\\",
            r"\1",
            r"\pL",
        ),
        *("(?=a)", "(?<!a)", "(?P=n)", "(?P<>a)", "[[:nope:]]", r"\x{zz}", r"[\1]"),
        *("(" * 200 + ")" * 200, "a" * 5000, "((a{100}){100}){100}"),
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidPatternError):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*b", "(a*)*(a*)*(a*)*b", "(((a+)+)+)+b"])
def test_no_pattern_is_slow(pattern: str) -> None:
    """Each of these takes a backtracking matcher longer than the age of the universe."""
    began_s = time.process_time()
    assert not Pattern(pattern).matches("a" * 248 + "!")
    Pattern(pattern).matches("a" * 249)
    assert time.process_time() - began_s < 1


atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\.", "-", r"\w", "^", "$", r"\b"])
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        inner.map("({})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)


@given(pattern=patterns, name=st.text("ab.-_1", max_size=6))
def test_as_pythons_where_both_speak_the_same(pattern: str, name: str) -> None:
    assert Pattern(pattern).matches(name) == bool(re.fullmatch(pattern, name))
