"""Virtual time: jumps, owners that die or pause, clocks that run wrong, and failures that nobody may
overlook."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from streamkit.simulation.clock import SimulatedClock
from streamkit.simulation.loop import DeadlockError, VirtualLoop, virtual_loop
from streamkit.simulation.owner import Life, MachineClock, Owner


def run(loop: VirtualLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(loop.create_task(work))


def test_an_hour_passes_at_once() -> None:
    with virtual_loop() as loop:
        run(loop, asyncio.sleep(3600))
        assert loop.now_s == 3600


def test_nothing_left_to_happen_is_a_deadlock() -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with virtual_loop() as loop, pytest.raises(DeadlockError):
        run(loop, wait_for_ever())


def test_a_callback_that_fails_fails_the_run() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().call_soon([].pop)
        await asyncio.sleep(1)

    with virtual_loop() as loop, pytest.raises(IndexError):
        run(loop, scenario())


def test_there_are_no_threads() -> None:
    with virtual_loop() as loop, pytest.raises(RuntimeError, match="no threads"):
        run(loop, asyncio.to_thread(print))


def test_a_dead_owner_runs_nothing_not_even_finally() -> None:
    said: list[str] = []

    async def lives() -> None:
        try:
            await asyncio.sleep(2)
            said.append("awake")
        finally:
            said.append("finally")

    async def scenario(owner: Owner) -> None:
        owner.run(asyncio.ensure_future, lives())
        await asyncio.sleep(1)
        owner.die()
        await asyncio.sleep(5)

    with virtual_loop() as loop:
        owner = Owner("node")
        run(loop, scenario(owner))
        assert said == []
        owner.bury()


def test_a_paused_owner_does_later_what_came_due() -> None:
    said: list[float] = []

    async def lives() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            said.append(asyncio.get_running_loop().time())

    async def scenario(loop: VirtualLoop, owner: Owner) -> None:
        owner.run(asyncio.ensure_future, lives())
        await asyncio.sleep(1.5)
        owner.life = Life.PAUSED
        await asyncio.sleep(10)
        loop.resume(owner)
        await asyncio.sleep(5)

    with virtual_loop() as loop:
        run(loop, scenario(loop, Owner("node")))
    assert said == [1.0, 11.5, 12.5]


def test_a_fast_clock_reaches_its_timers_early_and_reads_what_it_should() -> None:
    readings: list[tuple[float, float]] = []

    async def lives(loop: VirtualLoop, clock: SimulatedClock) -> None:
        await asyncio.sleep(105)
        readings.append((loop.now_s, clock.monotonic_s()))

    with virtual_loop() as loop:
        machine = MachineClock(rate=1.05)
        owner = Owner("node", machine)
        loop.run_until_complete(owner.run(loop.create_task, lives(loop, SimulatedClock(loop, machine))))
    assert readings == [(pytest.approx(100), pytest.approx(105))]


def test_tasks_in_sets_keep_their_order() -> None:
    ended: list[int] = []

    async def lives(number: int) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(number)

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(1000):
                group.create_task(lives(number))
            await asyncio.sleep(1)
            group._abort()  # type: ignore[attr-defined]

    def order() -> list[int]:
        ended.clear()
        with virtual_loop() as loop:
            run(loop, scenario())
        return list(ended)

    assert order() == order()


def test_nobody_is_woken_before_the_time_by_the_own_clock() -> None:
    async def wait_until(deadline: float) -> None:
        loop, naps = asyncio.get_running_loop(), 0
        while loop.time() < deadline:
            await asyncio.sleep(deadline - loop.time())
            naps += 1
        assert naps == 1

    async def scenario(loop: VirtualLoop) -> None:
        for number in range(200):
            owner = Owner("node", MachineClock(rate=0.95 + number / 1999))
            deadline = loop.now_s * owner.rate + 0.1 + number / 700
            await owner.run(asyncio.ensure_future, wait_until(deadline))
            woken: list[float] = []
            timer = owner.run(loop.call_at, deadline + 1, lambda o=owner, w=woken: w.append(o.run(loop.time)))
            await asyncio.sleep(3)
            assert timer.when() <= loop.now_s and woken[0] >= deadline + 1

    with virtual_loop() as loop:
        run(loop, scenario(loop))
