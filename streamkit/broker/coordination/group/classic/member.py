"""One member of a classic group, as the coordinator knows it between requests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from streamkit.broker.coordination.group.records import MemberMetadata
from streamkit.broker.coordination.shard import Token
from streamkit.protocol.messages.join_group import JoinGroupRequestProtocol


class Member(msgspec.Struct, kw_only=True):
    """`assignment` is what the last synced generation gave it; the rest is what it last joined with.

    `joining` and `syncing` are the parked requests; a member that waits is alive without heartbeats. A *new*
    member has never completed a join: it does not know its id yet and so cannot even retry under it, which is
    why its parked join expires.
    """

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: Sequence[JoinGroupRequestProtocol]
    assignment: bytes = b""
    is_new: bool = False
    joining: Token | None = None
    syncing: Token | None = None

    @property
    def protocol_names(self) -> list[str]:
        return [protocol.name for protocol in self.protocols]

    def metadata(self, protocol_name: str | None) -> bytes:
        """What the member said under one protocol; empty if it does not know the protocol."""
        return next((p.metadata for p in self.protocols if p.name == protocol_name), b"")

    def vote(self, candidates: Collection[str]) -> str:
        """The first of the member's protocols that everybody knows."""
        return next(name for name in self.protocol_names if name in candidates)

    def joined_with(self, protocols: Sequence[JoinGroupRequestProtocol]) -> bool:
        """Whether these are the protocols and metadata that it joined with, in the same order."""
        return list(self.protocols) == list(protocols)

    def recorded(self, protocol_name: str, assignment: bytes) -> MemberMetadata:
        return MemberMetadata(
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout=self.rebalance_timeout_ms,
            session_timeout=self.session_timeout_ms,
            subscription=self.metadata(protocol_name),
            assignment=assignment,
        )

    @staticmethod
    def restored(record: MemberMetadata, protocol_name: str) -> Member:
        """A member of a generation that was read back; it knows the one protocol that was in use."""
        timeout_ms = record.rebalance_timeout
        return Member(
            member_id=record.member_id,
            instance_id=record.group_instance_id,
            client_id=record.client_id,
            client_host=record.client_host,
            rebalance_timeout_ms=record.session_timeout if timeout_ms == -1 else timeout_ms,
            session_timeout_ms=record.session_timeout,
            protocols=[JoinGroupRequestProtocol(name=protocol_name, metadata=record.subscription)],
            assignment=record.assignment,
        )
