"""Where a scene that claims safety is played: on one broker, or on three of which a leader is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ClassVar, Protocol

from streamkit.broker.coordination.placement import partition_for
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import until
from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess

GROUPS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"


class Stage(Protocol):
    replicas: int

    @property
    def bootstrap(self) -> str: ...

    def leader_dies(self, topic: str, key: str | None = None) -> AbstractContextManager[None]:
        """Within, the leader of the topic's first partition, or of the one that `key` goes to, is killed.

        It is killed beside what happens within, and runs again after it.
        """
        ...


class OneBroker:
    replicas: ClassVar[int] = 1

    def __init__(self, process: BrokerProcess) -> None:
        self.bootstrap = process.bootstrap

    def leader_dies(self, topic: str, key: str | None = None) -> AbstractContextManager[None]:
        return nullcontext()


class ThreeBrokers:
    replicas: ClassVar[int] = 3

    def __init__(self, cluster: BrokerCluster) -> None:
        self._cluster = cluster
        self.bootstrap = cluster.bootstrap
        self._judge = Confluent(self.bootstrap)

    @contextmanager
    def leader_dies(self, topic: str, key: str | None = None) -> Iterator[None]:
        until(self._is_whole, "every replica is in sync")
        leaders = self._judge.leaders(topic)
        victim = self._cluster[leaders[0 if key is None else partition_for(key, len(leaders))]]
        killing = threading.Thread(target=victim.kill)
        killing.start()
        try:
            yield
        finally:
            killing.join()
            victim.start()

    def _is_whole(self) -> bool:
        return len(self._cluster.running) == 3 and not self._judge.lagging()
