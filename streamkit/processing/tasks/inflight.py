"""Records in the hands of asynchronous code: who may start, and what a commit must wait for.

`InFlight` is the core of record agents: at most `capacity` records at once. By its `order`:

- `"key"`: never two of one key, and records of one key in the order in which they came. A record without a
  key is bound to no order.
- `"input"`: results leave in the order of the input; one that is ready earlier waits, and is in flight still.
- `"none"`: each result leaves when it is there.

    admit ──► ready ──take──► running ──done──► (waits for those before it) ──► gone
                ▲                         │
                └── the key's next one ───┘

`Lanes` is the core of stream agents and batch agents: each of N loops owns a queue, and a key always goes to
the same one. A record is finished when its stream loop asks for the next, or with its batch.

Both know the *lowest unfinished offset* of each source partition: nothing at or past it may be committed
(SEMANTICS P1). Entries that came from no record (a window's result) have no offset; a task with such state
commits only when nothing is in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Literal

import msgspec

from streamkit.processing.record import Headers, RawRecord, Record

Place = tuple[str, int]  # topic, partition
# the record it came from, value, key, event time, stream time, headers (None: the record's)
Item = tuple[RawRecord | None, Any, Any, int, int, Headers | None]
RAW: Final = 0
VALUE: Final = 1
KEY: Final = 2
TIME: Final = 3
STREAM_TIME: Final = 4
HEADERS: Final = 5
Order = Literal["key", "input", "none"]
_encode = msgspec.json.Encoder(order="sorted", enc_hook=repr).encode


def record_of(item: Item) -> Record[Any]:
    """What a user function sees beside the value."""
    return Record(item[RAW], item[KEY], item[TIME], item[HEADERS])


def ordering(key: Any) -> Any:
    """What is equal for equal keys and can be looked up: a key, or, of a JSON object, its text."""
    try:
        hash(key)
    except TypeError:
        return _encode(key)
    return key


class Unfinished:
    """Offsets that were admitted and are not finished, by source partition."""

    def __init__(self) -> None:
        self._offsets: dict[Place, dict[int, int]] = {}  # place → offset → how many entries stem from it
        self.count = 0

    def add(self, raw: RawRecord | None) -> None:
        self.count += 1
        if raw is not None:
            offsets = self._offsets.setdefault((raw.topic(), raw.partition()), {})
            offset = raw.offset()
            offsets[offset] = offsets.get(offset, 0) + 1

    def remove(self, raw: RawRecord | None) -> None:
        self.count -= 1
        if raw is not None:
            offsets = self._offsets[raw.topic(), raw.partition()]
            offset = raw.offset()
            if offsets[offset] == 1:
                del offsets[offset]
            else:
                offsets[offset] -= 1

    def lowest(self, place: Place) -> int | None:
        offsets = self._offsets.get(place)
        return min(offsets) if offsets else None


class _Started(msgspec.Struct, eq=False):
    """A record whose result leaves in its turn."""

    item: Item
    result: Any = None
    is_done: bool = False


class InFlight:
    """Bounded concurrency. Invariants: running ≤ capacity; with order per key a key runs at most once."""

    def __init__(self, capacity: int, order: Order = "key") -> None:
        self.capacity = capacity
        self.running = 0
        self._order = order
        self._ready: deque[Item] = deque()
        self._behind: dict[Any, deque[Item]] = {}  # key ready or running → those that wait for it
        self._turns: deque[_Started] = deque()  # with order="input"
        self._unfinished = Unfinished()

    def admit(self, item: Item) -> None:
        """Take a record in."""
        self._unfinished.add(item[RAW])
        key = ordering(item[KEY])
        if key is None or self._order != "key":
            self._ready.append(item)
        elif key in self._behind:
            self._behind[key].append(item)
        else:
            self._behind[key] = deque()
            self._ready.append(item)

    def take(self) -> Item | None:
        """The next record that may start now, which is running from here on."""
        if not self._ready or self.running >= self.capacity:
            return None
        self.running += 1
        item = self._ready.popleft()
        if self._order == "input":
            self._turns.append(_Started(item))
        return item

    def done(self, item: Item, result: Any) -> Iterator[tuple[Item, Any]]:
        """The record has a result, None if it has none: those whose turn it is to leave. Each that left is to
        be finished before the next is asked for.
        """
        if self._order != "input":
            yield item, result
            return
        mine = next(one for one in self._turns if one.item is item)
        mine.result, mine.is_done = result, True
        while self._turns and self._turns[0].is_done:
            first = self._turns.popleft()
            yield first.item, first.result

    def finish(self, item: Item) -> None:
        """The record is done, for better or worse; its key's next one becomes ready."""
        self.running -= 1
        self._unfinished.remove(item[RAW])
        key = ordering(item[KEY])
        if key is not None and self._order == "key":
            behind = self._behind[key]
            if behind:
                self._ready.append(behind.popleft())
            else:
                del self._behind[key]

    def lowest(self, place: Place) -> int | None:
        """The lowest offset of this partition that is not finished."""
        return self._unfinished.lowest(place)

    def __len__(self) -> int:
        return self._unfinished.count


class Lane:
    """The queue of one loop. The head is the record in hand while `in_hand`. `answered`: the record of which
    whoever asked has heard.
    """

    __slots__ = ("answered", "in_hand", "queue")

    def __init__(self) -> None:
        self.queue: deque[Item] = deque()
        self.in_hand = False
        self.answered: Item | None = None

    def next(self) -> Item | None:
        """The loop asks for another record: the one in hand is finished."""
        if self.in_hand:
            self.queue.popleft()
        self.in_hand = bool(self.queue)
        return self.queue[0] if self.in_hand else None

    @property
    def is_answered(self) -> bool:
        """Has whoever asked for the head heard of it? Its next try tells nobody again."""
        return bool(self.queue) and self.answered is self.queue[0]

    def first(self, count: int) -> list[Item]:
        """For a batch: the records at the head, which stay until they are dropped."""
        return list(islice(self.queue, count))

    def drop(self, count: int) -> None:
        """So many are done."""
        for _ in range(count):
            self.queue.popleft()


class Lanes:
    """The queues of the loops of a stream agent, or a batch agent."""

    def __init__(self, capacity: int) -> None:
        self.lanes = tuple(Lane() for _ in range(capacity))
        self._turn = 0

    def admit(self, item: Item) -> None:
        if len(self.lanes) == 1:
            self.lanes[0].queue.append(item)
            return
        key = ordering(item[KEY])
        if key is None:
            self._turn += 1
            number = self._turn
        else:
            number = hash(key)
        self.lanes[number % len(self.lanes)].queue.append(item)

    def lowest(self, place: Place) -> int | None:
        """Of all that wait: streams of one topic that meet here come one after the other, slice by slice."""
        return min((raw.offset() for lane in self.lanes for raw in _of(lane, place)), default=None)

    def __len__(self) -> int:
        return sum(len(lane.queue) for lane in self.lanes)


def _of(lane: Lane, place: Place) -> Iterator[RawRecord]:
    """The lane's records of one source partition."""
    for item in lane.queue:
        raw = item[RAW]
        if raw is not None and (raw.topic(), raw.partition()) == place:
            yield raw
