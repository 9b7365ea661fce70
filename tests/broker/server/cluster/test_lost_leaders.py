"""An answer that would name a leader that has just been lost waits, and for no longer than it must."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamkit.broker.server.cluster.lost_leaders import WAIT_MS, LostLeaders
from streamkit.broker.server.handlers.cluster import metadata
from streamkit.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tests.broker.controller.cluster import Cluster, topic
from tests.broker.server.handlers.stub import StubBroker, ask

VERSION = 12
HELD_S = 0.05
"""Whoever does not wait is done before that."""


class Lost:
    """A broker of three, which follows broker 1 in `a` and broker 2 in `b`."""

    def __init__(self) -> None:
        self.cluster = Cluster(brokers=3)
        self.cluster.create(topic("a", assignments={0: [1, 2, 3]}), topic("b", assignments={0: [2, 3]}))
        self.broker = StubBroker(self.cluster)

    @property
    def leaders(self) -> LostLeaders:
        return self.broker.lost_leaders

    def fence(self, broker_id: int) -> None:
        self.cluster.fence(broker_id)
        self.leaders.metadata_changed()

    async def metadata(self, *topics: str) -> dict[str | None, int]:
        """Topic → the leader that a client is told; all topics if none is named."""
        wanted = [MetadataRequestTopic(name=name) for name in topics] or None
        told: MetadataResponse = await ask(metadata, self.broker, MetadataRequest(topics=wanted), VERSION)
        return {one.name: one.partitions[0].leader_id for one in told.topics}


@asynccontextmanager
async def held(lost: Lost, *topics: str) -> AsyncIterator[asyncio.Task[dict[str | None, int]]]:
    """A question about the topics that is not answered before the block begins."""
    asked = asyncio.create_task(lost.metadata(*topics))
    done, _ = await asyncio.wait((asked,), timeout=HELD_S)
    assert not done
    yield asked
    asked.cancel()


async def test_metadata_waits_for_the_successor_of_a_lost_leader() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    async with held(lost, "a") as asked:
        lost.fence(1)
        assert (await asyncio.wait_for(asked, 1))["a"] in (2, 3)


async def test_a_question_about_all_topics_waits_as_well() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    async with held(lost) as asked:
        lost.fence(1)
        assert (await asyncio.wait_for(asked, 1))["a"] in (2, 3)


async def test_metadata_about_other_leaders_does_not_wait() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    assert await lost.metadata("b") == {"b": 2}


async def test_a_leader_that_is_heard_of_again_is_told() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    async with held(lost, "a") as asked:
        lost.leaders.heard(1)
        assert await asyncio.wait_for(asked, 1) == {"a": 1}


async def test_other_changes_of_the_metadata_are_not_waited_for() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    async with held(lost, "a") as asked:
        lost.fence(3)
        done, _ = await asyncio.wait((asked,), timeout=HELD_S)
        assert not done


async def test_nothing_waits_for_one_loss_longer_than_a_moment() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    lost.cluster.clock.ms += WAIT_MS - 10
    assert lost.leaders.are_missed(["a"])
    lost.cluster.clock.ms += 10
    lost.leaders.lost(1)
    assert await lost.metadata("a") == {"a": 1}


async def test_who_waits_is_answered_when_the_moment_is_over() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    async with held(lost, "a") as asked:
        lost.cluster.clock.ms += WAIT_MS
        lost.leaders.metadata_changed()
        assert await asyncio.wait_for(asked, 1) == {"a": 1}


async def test_the_next_process_of_the_broker_may_be_lost_anew() -> None:
    lost = Lost()
    lost.leaders.lost(1)
    lost.cluster.clock.ms += WAIT_MS
    assert not lost.leaders.are_missed(["a"])
    lost.cluster.start(1, process=1, previous_epoch=lost.cluster.image.brokers[1].epoch)
    lost.leaders.metadata_changed()
    lost.leaders.lost(2)
    assert lost.leaders.are_missed(["b"])


async def test_a_broker_that_the_cluster_has_given_up_is_not_waited_for() -> None:
    lost = Lost()
    lost.fence(1)
    lost.leaders.lost(1)
    assert not lost.leaders.are_missed(None)
