"""Stream joins of which most is only stored: the same results in the same order, whatever is let go and when."""

from __future__ import annotations

import random
from itertools import count
from typing import Literal

import pytest

import streamkit as sk
from tests.processing.conftest import SpillingStore
from tests.processing.lives import Lives, Slice, undisturbed

How = Literal["inner", "left", "outer"]


def joined(how: How) -> sk.App:
    app = sk.App("large-join")
    left, right = (
        app.stream(app.topic(name, key=str, value=int, partitions=1)) for name in ("left", "right")
    )
    pairs = left.join(right, lambda a, b: [a, b], how=how, within="3s", grace="2s")
    pairs.to("out")
    pairs.late.to("late")
    return app


def disordered(seed: int, slices: int = 60, keys: int = 4, start_ms: int = -20_000) -> list[Slice]:
    """Event times before 1970, too."""
    rng, number = random.Random(seed), count()
    found: list[Slice] = []
    for n in range(slices):
        now = start_ms + n * 1_000
        records = [
            (b"k%d" % rng.randrange(keys), b"%d" % next(number), now + rng.randrange(-6_000, 1_000, 500))
            for _ in range(rng.randrange(6))
        ]
        found.append((rng.choice(["left", "right"]), records))
    return found


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("how", ["inner", "left", "outer"])
def test_the_same_results_in_the_same_order(how: How) -> None:
    for seed in range(6):
        slices = disordered(seed)
        answer = undisturbed(joined(how), slices)
        lives = Lives(joined(how), slices, lambda _: SpillingStore())
        assert lives.run(random.Random(seed)) == answer
        assert answer["out"] and answer["late"]
        assert [len(store) for store in lives.stores.values()] == [0]
