"""Where groups are, asked for by our own client: librdkafka's crashes while no coordinator is elected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import streamkit
from streamkit.client import groups
from streamkit.client.node import AnsweredError, Node
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)
from streamkit.protocol.schema import Message


class Broker:
    """Gives these answers, one after the other."""

    def __init__(self, *answers: Message) -> None:
        self.answers = list(answers)
        self.newest: list[int | None] = []

    async def ask(self, message: Message, *, newest: int | None = None) -> Any:
        self.newest.append(newest)
        return self.answers.pop(0)

    @asynccontextmanager
    async def other(self, host: str, port: int) -> AsyncIterator[Broker]:
        yield self


def coordinator(error: ErrorCode = ErrorCode.NONE) -> FindCoordinatorResponse:
    return FindCoordinatorResponse(coordinators=[Coordinator(key="g", host="h", port=1, error_code=error)])


def offsets(*committed: int, error: ErrorCode = ErrorCode.NONE) -> OffsetFetchResponse:
    partitions = [
        OffsetFetchResponsePartitions(partition_index=number, committed_offset=offset)
        for number, offset in enumerate(committed)
    ]
    topics = [OffsetFetchResponseTopics(name="t", partitions=partitions)] if partitions else []
    return OffsetFetchResponse(
        groups=[OffsetFetchResponseGroup(group_id="g", topics=topics, error_code=error)]
    )


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "AGAIN_S", 0.001)


async def test_a_coordinator_that_is_on_its_way_is_waited_for() -> None:
    broker = Broker(
        coordinator(ErrorCode.COORDINATOR_NOT_AVAILABLE),
        coordinator(),
        offsets(error=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
        coordinator(),
        offsets(error=ErrorCode.NOT_COORDINATOR),
        coordinator(),
        offsets(5, -1, 7),
    )
    assert await groups.committed(cast(Node, broker), "g") == {("t", 0): 5, ("t", 2): 7}
    assert set(broker.newest) == {None, 9}, "from version 10 on topics have ids in place of names"


async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "PATIENCE_S", 0.0)
    with pytest.raises(AnsweredError, match="COORDINATOR_NOT_AVAILABLE"):
        await groups.committed(cast(Node, Broker(coordinator(ErrorCode.COORDINATOR_NOT_AVAILABLE))), "g")


async def test_other_answers_are_told() -> None:
    broker = Broker(coordinator(), offsets(error=ErrorCode.GROUP_AUTHORIZATION_FAILED))
    with pytest.raises(AnsweredError, match="GROUP_AUTHORIZATION_FAILED"):
        await groups.committed(cast(Node, broker), "g")


def test_nobody_asks_librdkafka_for_all_that_a_group_has_committed() -> None:
    package = Path(streamkit.__file__).parent
    asking = [path for path in package.rglob("*.py") if "list_consumer_group_offsets" in path.read_text()]
    assert not asking
