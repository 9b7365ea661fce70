"""What the job must answer, computed in one plain pass over the CSV file. It shares no code with the engine.

The rules, in words:

- A flight's event time is its scheduled departure; its window is the hour that holds it, for its carrier.
- Each airport has a clock: the latest event time among the flights told of so far, cancelled ones included.
- A flight is late when its window's end plus an hour of grace has been reached by its own airport's clock.
  The other airports do not matter: however fast their feeds are read, they make no flight of this one late.
- A cancelled flight is in no window; it is a dead letter.

So each flight is exactly one of: counted, late, cancelled; and which one follows from the file alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamkit.demo.feed import Row, scheduled_ms

HOUR_MS = 3_600_000
GRACE_MS = HOUR_MS

Window = tuple[str, int]  # carrier, start in ms
Delays = tuple[int, float, int]  # flights, mean delay, greatest delay
FlightId = tuple[str, str, int, str]  # scheduled, carrier, flight, destination


@dataclass
class Answer:
    """Everything that the job says about the flights, or should say."""

    windows: dict[Window, Delays] = field(default_factory=dict)
    late: Counter[FlightId] = field(default_factory=Counter)
    cancelled: Counter[FlightId] = field(default_factory=Counter)


def answer(rows: Iterable[Row]) -> Answer:
    found = Answer()
    delays: dict[Window, list[int]] = {}
    clocks: dict[str, int] = {}
    for row in rows:
        time_ms = scheduled_ms(row)
        clock = clocks[row["origin"]] = max(time_ms, clocks.get(row["origin"], time_ms))
        start = time_ms - time_ms % HOUR_MS
        flight = (row["scheduled"], row["carrier"], int(row["flight"]), row["dest"])
        if not row["delay"]:
            found.cancelled[flight] += 1
        elif start + HOUR_MS + GRACE_MS <= clock:
            found.late[flight] += 1
        else:
            delays.setdefault((row["carrier"], start), []).append(int(row["delay"]))
    found.windows = {window: (len(d), sum(d) / len(d), max(d)) for window, d in delays.items()}
    return found
