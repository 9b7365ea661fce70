"""Leaders that this node has lost sight of, and answers that wait until the cluster has given them up.

A follower knows within milliseconds that its leader's process has ended: the connection closes, and nobody
listens at the address any more. The controller knows it, too, and is about to say who leads instead.
Whoever is told of the old leader meanwhile finds nobody there, and how soon he asks again is his to choose:
often a second later. So an answer that would name such a leader waits until metadata says otherwise, until
the leader is heard of again, or until WAIT_MS have passed since it was lost. Then what is known is told,
and no answer waits for that loss again: it may be this node that is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from streamkit.broker.controller.image import MetadataImage, TopicImage
from streamkit.runtime.contracts.clock import Clock

WAIT_MS: Final = 1_000
"""An election takes a fraction of it, also where the lost broker was the active controller."""


class _Loss(msgspec.Struct, frozen=True, gc=False):
    broker_epoch: int
    until_ms: int


class LostLeaders:
    def __init__(self, image: Callable[[], MetadataImage], clock: Clock) -> None:
        self._image = image
        self._clock = clock
        self._losses: dict[int, _Loss] = {}
        self._changed = asyncio.Event()

    # -- what is known ---------------------------------------------------------------------------------------

    def lost(self, broker_id: int) -> None:
        """Its connection is closed. To hear of it again before the broker was heard of changes nothing."""
        broker = self._image().brokers.get(broker_id)
        if broker is None or broker.fenced:
            return
        known = self._losses.get(broker_id)
        if known is None or known.broker_epoch != broker.epoch:
            self._losses[broker_id] = _Loss(broker.epoch, self._clock.monotonic_ms() + WAIT_MS)

    def heard(self, broker_id: int) -> None:
        """It is there after all."""
        if self._losses.pop(broker_id, None) is not None:
            self._wake()

    def metadata_changed(self) -> None:
        """Somebody else may lead now."""
        if self._losses:
            brokers = self._image().brokers
            self._losses = {
                broker_id: loss
                for broker_id, loss in self._losses.items()
                if (broker := brokers.get(broker_id)) is not None
                and (broker.epoch, broker.fenced) == (loss.broker_epoch, False)
            }
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- who waits -------------------------------------------------------------------------------------------

    def are_missed(self, topics: Collection[str] | None) -> bool:
        """Whether an answer that tells the leaders of these topics (None is all) is to wait."""
        return bool(self._losses) and self._until_ms(topics) is not None

    async def settled(self, topics: Collection[str] | None) -> None:
        """Wait as long as that is so."""
        while (until_ms := self._until_ms(topics)) is not None:
            changed = self._changed
            try:
                async with asyncio.timeout((until_ms - self._clock.monotonic_ms()) / 1000):
                    await changed.wait()
            except TimeoutError:
                continue

    def _until_ms(self, topics: Collection[str] | None) -> int | None:
        now_ms = self._clock.monotonic_ms()
        waited_for = {broker_id: loss for broker_id, loss in self._losses.items() if now_ms < loss.until_ms}
        if not waited_for:
            return None
        leaders = _leaders(self._topics(topics))
        return max((loss.until_ms for one, loss in waited_for.items() if one in leaders), default=None)

    def _topics(self, names: Collection[str] | None) -> Iterable[TopicImage]:
        topics = self._image().topics
        if names is None:
            return topics.values()
        return (topics[name] for name in names if name in topics)


def _leaders(topics: Iterable[TopicImage]) -> set[int]:
    return {partition.leader for topic in topics for partition in topic.partitions}
