"""Who votes, as a configuration writes it: `1@host:port,2@host:port,3@host:port`; what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streamkit.errors import UsageError

VOTERS_KEY = "controller.quorum.voters"
EXAMPLE = "1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093"


class QuorumVoter(msgspec.Struct, frozen=True, gc=False):
    """A node that votes, and where the others find its controller listener."""

    node_id: int
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.node_id}@{host}:{self.port}"


def parse_voters(texts: Iterable[str]) -> tuple[QuorumVoter, ...]:
    """The voters, each once; raises UsageError."""
    voters = tuple(_parse_voter(text) for text in texts)
    by_id: dict[int, QuorumVoter] = {}
    by_address: dict[tuple[str, int], QuorumVoter] = {}
    for voter in voters:
        if voter.node_id in by_id:
            raise _malformed(f"node {voter.node_id} stands in it twice")
        if (voter.host, voter.port) in by_address:
            raise _malformed(f"{voter.host}:{voter.port} stands in it twice")
        by_id[voter.node_id] = by_address[voter.host, voter.port] = voter
    return voters


def _parse_voter(text: str) -> QuorumVoter:
    node_id, at, address = text.partition("@")
    host, colon, port = address.rpartition(":")
    if not (node_id.isdecimal() and at and host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise _malformed(f"{text!r} is not ID@HOST:PORT")
    return QuorumVoter(int(node_id), host.strip("[]"), int(port))


def _malformed(reason: str) -> UsageError:
    return UsageError(f"{VOTERS_KEY}: {reason}", hint=f"for example --voters {EXAMPLE}")


def internal_replication_factor(wanted: int, *, voters: int, brokers: int) -> int | None:
    """Replicas of a topic of the cluster's own, with so many voters configured and so many brokers live.

    As many as there are brokers if fewer than wanted; but a cluster that is configured for several waits for
    them (None), for what begins with one replica stays so.
    """
    return min(wanted, max(brokers, 1)) if brokers >= min(wanted, voters) else None
