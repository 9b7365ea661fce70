"""What a task commits, and the words that go with an offset.

A commit is a `Checkpoint` on its way through the worker, in this order (each step waits for the one before):

    1. produce `sinks` and `changelog`, and every output that came before; await all acknowledgements
    2. commit `offsets`, each with `metadata(place, positions)`; `positions` are the changelog ends just
    acknowledged 3. `task.committed(checkpoint, positions)`: the stores take one batch each

The metadata makes a restart exact: partition times (a late record stays late), the watermarks heard from
upstream tasks (windows neither wait nor close early), and the changelog position up to which a restore may
read. All source partitions of a task carry the positions; they are committed together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from streamkit.errors import RefusedError, UsageError
from streamkit.processing.tasks.fuse import SinkRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.watermark import Mark

METADATA_LIMIT = 4000  # bytes; Kafka's offset.metadata.max.bytes is 4096
MOST = 10**18  # as long as an offset or a time can be in practice


class CommitMetadata(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The metadata string of one committed offset, as JSON."""

    times: dict[str, int] = {}  # entry operator → stream time of this partition
    upstreams: list[Mark] = []  # what the tasks behind a repartition topic announced
    watermark_ms: int | None = None
    behind: tuple[str, int] | None = (
        None  # from this operator on they have only followed so far (`TaskClock`)
    )
    changelogs: dict[str, int] = {}  # changelog topic → committed position
    stores: dict[str, str] = {}  # store → fingerprint of its serdes and aggregations
    ancestries: dict[str, str] = {}  # store → where in the graph it stands

    def encode(self) -> str:
        """As text; where that is too long, without what a restart can do without, least precious first."""
        text = _encode(self)
        for reduced in self._reductions():
            if len(text) <= METADATA_LIMIT:
                break
            text = _encode(reduced)
        return text.decode()

    def _reductions(self) -> Iterator[CommitMetadata]:
        replace = msgspec.structs.replace
        shared = [_for_all(self.upstreams)] if self.upstreams else []
        yield (reduced := replace(self, upstreams=shared))
        yield (reduced := replace(reduced, ancestries={}))  # operators that change places go unnoticed once
        yield (reduced := replace(reduced, stores={}))  # a change of types goes unnoticed once
        yield replace(reduced, times={})  # the watermark still keeps closed windows closed

    @classmethod
    def decode(cls, text: str | None) -> CommitMetadata:
        """Metadata of a commit; empty for an offset that something else committed."""
        if not text:
            return cls()
        try:
            return _decode(text)
        except msgspec.DecodeError:
            return cls()


def _for_all(marks: Sequence[Mark]) -> Mark:
    """One mark in place of all: their minimum is what the watermark needs."""
    return Mark(-1, min(mark.time_ms for mark in marks), False)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CommitMetadata).decode


class Checkpoint(msgspec.Struct, kw_only=True):
    """The state of a task between two slices, ready to be committed."""

    sinks: dict[str, list[SinkRecord]]  # watermark records for repartition topics
    changelog: dict[str, list[SinkRecord]]  # changelog topic → changes since the last checkpoint
    offsets: dict[Place, int]  # the next offset to process
    clocks: dict[Place, CommitMetadata]  # without changelog positions

    def metadata(self, place: Place, positions: Mapping[str, int]) -> str:
        """The metadata of this partition's offset, given the acknowledged ends of the changelogs."""
        return msgspec.structs.replace(self.clocks[place], changelogs=dict(positions)).encode()


def check_room(changelogs: Iterable[str]) -> None:
    """Refuse a task with so many stores, or such long names, that no commit could name its changelogs."""
    names = list(changelogs)
    longest = CommitMetadata(
        changelogs=dict.fromkeys(names, MOST),
        upstreams=[Mark(-1, MOST, False)],
        watermark_ms=MOST,
        behind=(max(names, key=len, default=""), MOST),
    )
    if len(longest.encode().encode()) > METADATA_LIMIT:
        raise UsageError(
            f"{len(names)} stores in one task are too many for the metadata of a commit "
            f"({METADATA_LIMIT} bytes): {names[0]}, ...",
            hint="give the app and its tables and windows shorter names, or split the app",
        )


def check_fingerprints(committed: CommitMetadata, accepted: Mapping[str, Collection[str]]) -> None:
    """Refuse state that was written with other serdes or aggregations than those `accepted` of each store."""
    for store, known in accepted.items():
        if store in committed.stores and committed.stores[store] not in known:
            raise RefusedError(
                f"the state of {store} was written with other types or aggregations than declared now",
                hint="take the former declaration back (a class that is renamed or moved is another one), or "
                "begin anew: another name=, or streamkit app reset",
            )


def fingerprint(*parts: str) -> str:
    """Eight hex digits that change with the way a store's bytes are to be read."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
