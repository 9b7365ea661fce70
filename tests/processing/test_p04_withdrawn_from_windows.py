"""SEMANTICS P4: what a failed record did to windows is withdrawn with its outputs, before the policy acts. So
one that is tried again counts once, and one that is passed over not at all.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

import streamkit as sk
from streamkit.processing.error_policy import OnError

RECORDS = 25
ALL: dict[str, Any] = {
    "n": sk.Count(),
    "sum": sk.Sum(),
    "all": sk.Collect(),
    "top": sk.TopN(n=2),
}
WINDOWS: dict[str, tuple[Any, Any]] = {
    "tumbling": (sk.tumbling("4s", grace="2s"), "on_close"),
    "tumbling, at once": (sk.tumbling("4s", grace="2s"), "on_update"),
    "tumbling, now and then": (sk.tumbling("4s", grace="2s"), sk.every("3s")),
    "hopping": (sk.hopping("4s", "1500ms", grace="2s"), "on_close"),
    "hopping, at once": (sk.hopping("4s", "1500ms", grace="2s"), "on_update"),
    "sliding": (sk.sliding("4s", grace="2s"), "on_close"),
    "sessions": (sk.session("1s", grace="2s"), "on_close"),
    "sessions, at once": (sk.session("1s", grace="2s"), "on_update"),
    "sessions, now and then": (sk.session("1s", grace="2s"), sk.every("3s")),
    "counted": (sk.count_window(3), "on_close"),
    "counted, at once": (sk.count_window(3), "on_update"),
}


def results(kind: str, seed: int, policy: OnError, failing: set[int], left_out: set[int]) -> list[Any]:
    """Of one run. What follows the window fails, or what stands beside it."""
    rng = random.Random(seed)
    window, emit = WINDOWS[kind]
    app = sk.App("withdrawn", on_error=policy)
    topic = app.topic("in", key=str, value=int, partitions=1)
    to_fail = set(failing)
    in_hand: list[int] = []

    def seen(n: int) -> int:
        in_hand[:] = [n]
        return n

    def fragile(value: Any) -> Any:
        if in_hand and in_hand[0] in to_fail:
            to_fail.discard(in_hand[0])
            raise ValueError("not yet")
        return value

    numbers = app.stream(topic).map(seen).filter(lambda n: n not in left_out)
    distinct = {"different": sk.CountDistinct()} if isinstance(policy, sk.Retry) else {}  # once in, always in
    windows = numbers.window(window).aggregate(emit=emit, **ALL, **distinct)
    if seed % 2 and emit == "on_update":
        windows.map(fragile).to("out")
    else:
        windows.to("out")
        numbers.map(fragile)
    with app.test() as t:
        now, some = rng.choice([-20_000, 1_000_000]), list[tuple[int, str, float]]()
        for n in range(RECORDS):
            now += rng.choice([0, 250, 1_000, 3_000])
            key, ts = rng.choice("abc"), now + rng.randrange(-3_000, 1, 250)
            some.append((n, key, ts / 1000))
            if rng.random() < 0.2:
                t.send_all(topic, some)
                some.clear()
            if not some and rng.random() < 0.5:
                t.restart()
        t.send_all(topic, some)
        in_hand.clear()
        t.advance_to(10_000_000)
        return t.read("out")


def told(kind: str, found: list[Any]) -> Any:
    """All of it; but when event time passes a multiple of three seconds depends on when a record fails."""
    if "now and then" not in kind:
        return found
    last: dict[Any, Any] = {}
    for result in found:
        last[result["key"], result["start_ms"]] = result
    return {name: result for name, result in last.items() if not result.get("retracted")}


@pytest.mark.usefixtures("each_store")
@pytest.mark.parametrize("kind", WINDOWS)
def test_a_record_that_is_tried_again_counts_once(kind: str) -> None:
    for seed in range(3):
        failing = set(random.Random(seed).sample(range(RECORDS), RECORDS // 3))
        undisturbed = results(kind, seed, sk.Retry(1), set(), set())
        assert told(kind, results(kind, seed, sk.Retry(1), failing, set())) == told(kind, undisturbed), seed


@pytest.mark.usefixtures("each_store")
@pytest.mark.parametrize("kind", WINDOWS)
def test_a_record_that_is_passed_over_does_not_count(kind: str) -> None:
    for seed in range(2):
        failing = set(random.Random(seed).sample(range(RECORDS), RECORDS // 3))
        without = results(kind, seed, sk.Skip(), set(), failing)
        assert told(kind, results(kind, seed, sk.Skip(), failing, set())) == told(kind, without), seed
