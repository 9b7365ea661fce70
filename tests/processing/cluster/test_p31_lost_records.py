"""P31: a committed offset below the log's start is never passed over in silence."""

from __future__ import annotations

import asyncio
import logging

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

import streamkit as sk
from streamkit.errors import RefusedError
from tests.processing.cluster.members import running, until, until_outside
from tests.support.worker_process import Outside


def app_of(name: str, policy: str) -> sk.App:
    app = sk.App(name, commit_interval="100ms", on_lost_records=policy)  # type: ignore[arg-type]
    app.stream(app.topic(f"{name}-in", value=int)).to(f"{name}-out")
    return app


async def test_the_worker_ends_or_goes_on_as_it_was_told(
    outside: Outside, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"{name}-in"
    outside.create(topic)
    outside.send(topic, range(3))
    async with running(app_of(name, "fail"), outside.bootstrap):
        await until_outside(lambda: outside.committed(name, topic) == [3])
    outside.send(topic, range(3, 9))
    admin = AdminClient({"bootstrap.servers": outside.bootstrap})
    for deleted in admin.delete_records([TopicPartition(topic, 0, 6)]).values():
        deleted.result(10)
    with pytest.raises(RefusedError, match=f"{topic}-0: the records that come next are not there"):
        async with running(app_of(name, "fail"), outside.bootstrap) as worker:
            await until(worker.task.done)
    assert outside.committed(name, topic) == [3]
    with caplog.at_level(logging.WARNING):
        async with running(app_of(name, "continue"), outside.bootstrap):
            await until_outside(lambda: outside.committed(name, topic) == [9])
            await asyncio.sleep(0)
    assert "reading goes on at the first that is left" in caplog.text
    assert [value for _, value, _ in outside.read(f"{name}-out")] == [0, 1, 2, 6, 7, 8]
