"""Counters, gauges and histograms as plain Python numbers.

The hot paths add to an attribute; nothing is locked, formatted or looked up there. Prometheus families are
built from these numbers when somebody scrapes (`telemetry.exposition`), outside the event loop.

    requests = registry.counter("connections_closed_total", "Closed connections", labels=("reason",))
    closed = requests.labels("idle")        # once, outside the hot path
    closed.value += 1                       # in it
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Generic, Literal, TypeVar

PREFIX = "streamkit_"
SECONDS_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


class Counter:
    """A number that only grows; add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Gauge:
    """A number that is set; assign to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """Counts per bucket (upper bounds in seconds, the last is +Inf) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


Instrument = TypeVar("Instrument", Counter, Gauge, Histogram)
Kind = Literal["counter", "gauge", "histogram"]


class Family(Generic[Instrument]):
    """All instruments of one metric name, one for each combination of label values."""

    def __init__(
        self, kind: Kind, name: str, help: str, labels: tuple[str, ...], make: Callable[[], Instrument]
    ) -> None:
        self.kind: Kind = kind
        self.name = name
        self.help = help
        self.label_names = labels
        self.children: dict[tuple[str, ...], Instrument] = {}
        self._make: Callable[[], Instrument] = make

    def labels(self, *values: str) -> Instrument:
        """The instrument for these label values, made on first use."""
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, got {values}")
        child = self.children.get(values)
        if child is None:
            child = self.children[values] = self._make()
        return child

    def forget(self, *values: str) -> None:
        """Drop the instrument for these label values: a deleted topic, a revoked partition."""
        self.children.pop(values, None)


class Registry:
    """The metric families of one process, in the order they were declared.

    `on_scrape` callbacks run before each collection and may set gauges from state that is not worth
    tracking as it changes (sizes, ages, counts by state).
    """

    def __init__(self) -> None:
        self.families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}
        self.on_scrape: list[Callable[[], None]] = []

    def counter(self, name: str, help: str, labels: Iterable[str] = ()) -> Family[Counter]:
        return self._declare(Family("counter", PREFIX + name, help, tuple(labels), Counter))

    def gauge(self, name: str, help: str, labels: Iterable[str] = ()) -> Family[Gauge]:
        return self._declare(Family("gauge", PREFIX + name, help, tuple(labels), Gauge))

    def histogram(
        self, name: str, help: str, labels: Iterable[str] = (), bounds: tuple[float, ...] = SECONDS_BUCKETS
    ) -> Family[Histogram]:
        return self._declare(
            Family("histogram", PREFIX + name, help, tuple(labels), lambda: Histogram(bounds))
        )

    def withdraw(self, family: Family[Counter] | Family[Gauge] | Family[Histogram]) -> None:
        """Show it no longer: nobody measures it any more."""
        del self.families[family.name]

    def _declare(self, family: Family[Instrument]) -> Family[Instrument]:
        if family.name in self.families:
            raise ValueError(f"the metric {family.name} is declared twice")
        self.families[family.name] = family
        return family
