"""Pushed numbers as series of this broker: named, added up, bounded, and gone with their client."""

from __future__ import annotations

import pytest

from streamkit.broker.client_metrics import series as module
from streamkit.broker.client_metrics.otlp import Point
from streamkit.broker.client_metrics.series import Client, PushedSeries
from streamkit.telemetry.instruments import Registry

SHOP, OTHER = Client("shop", "id-1"), Client("other", "id-2")
GAUGE = Point(name="org.apache.kafka.producer.request.latency.avg", value=3)
TOTAL = Point(
    name="org.apache.kafka.producer.connection.creation.total", value=2, is_counter=True, is_delta=True
)


@pytest.fixture
def registry() -> Registry:
    return Registry()


def shown(registry: Registry) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        name.removeprefix("streamkit_client_"): {
            labels: child.value  # type: ignore[union-attr]
            for labels, child in family.children.items()
        }
        for name, family in registry.families.items()
    }


def test_a_gauge_is_the_last_number_and_a_delta_is_added(registry: Registry) -> None:
    pushed = PushedSeries(registry)
    for _ in range(2):
        assert pushed.take(SHOP, GAUGE) and pushed.take(SHOP, TOTAL)
    assert pushed.take(OTHER, Point(name=TOTAL.name, value=9, is_counter=True))
    assert shown(registry) == {
        "producer_request_latency_avg": {("shop", "id-1", ""): 3},
        "producer_connection_creation_total": {("shop", "id-1", ""): 4, ("other", "id-2", ""): 9},
    }
    assert pushed.count == 3


def test_attributes_are_one_label(registry: Registry) -> None:
    point = Point(name="x", value=1, attributes=(("node_id", "1"), ("topic", "t")))
    assert PushedSeries(registry).take(SHOP, point)
    assert shown(registry) == {"x": {("shop", "id-1", "node_id=1,topic=t"): 1}}


def test_a_client_that_goes_leaves_nothing(registry: Registry) -> None:
    pushed = PushedSeries(registry)
    pushed.take(SHOP, GAUGE)
    pushed.take(SHOP, TOTAL)
    pushed.take(OTHER, GAUGE)
    pushed.forget(SHOP)
    pushed.forget(SHOP)
    assert shown(registry) == {"producer_request_latency_avg": {("other", "id-2", ""): 3}}
    pushed.forget(OTHER)
    assert (registry.families, pushed.count) == ({}, 0)


def test_the_series_of_one_client_and_of_all_are_bounded(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SERIES_OF_A_CLIENT", 2)
    monkeypatch.setattr(module, "MAX_SERIES", 3)
    pushed = PushedSeries(registry)
    taken = [pushed.take(client, Point(name=name, value=1)) for client in (SHOP, OTHER) for name in "abc"]
    assert taken == [True, True, False, True, False, False]
    assert pushed.take(SHOP, Point(name="a", value=2)), "a series that is there goes on"


def test_names_are_bounded_and_of_one_kind(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 1)
    pushed = PushedSeries(registry)
    assert pushed.take(SHOP, Point(name="a.total", value=1))
    assert not pushed.take(SHOP, Point(name="a.total", value=1, is_counter=True))
    assert not pushed.take(SHOP, Point(name="b", value=1))
    assert pushed.count == 1


@pytest.mark.parametrize(
    ("point", "name"),
    [
        (Point(name='a{b="c"}\nd', value=1), "client_a_b_c_d"),
        (Point(name="é" * 300, value=1), "client_"),
        (Point(name="x" * 300, value=1), "client_" + "x" * 120),
        (Point(name="a.total", value=1, is_counter=True), "client_a_total"),
        (Point(name="a", value=1, is_counter=True), "client_a_total"),
    ],
)
def test_names_that_prometheus_takes(point: Point, name: str) -> None:
    assert module.metric_name(point) == name
