"""The real assignor gives the partitions of a member that left to those that would have had their copies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer

from streamkit.processing.kafka.roster import KafkaRoster
from streamkit.processing.kafka.settings import consumer_settings
from streamkit.processing.worker.roster import Peer, client_id, copies
from tests.processing.cluster.members import WAIT_S
from tests.support.worker_process import Outside

NAMES = ["w3", "w1", "w4", "w2"]


async def test_who_inherits_is_foreseen(outside: Outside, name: str) -> None:
    topics = {f"{name}-a": 7, f"{name}-b": 5}
    for topic, partitions in topics.items():
        outside.create(topic, partitions)
    roster = KafkaRoster(outside.bootstrap, name, {})
    consumers = [_joined(outside, name, who, list(topics)) for who in NAMES]
    peers = await _settled(roster, consumers, lambda found: max(len(p.partitions) for p in found) == 3)
    assert {peer.address for peer in peers} == {f"{who}:1" for who in NAMES}
    while len(consumers) > 2:
        foreseen, gone = copies(peers, 1, lambda _: True), consumers.pop()
        lost = next(peer for peer in peers if peer.member == gone.memberid())
        before = {peer.member: peer.partitions for peer in peers if peer is not lost}
        await asyncio.to_thread(gone.close)
        peers = await _settled(roster, consumers, lambda _: True)
        for peer in peers:
            assert peer.partitions - before[peer.member] == foreseen[peer.member] & lost.partitions
    for consumer in consumers:
        await asyncio.to_thread(consumer.close)
    await roster.close()


def _joined(outside: Outside, group: str, who: str, topics: list[str]) -> Consumer:
    settings = consumer_settings(outside.bootstrap, group, {})
    consumer = Consumer({**settings, "client.id": client_id(who, f"{who}:1")})
    consumer.subscribe(topics)
    return consumer


async def _settled(
    roster: KafkaRoster, consumers: Sequence[Consumer], balanced: Callable[[Sequence[Peer]], bool]
) -> Sequence[Peer]:
    """The members once each partition has one of them as its owner."""
    async with asyncio.timeout(WAIT_S):
        while True:
            for consumer in consumers:
                await asyncio.to_thread(consumer.poll, 0.02)
            found = await roster.peers()
            if found is None or len(found) != len(consumers):
                continue
            if sum(len(peer.partitions) for peer in found) == 12 and balanced(found):
                return found
