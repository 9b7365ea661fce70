"""The records that wait for a task, and which of its partitions comes next.

Most tasks take arrivals as they come. One that looks rows up must not read a record before the rows that were
there at its time: it takes the partition whose next record is the oldest, tables first at equal times, and
none while a partition is empty here but not read to its end. It waits for that one (it lags) however long it
takes, and not at all for one that is caught up. Times are the records' own timestamps.

What is held back meanwhile is bounded: past `MOST_HELD` records the oldest goes on without waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence

from streamkit.processing.record import RawRecord
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.source import Arrival

MOST_HELD = 100_000


class Waiting:
    """The arrivals of one partition. `start`: how much of the first is taken."""

    __slots__ = ("arrivals", "start")

    def __init__(self) -> None:
        self.arrivals: deque[Arrival] = deque()
        self.start = 0


class Intake:
    """`tables`: partitions with rows that others look up, all of `places` in time order; None: no order."""

    def __init__(self, places: Sequence[Place] = (), tables: Container[Place] | None = None) -> None:
        self.queued = 0  # records
        self._ordered = tables is not None
        self._ranks = {place: int(place not in (tables or ())) for place in places}
        self._waiting: dict[Place, Waiting] = {}  # never an empty one
        self._arrivals: deque[Place] = deque()  # without an order: whose turn it is

    def offer(self, arrival: Arrival) -> None:
        place = (arrival.topic, arrival.partition)
        self._waiting.setdefault(place, Waiting()).arrivals.append(arrival)
        self._arrivals.append(place)
        self.queued += len(arrival.records)

    def clear(self) -> None:
        self._waiting.clear()
        self._arrivals.clear()
        self.queued = 0

    @property
    def places(self) -> Container[Place]:
        """Partitions of which something waits."""
        return self._waiting.keys()

    def turn(self, at_end: Container[Place]) -> Place | None:
        """The partition whose records come next. `at_end`: those that are caught up. None: wait."""
        if not self._waiting:
            return None
        if not self._ordered:
            return self._arrivals[0]
        lagging = (place for place in self._ranks if place not in self._waiting and place not in at_end)
        if next(lagging, None) is not None and self.queued < MOST_HELD:
            return None
        return min(self._waiting, key=self._next)

    def records(self, place: Place, limit: int) -> Sequence[RawRecord]:
        """The next records of the partition whose turn it is: none that another partition's precede."""
        waiting = self._waiting[place]
        records = waiting.arrivals[0].records[waiting.start : waiting.start + limit]
        if not self._ordered or len(self._waiting) == 1:
            return records
        bound = min(self._next(other) for other in self._waiting if other != place)
        rank = self._ranks.get(place, 1)
        for index, record in enumerate(records):
            if (record.timestamp()[1], rank) > bound:
                return records[: max(1, index)]
        return records

    def took(self, place: Place, count: int) -> Arrival | None:
        """So many of them are done with. Returns the arrival that they were the last of, if they were."""
        waiting = self._waiting[place]
        waiting.start += count
        self.queued -= count
        arrival = waiting.arrivals[0]
        if waiting.start < len(arrival.records):
            return None
        waiting.arrivals.popleft()
        waiting.start = 0
        self._arrivals.remove(place)
        if not waiting.arrivals:
            del self._waiting[place]
        return arrival

    def _next(self, place: Place) -> tuple[int, int]:
        """The time of the partition's next record; one that only says where the end is goes first."""
        waiting = self._waiting[place]
        records = waiting.arrivals[0].records
        time_ms = records[waiting.start].timestamp()[1] if records else -(1 << 62)
        return time_ms, self._ranks.get(place, 1)
