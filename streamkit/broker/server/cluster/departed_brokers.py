"""Brokers that the cluster gave up a moment ago, and that clients are told of a moment longer.

One answer to Metadata says two things about a broker that died: others lead what it led, and it is gone. A
client that heeds the second first takes the partitions along that it believes to be there, just when the
first has moved them: librdkafka (since 2.10) ends its handle of a broker that is not in the answer, loses
the leaders that it has just heard of, and looks for them a second later. So a broker stays in the list
while clients learn who leads in its place. It leads nothing and counts as an offline replica from the
beginning; whoever connects to it in vain goes on to another, as during the session that it had until it was
fenced.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamkit.broker.controller.image import MetadataImage
from streamkit.runtime.contracts.clock import Clock

TOLD_FOR_MS: Final = 1_000
"""About as long as clients wait at most between two questions for leaders that they miss."""


class DepartedBrokers:
    def __init__(self, image: MetadataImage, clock: Clock) -> None:
        self._image = image
        self._clock = clock
        self._live: set[int] = set()
        self._until_ms: dict[int, int] = {}

    def begin(self) -> None:
        """From now on `changed` is told of every change."""
        self._live = {broker.broker_id for broker in self._image.live_brokers()}

    def changed(self, brokers: Iterable[int]) -> None:
        """The image has changed as to these brokers."""
        for broker_id in sorted(brokers):
            if self._image.is_live(broker_id):
                self._live.add(broker_id)
                self._until_ms.pop(broker_id, None)
            elif broker_id in self._live:
                self._live.discard(broker_id)
                self._until_ms[broker_id] = self._clock.monotonic_ms() + TOLD_FOR_MS

    def still_told(self) -> tuple[int, ...]:
        """The registered ones of those that left within the last moment."""
        if not self._until_ms:
            return ()
        now_ms = self._clock.monotonic_ms()
        self._until_ms = {broker_id: end for broker_id, end in self._until_ms.items() if now_ms < end}
        return tuple(broker_id for broker_id in self._until_ms if broker_id in self._image.brokers)
