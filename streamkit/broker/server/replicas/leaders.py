"""Who leads a partition now, for an answer that says that this broker does not."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from streamkit.protocol.error_codes import ErrorCode

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker, CurrentLeader

LEADER_ERRORS: Final = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)


class Leaders:
    """Collects the leaders that one answer names."""

    def __init__(self, broker: Broker, listener: str) -> None:
        self._broker = broker
        self._listener = listener
        self._told: dict[int, CurrentLeader] = {}

    def of(self, topic_id: bytes, partition: int, error: ErrorCode) -> CurrentLeader | None:
        """The leader to name beside this error; None beside any other, or if there is none."""
        if error not in LEADER_ERRORS:
            return None
        leader = self._broker.current_leader(self._broker.topic_name(topic_id), partition, self._listener)
        if leader is not None:
            self._told[leader.node_id] = leader
        return leader

    @property
    def told(self) -> Collection[CurrentLeader]:
        return self._told.values()
