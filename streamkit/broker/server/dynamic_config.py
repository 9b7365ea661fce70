"""What this broker does now: how it was started, under what has been altered since, and who heeds that.

The defaults of topics are laid under each topic's own by `Partitions`; here is what the broker itself
re-reads. Every broker follows the metadata, so what is altered for all of them is in force everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.effective_config import broker_config
from streamkit.broker.controller.image import MetadataChanges, MetadataImage, ResourceType


class DynamicConfig:
    def __init__(self, started: BrokerConfig) -> None:
        self.now = started
        self._started = started
        self._listeners: list[Callable[[BrokerConfig], None]] = []

    def on_change(self, heed: Callable[[BrokerConfig], None]) -> None:
        """Have `heed` called with the new configuration whenever it is another."""
        self._listeners.append(heed)

    def begin(self, image: MetadataImage) -> None:
        altered = broker_config(image, self._started)
        if altered != self.now:
            self.now = altered
            for heed in self._listeners:
                heed(altered)

    def apply(self, image: MetadataImage, changes: MetadataChanges) -> None:
        if any(resource.type == ResourceType.BROKER for resource in changes.configs):
            self.begin(image)
