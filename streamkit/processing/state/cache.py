"""How much of its stores a worker keeps decoded.

A worker has one allowance of memory for that (half of `App(state_memory=…)`), divided among its tasks and,
within a task, among the states that can let entries go. It is kept by counting entries: their typical size is
learned from what they take in a commit, and an entry in Python is reckoned at `DECODED` times that and
`OVERHEAD`.
A state may hold twice its share until a commit lets the clean ones go; so that one comes early. While it
is under way a state that holds three times its share takes no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from streamkit.errors import UsageError
from streamkit.processing.record import RawRecord
from streamkit.processing.state.store import Change
from streamkit.processing.units import Size, size_bytes

STATE_MEMORY = "512MiB"
LEAST_STATE_MEMORY = 16 << 20
CACHE_BYTES = 256 << 20
CACHED = 100_000  # entries kept decoded by all tasks of a worker for each so many bytes, however small
LEAST_CACHED = 100  # entries of each state, however many or large there are
CROWDED, FULL = 2, 3  # times the share
KEEPS_ONE_IN = 2  # of a cache that has grown too large
UNKNOWN = 16_000  # bytes: an entry is reckoned large until the first commit tells
DECODED = 3
OVERHEAD = 300  # bytes
SAMPLE = 64


@runtime_checkable
class Cache(Protocol):
    """A state that keeps some of its store's entries decoded. `spills`: or all of them, if it is false."""

    @property
    def spills(self) -> bool: ...

    cached_most: int
    entry_bytes: int  # of one as it is stored, typically; 0: not known yet

    @property
    def cached(self) -> int: ...


def with_keys(
    records: Sequence[RawRecord], decode: Callable[[bytes], Any]
) -> Iterator[tuple[Any, RawRecord]]:
    """Records that are announced, by key; without those whose keys are missing, cannot be read, or cannot be
    a key (a JSON object), which is their own affair when their turn comes.
    """
    for record in records:
        data = record.key()
        if data is None:
            continue
        try:
            key = decode(data)
            hash(key)
        except Exception:
            continue
        yield key, record


def typical_bytes(changes: Sequence[Change]) -> int:
    """The mean size of some of these entries; 0: none."""
    some = changes[:: max(1, len(changes) // SAMPLE)]
    sizes = [len(key) + len(value) for key, value in some if value is not None]
    return sum(sizes) // len(sizes) if sizes else 0


def checked_state_memory(size: Size) -> int:
    """In bytes, if that is enough to work with."""
    memory_bytes = size_bytes(size)
    if memory_bytes < LEAST_STATE_MEMORY:
        raise UsageError(f"state_memory is at least {LEAST_STATE_MEMORY >> 20} MiB, got {size!r}")
    return memory_bytes


def entries_within(size: int, entry_bytes: int) -> int:
    """How many entries of this stored size (0: not known) are decoded within `size` bytes."""
    return size // (DECODED * (entry_bytes or UNKNOWN) + OVERHEAD)
