"""P3 on a real broker: with acknowledgements held back or refused, no source offset moves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import streamkit as sk
from streamkit.errors import StreamkitError
from tests.processing.cluster.members import running, until, until_outside
from tests.support.worker_process import Outside


def copying(name: str) -> sk.App:
    app = sk.App(name, commit_interval="50ms")
    app.stream(app.topic(f"{name}-in")).to(f"{name}-out")
    return app


async def test_no_offset_moves_before_its_outputs_are_acknowledged(
    outside: Outside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside.create(f"{name}-in")
    outside.send(f"{name}-in", range(10))
    acknowledged = asyncio.Event()
    async with running(copying(name), outside.bootstrap) as one:
        flush = one.member._sink.flush

        async def delayed() -> None:
            await acknowledged.wait()
            await flush()

        monkeypatch.setattr(one.member._sink, "flush", delayed)
        await until(lambda: bool(one.member.committer._pending), "a commit is under way")
        await asyncio.to_thread(outside.send, f"{name}-in", range(10))
        await until_outside(lambda: len(outside.read(f"{name}-out")) == 20, "work goes on meanwhile")
        assert outside.committed(name, f"{name}-in") == [-1001]
        acknowledged.set()
        await until_outside(lambda: outside.committed(name, f"{name}-in") == [20])


async def test_a_refused_delivery_stops_the_worker_at_its_offsets(
    outside: Outside, name: str, tmp_path: Path
) -> None:
    outside.create(f"{name}-in", 1, **{"max.message.bytes": "100000"})
    outside.create(f"{name}-out", 1, **{"max.message.bytes": "1000"})
    outside.send(f"{name}-in", ["small", "x" * 50_000, "small"])
    with pytest.raises(StreamkitError, match=f"a record for {name}-out-0 was not delivered"):
        async with running(copying(name), outside.bootstrap) as one:
            await asyncio.wait_for(asyncio.shield(one.task), 20)
    assert outside.committed(name, f"{name}-in") == [-1001]
