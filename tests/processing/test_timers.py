"""`@app.timer` and `@app.crontab`: run at their moments, on the driver's virtual clock and in a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta, timezone

import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.crontab import Crontab
from streamkit.processing.testing import VirtualLoop
from streamkit.processing.timers import Interval, Schedule, Timer
from streamkit.processing.worker.timers import run_timer

HOUR = 3600


def test_the_driver_runs_timers_in_the_order_of_their_moments() -> None:
    app = sk.App("ticks")
    ticks = app.topic("ticks", value=str)
    app.stream("in").to("out")

    @app.timer("20m")
    def tick() -> None:
        seen.append("tick")

    @app.crontab("*/30 * * * *")
    async def half() -> None:
        await ticks.send("half")
        seen.append("half")

    @app.crontab("0 3 * * *", timezone=timezone(timedelta(hours=2)), on_leader=False)
    def local() -> None:
        seen.append("local")

    seen: list[str] = []
    with app.test() as t:
        t.advance_to(HOUR)
        assert seen == ["tick", "half", "tick", "tick", "half", "local"]
        t.sleep(HOUR / 2)
        assert seen[6:] == ["tick", "half"]
        assert [(r.value, r.timestamp_ms) for r in t.records(ticks)] == [
            ("half", 1_800_000),
            ("half", 3_600_000),
            ("half", 5_400_000),
        ]


def test_the_explanation_says_when_and_where() -> None:
    app = sk.App("explained")
    app.stream("in").to("out")
    app.crontab("*/5 * * * *", timezone="Europe/Berlin", name="often")(print)
    app.timer("5s", name="everywhere")(print)
    app.timer("1h", on_leader=True, name="somewhere")(print)
    text = str(app.explain())
    assert "timer often  */5 * * * * Europe/Berlin  at one worker\n" in text
    assert "timer everywhere  every 5000 ms\n" in text
    assert text.endswith("timer somewhere  every 3600000 ms  at one worker")
    assert app.explain().json()["timers"][0] == {
        "name": "often",
        "schedule": "*/5 * * * * Europe/Berlin",
        "on_leader": True,
    }
    with pytest.raises(UsageError, match="greater than zero"):
        app.timer(0)


# -- in a worker ------------------------------------------------------------------------------------------


class Wall:
    """The clock of a virtual loop; the wall clock may be set, the other goes on."""

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self._loop = loop
        self.offset_ms = start_ms

    def now_ms(self) -> int:
        return self.monotonic_ms() + self.offset_ms

    def monotonic_ms(self) -> int:
        return round(self._loop.now_s * 1000)

    def monotonic_s(self) -> float:
        return self._loop.now_s


def run(
    schedule: Schedule,
    scene: Callable[[Wall, VirtualLoop], None],
    seconds: float,
    *,
    leads: Callable[[], bool] = lambda: True,
    on_leader: bool = True,
    start_ms: int = 0,
) -> list[int]:
    """The wall times, in seconds, at which a timer ran; `scene` plays when it has run for the first time."""
    loop, seen = VirtualLoop(), list[int]()
    wall = Wall(loop, start_ms)

    def function() -> None:
        seen.append(wall.now_ms() // 1000)
        if len(seen) == 1:
            scene(wall, loop)

    async def main() -> None:
        timer = Timer(name="t", schedule=schedule, function=function, on_leader=on_leader)
        task = asyncio.ensure_future(run_timer(timer, wall, leads))
        await asyncio.sleep(seconds)
        task.cancel()

    loop.run_until_complete(main())
    loop.close()
    return seen


def nothing(wall: Wall, loop: VirtualLoop) -> None:
    return None


def test_a_worker_keeps_the_pace_of_the_wall_clock() -> None:
    assert run(Crontab("*/2 * * * *"), nothing, 500, start_ms=30_000) == [120, 240, 360, 480]
    assert run(Interval(60_000, wall=True), nothing, 200, start_ms=59_000) == [60, 120, 180, 240]


def test_an_interval_of_each_worker_counts_from_its_start() -> None:
    assert run(Interval(60_000), nothing, 200, on_leader=False, start_ms=59_000) == [119, 179, 239]


def test_moments_that_were_missed_are_not_made_up_for() -> None:
    def suspended(wall: Wall, loop: VirtualLoop) -> None:
        loop.now_s += 200

    assert run(Crontab("* * * * *"), suspended, 400) == [60, 300, 360]


def test_a_clock_that_is_set_forward_makes_the_next_moment_late_and_it_is_left_out() -> None:
    def forward(wall: Wall, loop: VirtualLoop) -> None:
        wall.offset_ms += 90_000

    assert run(Crontab("* * * * *"), forward, 170) == [60, 180, 240]


def test_a_clock_that_is_set_back_repeats_no_moment() -> None:
    def back(wall: Wall, loop: VirtualLoop) -> None:
        wall.offset_ms -= 150_000

    assert run(Crontab("* * * * *"), back, 300) == [60, 120]


def test_only_the_leader_runs_what_is_for_the_leader() -> None:
    assert run(Crontab("* * * * *"), nothing, 300, leads=lambda: False) == []
    assert len(run(Crontab("* * * * *"), nothing, 290, leads=lambda: False, on_leader=False)) == 4


def test_a_timer_that_fails_runs_again() -> None:
    def fails(wall: Wall, loop: VirtualLoop) -> None:
        raise ValueError("once")

    assert run(Interval(1000), fails, 3.5) == [1, 2, 3]
