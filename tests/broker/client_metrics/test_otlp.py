"""The reader of pushed metrics: what it finds, and that nothing which is sent makes it fail otherwise."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.client_metrics.otlp import Point, read_points
from streamkit.protocol.errors import MalformedMessageError
from tests.broker.client_metrics.otlp_writer import (
    fixed,
    gauge,
    integer,
    metrics_data,
    part,
    point,
    total,
    varint,
)


def test_gauges_and_sums_with_their_attributes() -> None:
    data = metrics_data(
        gauge("a.avg", point(1.5, node="2", a="x")),
        total("b.total", point(7), point(-1, node="1")),
        total("c.total", point(9), delta=False),
        total("d", point(3), monotonic=False),
    )
    assert list(read_points(data)) == [
        Point(name="a.avg", value=1.5, attributes=(("a", "x"), ("node", "2"))),
        Point(name="b.total", value=7, is_counter=True, is_delta=True),
        Point(name="b.total", value=-1, attributes=(("node", "1"),), is_counter=True, is_delta=True),
        Point(name="c.total", value=9, is_counter=True),
        Point(name="d", value=3, is_delta=True),
    ]


def test_attributes_of_each_type() -> None:
    values = [part(1, "text"), integer(2, 1), integer(3, 2**64 - 5), fixed(4, 0.5), part(5, b"")]
    named = b"".join(part(7, part(1, str(n)) + part(2, value)) for n, value in enumerate(values))
    (found,) = read_points(metrics_data(part(1, "x") + part(5, part(1, named + fixed(4, 1.0)))))
    assert found is not None
    assert [text for _, text in found.attributes] == ["text", "true", "-5", "0.5", ""]


def test_what_is_not_read_is_counted() -> None:
    histogram = part(1, "h") + part(9, b"")
    assert list(read_points(metrics_data(histogram, gauge("", point(1)), gauge("n", b"")))) == [None]


def test_a_gauge_may_not_know_and_a_sum_has_to() -> None:
    unknown = point(float("nan"))
    (found,) = read_points(metrics_data(gauge("g", unknown), total("s", unknown)))
    assert found is not None and found.name == "g" and math.isnan(found.value)


def test_fields_of_a_later_version_are_passed_over() -> None:
    later = integer(100, 5) + fixed(101, 1) + part(102, "x") + varint(103 << 3 | 5) + bytes(4)
    (found,) = read_points(later + metrics_data(later + gauge("a", later + point(1) + later) + later))
    assert found is not None and found.value == 1


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05abc", b"\x80" * 12, b"\x0b", b"\x09abc", part(1, part(2, part(2, b"\x0a\x09")))],
)
def test_damage_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        list(read_points(data))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_malformed(data: bytes) -> None:
    try:
        list(read_points(data))
    except MalformedMessageError:
        return


@given(st.data())
def test_each_byte_of_a_push_may_be_damaged(drawn: st.DataObject) -> None:
    data = bytearray(metrics_data(gauge("a", point(1.0, b="c")), total("d", point(2))))
    data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        list(read_points(bytes(data)))
    except MalformedMessageError:
        return


def test_the_time_is_linear_in_what_is_sent() -> None:
    began_s = time.process_time()
    assert sum(1 for _ in read_points(metrics_data(gauge("a", *[point(1, node="1")] * 5_000)))) == 5_000
    assert time.process_time() - began_s < 2
