"""What an index on disk has in the order of time, read while the state that rests on it changes.

`ordered`, `escaped` and `prefixed` make the names of an index: bytes in the order of what they stand for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

ENTRIES_AHEAD = 1_000  # that are read at once, at most
BIAS = 1 << 63
BIAS_BYTES = 8

Entry = tuple[bytes, bytes]
Read = Callable[[bytes, bytes, int], Sequence[Entry]]  # start, end, limit


class Timeline:
    """The entries of an index with start ≤ name < end, in order.

    An index is as it was at the last commit. The state knows better what it holds in memory; it judges
    whether an entry still counts. What it has read and done with is not there any more after the next commit,
    so nobody goes over it again: over nothing but deletions, perhaps a million of them.
    """

    def __init__(self, read: Read, start: bytes, end: bytes) -> None:
        self._read = read
        self._end = end
        self._passed = start  # what comes before it was popped
        self._goes_on = start  # where to begin once the changes that were taken are in the index
        self._next = start
        self._ahead: deque[Entry] = deque()
        self._limit = 1
        self._is_over = False

    def first(self) -> Entry | None:
        """The next entry."""
        if not self._ahead and not self._is_over:
            found = self._read(self._next, self._end, self._limit)
            self._ahead.extend(found)
            self._is_over = len(found) < self._limit
            self._limit = min(ENTRIES_AHEAD, 8 * self._limit)
            if found:
                self._next = found[-1][0] + b"\0"
        return self._ahead[0] if self._ahead else None

    def pop(self) -> bytes:
        """The name of `first`; on to the entry behind it."""
        self._passed = self._ahead.popleft()[0]
        return self._passed

    def taken(self, least: bytes | None) -> None:
        """The state's changes were taken. `least`: the first name that the index may have of what is in
        memory, and that is not done with.
        """
        self._goes_on = self._passed if least is None else min(self._passed, least)

    def written(self) -> None:
        """They are in the index."""
        self._passed = self._next = self._goes_on
        self._ahead.clear()
        self._limit, self._is_over = 1, False


def ordered(number: int) -> bytes:
    """Eight bytes in the order of numbers, negative ones too. The first byte of a time is never 255."""
    return (number + BIAS).to_bytes(BIAS_BYTES, "big")


def number_in(data: bytes) -> int:
    """Of `ordered`."""
    return int.from_bytes(data[:BIAS_BYTES], "big") - BIAS


def escaped(data: bytes) -> bytes:
    """In the order of `data`, whatever follows, as long as that does not begin with 255."""
    return data.replace(b"\0", b"\0\xff") + b"\0"


def unescaped(data: bytes) -> bytes:
    return data[:-1].replace(b"\0\xff", b"\0")


def prefixed(data: bytes) -> bytes:
    """Such that no other begins with it."""
    return len(data).to_bytes(4, "big") + data
