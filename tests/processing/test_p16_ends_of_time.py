"""SEMANTICS P16: whatever timestamp a record has, states on disk do what those in memory do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import streamkit as sk
from tests.processing.conftest import SpillingStore
from tests.processing.lives import Lives, Slice, undisturbed

LAST_MS = (1 << 63) - 1
TIMES = {
    "the last": [5_000, LAST_MS, 6_000, LAST_MS, 7_000],
    "the first": [-LAST_MS - 1, -1, 5_000, -LAST_MS - 1, 9_000],
    "far ahead": [5_000, 1 << 62, (1 << 62) + 5, 6_000],
    "far behind": [-(1 << 62), 5_000, -(1 << 62) - 10, 100],
}


def windowed(window: Any) -> Callable[[], sk.App]:
    def build() -> sk.App:
        app = sk.App("ends")
        stream = app.stream(app.topic("in", key=bytes, value=int, partitions=1))
        stream.window(window).aggregate(n=sk.Count(), sum=sk.Sum()).to("out")
        return app

    return build


def once() -> sk.App:
    app = sk.App("ends")
    app.stream(app.topic("in", key=bytes, value=int, partitions=1)).deduplicate("5s").to("out")
    return app


def joined() -> sk.App:
    app = sk.App("ends")
    stream = app.stream(app.topic("in", key=bytes, value=int, partitions=1))
    stream.join(stream, lambda a, b: [a, b], how="outer", within="3s", grace="2s").to("out")
    return app


def reminded() -> sk.App:
    app = sk.App("ends")

    def remind(value: int, context: sk.Context[bytes, int]) -> Iterator[int]:
        context.state = value
        context.set_timer(6)
        yield value

    def tell(context: sk.Context[bytes, int]) -> list[Any]:
        return [context.state]

    stream = app.stream(app.topic("in", key=bytes, value=int, partitions=1))
    stream.process(remind, state=int, on_timer=tell).to("out")
    return app


APPS: dict[str, Callable[[], sk.App]] = {
    "sessions": windowed(sk.session("1s", grace="2s")),
    "sliding": windowed(sk.sliding("4s", grace="2s")),
    "once": once,
    "join": joined,
    "process": reminded,
}


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("kind", APPS)
def test_as_in_memory(kind: str, times: str) -> None:
    slices: list[Slice] = [("in", [(b"ab"[n % 2 :], b"%d" % n, ms)]) for n, ms in enumerate(TIMES[times])]
    lives = Lives(APPS[kind](), slices, lambda _: SpillingStore())
    for _ in range(100):
        if not lives.step():
            break
        lives.commit()
    else:
        pytest.fail("it does not come to an end")
    lives.born()
    assert lives.end() == undisturbed(APPS[kind](), slices)
