"""What clients push, as metrics of this broker: a bounded number of series, each with its client.

`org.apache.kafka.producer.connection.creation.total` of the client `shop` becomes
`streamkit_client_producer_connection_creation_total{client_id="shop", client_instance_id=…, attributes=…}`.
Names and texts come from clients: names are reduced to what Prometheus takes, texts are cut short, and beyond
the bounds nothing is taken in any more but counted. A series goes when its client does.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from streamkit.broker.client_metrics.otlp import Point
from streamkit.telemetry.instruments import Counter, Family, Gauge, Registry

MAX_SERIES: Final = 20_000
MAX_SERIES_OF_A_CLIENT: Final = 2_000
MAX_NAMES: Final = 1_000
MAX_NAME_LENGTH: Final = 120
MAX_LABEL_LENGTH: Final = 256
KAFKA_PREFIX: Final = "org.apache.kafka."
NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]+")
TOTAL: Final = "_total"
LABELS: Final = ("client_id", "client_instance_id", "attributes")


class Client(NamedTuple):
    """Whom a series is from, as labels."""

    client_id: str
    instance_id: str


class _Series(NamedTuple):
    name: str
    attributes: str


class PushedSeries:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._families: dict[str, Family[Counter] | Family[Gauge]] = {}
        self._of: dict[Client, set[_Series]] = {}
        self.count = 0
        """Of all clients together."""

    def take(self, client: Client, point: Point) -> bool:
        """Whether the point is now part of a series; False beyond the bounds."""
        series = _Series(metric_name(point), attributes_label(point))
        known = self._of.setdefault(client, set())
        if series not in known and not self._has_room(known):
            return False
        family = self._family(series.name, "counter" if point.is_counter else "gauge")
        if family is None:
            return False
        if series not in known:
            known.add(series)
            self.count += 1
        instrument = family.labels(client.client_id[:MAX_LABEL_LENGTH], client.instance_id, series.attributes)
        instrument.value = instrument.value + point.value if point.is_delta else point.value
        return True

    def forget(self, client: Client) -> None:
        gone = self._of.pop(client, set())
        self.count -= len(gone)
        for series in gone:
            family = self._families[series.name]
            family.forget(client.client_id[:MAX_LABEL_LENGTH], client.instance_id, series.attributes)
            if not family.children:
                del self._families[series.name]
                self._registry.withdraw(family)

    def _has_room(self, of_client: set[_Series]) -> bool:
        return self.count < MAX_SERIES and len(of_client) < MAX_SERIES_OF_A_CLIENT

    def _family(self, name: str, kind: str) -> Family[Counter] | Family[Gauge] | None:
        """None if there are too many, or one of the other kind has this name."""
        family = self._families.get(name)
        if family is not None:
            return family if family.kind == kind else None
        if len(self._families) >= MAX_NAMES:
            return None
        declare = self._registry.counter if kind == "counter" else self._registry.gauge
        made: Family[Counter] | Family[Gauge] = declare(name, "Pushed by clients (KIP-714)", LABELS)
        self._families[name] = made
        return made


def metric_name(point: Point) -> str:
    """What Prometheus knows the metric as, without the prefix of all of ours; a counter ends in `_total`."""
    words = NOT_IN_A_NAME.sub("_", point.name.removeprefix(KAFKA_PREFIX)).strip("_")
    name = f"client_{words[:MAX_NAME_LENGTH]}"
    return name.removesuffix(TOTAL) + TOTAL if point.is_counter else name


def attributes_label(point: Point) -> str:
    return ",".join(f"{key}={text}" for key, text in point.attributes)[:MAX_LABEL_LENGTH]
