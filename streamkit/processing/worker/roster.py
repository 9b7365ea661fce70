"""Who works on the app: the members of its group, what each was given, and where each is reached.

The coordinator of the group knows it and tells everybody (DescribeGroups, in every version of Kafka), so
there is no topic of our own for it, nothing that goes stale, and no clock. A worker that serves HTTP says so
in its client id, `{client.id}@{host}:{port}`, which `kafka-consumer-groups --describe` shows, too.

**Where copies go.** A standby is worth most at the worker that inherits the task. librdkafka's sticky
assignor deals out what a member leaves behind in a fixed way: from the last topic and partition to the first,
each to whoever has least then, among equals to the lowest member id. `copies` does the same for the loss of
each member, one at a time. Should an assignor decide otherwise, the task is restored where it lands: slower,
never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from streamkit.processing.worker.source import Partition, Position

HOST = r"[0-9A-Za-z](?:[0-9A-Za-z._-]*[0-9A-Za-z])?|\[[0-9A-Fa-f:.]+\]"
ADDRESS = re.compile(rf"(?:{HOST}):([0-9]{{1,5}})")


class Peer(msgspec.Struct, frozen=True):
    """A member of the group; its partitions are those of the topics that stand for tasks."""

    member: str
    address: str | None  # host:port
    partitions: frozenset[Partition]


class Roster(Protocol):
    async def peers(self) -> Sequence[Peer] | None:
        """None while nobody can say: the group is between two assignments, or its coordinator away."""
        ...

    async def committed(self, partitions: Sequence[Partition]) -> Sequence[Position] | None:
        """What the group has committed for these partitions, whosever they are, where it has. Waits for no
        transaction. None while nobody can say.
        """
        ...

    async def close(self) -> None: ...


def copies(
    peers: Sequence[Peer], replicas: int, stateful: Callable[[Partition], bool]
) -> dict[str, frozenset[Partition]]:
    """By member: the partitions whose state it keeps a copy of, `replicas` of each where there are enough."""
    kept: dict[str, set[Partition]] = {peer.member: set() for peer in peers}
    for lost in peers:
        others = {peer.member: len(peer.partitions) for peer in peers if peer is not lost}
        for place in sorted(lost.partitions, reverse=True):
            heirs = sorted(others, key=lambda member: (others[member], member))
            if not heirs:
                break
            others[heirs[0]] += 1
            if stateful(place):
                for member in heirs[:replicas]:
                    kept[member].add(place)
    return {member: frozenset(places) for member, places in kept.items()}


def owner_of(place: Partition, peers: Sequence[Peer]) -> Peer | None:
    return next((peer for peer in peers if place in peer.partitions), None)


def client_id(base: str, address: str | None) -> str:
    return base if address is None else f"{base}@{address}"


def address_in(client: str) -> str | None:
    """Where the client of this id is reached, if its id says so in the form of `client_id`. Anybody who may
    join the group may say anything.
    """
    _, at, address = client.rpartition("@")
    form = ADDRESS.fullmatch(address)
    return address if at and form is not None and 0 < int(form[1]) < 1 << 16 else None
