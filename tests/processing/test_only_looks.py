"""A value that nothing can have changed leaves with the bytes that it came with, and only such a one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import streamkit as sk
from streamkit.processing.only_looks import only_looks

LIMIT = 10
KNOWN = {"ann", "bob"}
LOG: list[Any] = []
SPACED = b'{"name":  "ann", "amount": 12, "tags": []}'
EVE = b'{"name":"eve","amount":12,"tags":[]}'
GROWN = b'{"name":"ann","amount":12,"tags":[1]}'


class Sly:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        other["name"] = "eve"  # type: ignore[index]
        return True

    def get(self, value: Any) -> None:
        value.clear()


SLY = Sly()
LATER: Any = None  # a hook assigns it once it is ready
HANDLERS: dict[str, Any] = {}
MANY = set(range(10_001))


def over(limit: int) -> Callable[[Any], Any]:
    return lambda e: e["amount"] > limit


def logged(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        LOG.append(value)
        return function(value)

    return call


def grow(tags: Any) -> None:
    tags.append(1)


def grows(e: Any) -> Any:
    tags = e["tags"]
    tags += [1]
    return tags


LOOKING: list[Callable[[Any], Any]] = [
    lambda e: e["amount"] >= 0,
    lambda e: e["amount"] > LIMIT and not e["tags"],
    lambda e: e["name"] in KNOWN or e["name"] is None,
    lambda e: e.get("name", "").lower().startswith("a"),
    lambda e: len(e["tags"]) * 2 - e["amount"] % 7 < 3.5,
    lambda e: "a" if e["amount"] else str(e["name"])[1:],
    over(3),
]
OTHERS: list[Callable[[Any], Any]] = [
    lambda e: e.pop("name"),
    lambda e: e["tags"].append(1),
    lambda e: e.update(name="eve"),
    lambda e: e.setdefault("new", 1),
    lambda e: e == SLY,
    lambda e: SLY.get(e) is None,
    lambda e: LOG.append(e) is None,
    lambda e: sorted(e["tags"], key=e.pop),
    lambda e: [e.pop(name) for name in list(e)],
    lambda e, seen=[]: seen.append(e),
    lambda e: LATER(e["tags"]),
    lambda e: LATER.get(e) is None,
    lambda e: HANDLERS[e["name"]](e),
    lambda e: HANDLERS.get(e["name"]).count(e),
    lambda e: e["name"](e),
    operator.itemgetter("name"),
    logged(over(3)),
    grows,
    dict.popitem,
]


@pytest.mark.parametrize("function", LOOKING)
def test_proven(function: Callable[[Any], Any]) -> None:
    assert only_looks(function)


@pytest.mark.parametrize("function", OTHERS)
def test_not_proven(function: Callable[[Any], Any]) -> None:
    assert not only_looks(function)


def test_not_proven_while_a_name_means_nothing() -> None:
    assert not only_looks(lambda e: missing(e["name"]))  # type: ignore[name-defined] # noqa: F821
    function = lambda e: e["amount"] > later  # noqa: E731
    assert not only_looks(function)
    later = 1
    assert only_looks(function)


def test_no_time_is_spent_on_large_containers() -> None:
    assert not only_looks(lambda e: e["amount"] in MANY)


Build = Callable[[Any, Any], object]


def _written(build: Build, value: Any = dict) -> list[bytes | None]:
    """What the job writes to `out` for one record of spaced JSON."""
    app = sk.App("looks")
    topics = [app.topic(name, key=str, value=value) for name in ("in", "out")]
    build(app.stream(topics[0]), topics[1])
    with app.test() as t:
        t.send("in", SPACED, key="k")
        return [record.value() for record in t._log.in_order("out")]


def _is_named(e: Any) -> Any:
    return e["name"]


def _renamed(e: Any) -> Any:
    e["name"] = "eve"
    return e


@pytest.mark.parametrize(
    "build",
    [
        lambda stream, out: stream.to(out),
        lambda stream, out: stream.filter(_is_named).to(out),
        lambda stream, out: stream.branch(_is_named)[0].to(out),
        lambda stream, out: stream.peek(_is_named).merge(stream.filter(lambda e: False)).to(out),
        lambda stream, out: stream.group_by(_is_named).to(out),
        lambda stream, out: stream.repartition().filter(_is_named).to(out),
    ],
)
def test_the_bytes_go_on(build: Build) -> None:
    assert _written(build, Any) == [SPACED]


@pytest.mark.parametrize(
    ("build", "written"),
    [
        (lambda stream, out: stream.map(_renamed).to(out), [EVE]),
        (lambda stream, out: stream.filter(_renamed).to(out), [EVE]),
        (lambda stream, out: stream.peek(_renamed).to(out), [EVE]),
        (lambda stream, out: stream.branch(_renamed)[0].to(out), [EVE]),
        (lambda stream, out: stream.group_by(lambda e: str(_renamed(e))).to(out), [EVE]),
        (lambda stream, out: (stream.to(out), stream.peek(_renamed).to(out)), [SPACED, EVE]),
        (lambda stream, out: (stream.map(_renamed), stream.to(out)), [EVE]),
        (lambda stream, out: (stream.map(lambda e: e["tags"]).peek(grow), stream.to(out)), [GROWN]),
        (lambda stream, out: (stream.filter(_is_named), stream.to(out)), [SPACED]),
    ],
)
def test_what_was_changed_is_written_anew(build: Build, written: list[bytes]) -> None:
    """Wherever it was changed before it leaves, in another branch too."""
    assert _written(build, Any) == written


def test_a_type_is_written_as_it_is_declared() -> None:
    class Person(msgspec.Struct):
        name: str

    assert _written(lambda stream, out: stream.filter(lambda p: True).to(out), Person) == [b'{"name":"ann"}']


def test_a_tombstone_goes_on() -> None:
    app = sk.App("looks")
    source, out = app.topic("in", key=str), app.topic("out", key=str)
    app.stream(source).filter(lambda e: e is None).to(out)
    with app.test() as t:
        t.send(source, None, key="k")
        assert [record.value for record in t.records(out)] == [None]


@pytest.mark.parametrize("null", [b"null", b" null\n"])
@pytest.mark.parametrize("build", [lambda s, out: s.to(out), lambda s, out: s.repartition().to(out)])
def test_null_in_json_leaves_as_a_tombstone(build: Build, null: bytes) -> None:
    app = sk.App("looks")
    source, out = app.topic("in", key=str), app.topic("out", key=str)
    build(app.stream(source), out)
    with app.test() as t:
        t.send("in", null, key="k")
        assert [record.value() for record in t._log.in_order("out")] == [None]
