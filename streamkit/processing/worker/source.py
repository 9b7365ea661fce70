"""What a worker needs of an input, whoever provides it: records by partition, ownership, commits.

The source owns the connection and decides when partitions come and go; the worker is its `Listener`. All of
`Listener` runs on the event loop. An `await`ing listener method holds the membership change back until it is
done, and during it the source's own methods (`commit` above all) keep working.

    subscribe ─► assigned(partitions) ─► begin(positions) ─► received(arrivals) … ─► revoked(partitions)
                 (restore meanwhile)                                             └► lost(partitions)

Records of a partition arrive only between its `begin` and the end of `revoked`/`lost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from streamkit.processing.record import RawRecord

Partition = tuple[str, int]  # topic, number


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where reading of a partition starts or has been committed. `offset=None`: no commit exists."""

    topic: str
    partition: int
    offset: int | None
    metadata: str = ""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """Records of one partition in offset order. `end_offset`: the partition ended there, after them."""

    topic: str
    partition: int
    records: Sequence[RawRecord]
    end_offset: int | None = None


class Listener(Protocol):
    async def assigned(self, positions: Sequence[Position]) -> None:
        """These partitions are ours from now on; the positions are the group's commits."""
        ...

    async def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish with these partitions and commit: on return they belong to somebody else."""
        ...

    async def lost(self, partitions: Sequence[Partition]) -> None:
        """These partitions belong to somebody else already: nothing may be committed."""
        ...

    def received(self, arrivals: Sequence[Arrival]) -> None:
        """Records; `Source.taken` must be called once they are."""
        ...

    def failed(self, error: BaseException) -> None:
        """The source cannot go on."""
        ...


class Source(Protocol):
    async def start(self, listener: Listener) -> None:
        """Join; the listener hears of everything else."""
        ...

    async def halt(self, partitions: Sequence[Partition]) -> None:
        """Stop reading these: nothing of them arrives after this returns, until they begin again."""
        ...

    async def committed(self, partitions: Sequence[Partition]) -> list[Position]:
        """What the group committed for these partitions. Waits for a transaction that is being decided."""
        ...

    async def member_id(self) -> str:
        """Who we are in the group, as its coordinator says."""
        ...

    async def group(self) -> Any:
        """Who we are in the group now, for a transaction that carries offsets."""
        ...

    async def begin(self, positions: Sequence[Position]) -> None:
        """Start reading assigned partitions here; without an offset by the reset policy."""
        ...

    def taken(self) -> None:
        """The worker has room for one more round of `received`."""
        ...

    async def commit(self, positions: Sequence[Position]) -> bool:
        """Make the positions durable. False: not now (a rebalance, no coordinator); try again later."""
        ...

    async def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The end offsets now; a partition whose leader does not answer is missing."""
        ...

    async def known_ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The end offsets as of the last fetch, without asking anybody."""
        ...

    async def close(self) -> None:
        """Leave the group; partitions still owned are revoked first."""
        ...
