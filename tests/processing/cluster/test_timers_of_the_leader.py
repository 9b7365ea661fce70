"""What is for the leader runs at one worker; when that one goes, another goes on."""

from __future__ import annotations

import time

import pytest

import streamkit as sk
from tests.processing.cluster.members import running, until
from tests.support.worker_process import Outside

PACE_MS = 100


@pytest.mark.parametrize("by_pattern", [False, True])
async def test_one_worker_runs_it_and_another_takes_over(
    outside: Outside, name: str, by_pattern: bool
) -> None:
    outside.create(f"{name}-in", 4)
    ran: list[tuple[str, int]] = []
    everywhere: set[str] = set()

    def worker(who: str) -> sk.App:
        app = sk.App(name, commit_interval="100ms")
        topic = app.topic(pattern=f"{name}-i.") if by_pattern else app.topic(f"{name}-in")
        app.stream(topic).peek(len)

        @app.timer(f"{PACE_MS}ms", on_leader=True)
        def leading() -> None:
            ran.append((who, int(time.time() * 1000) // PACE_MS))  # a moment may be late, and never early

        @app.timer(f"{PACE_MS}ms")
        def following() -> None:
            everywhere.add(who)

        return app

    async with running(worker("first"), outside.bootstrap) as first:
        await until(lambda: len(ran) >= 3)
        async with running(worker("second"), outside.bootstrap) as second:
            await until(lambda: bool(first.tasks) and len(second.tasks) >= 2)
            before = len(ran)
            await until(lambda: len(ran) >= before + 5)
            leader = ran[-1][0]
            assert ("0_0" in first.tasks) == (leader == "first")
            assert {who for who, _ in ran[before:]} == {leader}
            assert everywhere == {"first", "second"}
            await (first if leader == "first" else second).stop()
            after = len(ran)
            await until(lambda: len(ran) >= after + 3)
            assert {who for who, _ in ran[after:]} == {"first", "second"} - {leader}
    moments = [moment for _, moment in ran]
    assert moments == sorted(set(moments)), "each moment once"
