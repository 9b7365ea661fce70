"""Delays of New York's departures in 2013, by airline and hour: the job of `streamkit demo`.

    streamkit worker streamkit.demo.flights:app

Flights come in the order in which they left, and are counted in the hour in which they were *scheduled* to
leave. So most are out of order, and some come when their hour is long over: an hour stays open for another
hour of event time (the grace), and what comes later is late. Each airport is a partition, and has its own
clock: a flight is late by the clock of the airport that it left from, however far ahead the others are.

A cancelled flight has no delay to count. It goes to the dead letters, with the reason in its headers.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

import streamkit as sk

app = sk.App("demo")

# Event times of 2013: the default retention of seven days would take the records away at once.
KEEP = {"retention.ms": "-1"}


class Flight(msgspec.Struct):
    scheduled: datetime
    delay: int | None  # minutes, negative = early, None = cancelled
    carrier: str
    flight: int
    origin: str
    dest: str


class CancelledFlightError(Exception):
    """The flight never left."""


flights = app.topic("demo.flights", value=Flight, partitions=3, config=KEEP)
delays = app.topic("demo.delays", partitions=3, config=KEEP)
late = app.topic("demo.late", value=Flight, partitions=1, config=KEEP)
cancelled = app.topic("demo.cancelled", value=Flight, partitions=1, config=KEEP)


def carrier(flight: Flight) -> str:
    return flight.carrier


by_hour = (
    app.stream(flights, time=lambda flight: flight.scheduled)
    .filter(lambda flight: flight.delay is not None)
    .group_by(carrier)
    .window(sk.tumbling("1h", grace="1h"))
    .aggregate(
        flights=sk.Count(),
        mean=sk.Mean("delay"),
        worst=sk.Max("delay"),
        emit="on_update",  # the hour so far, at each flight: the last word on an hour is its result
    )
)
by_hour.to(delays)
by_hour.late.to(late)


@app.agent(flights, on_error=sk.DeadLetter(cancelled.name))
def departures(flight: Flight) -> None:
    if flight.delay is None:
        raise CancelledFlightError(f"{flight.carrier}{flight.flight} {flight.origin}-{flight.dest}")


if __name__ == "__main__":
    app.run()
