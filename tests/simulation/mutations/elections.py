"""Defects of who is elected: a vote is forgotten, or a replica counts that has lost what it had."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller import brokers
from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.controller.leadership import without_broker
from streamkit.broker.controller.records import PartitionChangeRecord
from streamkit.broker.server.controller.quorum import Quorum
from streamkit.broker.server.controller.quorum_state import STATE_FILE
from tests.simulation.mutations import mutation, wrapped
from tests.simulation.mutations.scenarios import demanding


class UnflushedVotes:
    """A disk on which the quorum's state is written, and flushed by chance."""

    def __init__(self, disk: Any) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    async def replace(self, path: str, data: bytes) -> None:
        if not path.endswith(STATE_FILE):
            await self._disk.replace(path, data)
            return
        file = self._disk.open(path, create=True)
        file.truncate(0)
        file.write([data], 0)


@mutation(5, nodes=3)
def vote_not_fsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch and vote of the quorum are written, and nobody waits until they are on disk."""

    def make(original: Any) -> Any:
        def init(quorum: Quorum, *args: Any, **options: Any) -> None:
            original(quorum, *args, **options)
            quorum._disk = UnflushedVotes(quorum._disk)

        return init

    wrapped(Quorum, "__init__", make, monkeypatch)


@mutation(7, nodes=3, scenario=demanding)
def unclean_broker_kept_in_elr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes back counts as if it had lost nothing: it stays an eligible leader."""

    def count_on(
        image: MetadataImage, config: BrokerConfig, broker_id: int, *, wiped: bool
    ) -> list[PartitionChangeRecord]:
        return without_broker(image, config, broker_id)

    monkeypatch.setattr(brokers, "without_trust", count_on)
