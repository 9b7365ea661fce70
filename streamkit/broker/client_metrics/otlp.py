"""The OpenTelemetry format, as far as clients use it: numbers with a name, read from protobuf (KIP-714).

Of `opentelemetry.proto.metrics.v1.MetricsData` only sums and gauges are read; histograms and summaries, which
no Kafka client pushes, are passed over. Points come one by one, so that whoever wants no more of them stops;
nothing is built for what is not read, and nesting is as deep as the format's own.

    MetricsData > ResourceMetrics > ScopeMetrics > Metric (name) > Gauge | Sum > NumberDataPoint (attributes)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from streamkit.protocol.errors import MalformedMessageError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The kinds of fields; the patterns below spell (number, kind) as the format's definition does."""
NOTHING: Final = memoryview(b"")
DOUBLE: Final = Struct("<d")
INTEGER: Final = Struct("<q")
FIXED64_BYTES: Final = 8
FIXED32_BYTES: Final = 4
VARINT_BITS: Final = 64
DELTA: Final = 1
MAX_ATTRIBUTES: Final = 16
MAX_TEXT_BYTES: Final = 256


class Point(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One number. `is_delta`: it is to be added to what was said before."""

    name: str
    value: float
    attributes: tuple[tuple[str, str], ...] = ()
    is_counter: bool = False
    is_delta: bool = False


class Field(NamedTuple):
    """A field of a protobuf message: the number of a varint, or the bytes of anything else."""

    number: int
    kind: int
    integer: int
    data: memoryview


def read_points(data: bytes) -> Iterator[Point | None]:
    """The points of serialized MetricsData; None for a metric of a kind that is not read.

    Raises MalformedMessageError.
    """
    for metric in _metrics(memoryview(data)):
        yield from _points(metric)


def _metrics(data: memoryview) -> Iterator[memoryview]:
    for resource in _parts(data, 1):
        for scope in _parts(resource, 2):
            yield from _parts(scope, 2)


def _points(metric: memoryview) -> Iterator[Point | None]:
    """None for each that is not taken."""
    name = ""
    for field in _fields(metric):
        match field.number, field.kind:
            case 1, 2:
                name = _text(field.data)
            case 5, 2:
                for part in _parts(field.data, 1):
                    yield from _point(part, name, is_counter=False, is_delta=False)
            case 7, 2:
                yield from _sum(field.data, name)
            case 9 | 10 | 11, 2:
                yield None


def _sum(data: memoryview, name: str) -> Iterator[Point]:
    is_delta = is_counter = False
    for field in _fields(data):
        match field.number, field.kind:
            case 2, 0:
                is_delta = field.integer == DELTA
            case 3, 0:
                is_counter = bool(field.integer)
    for part in _parts(data, 1):
        for point in _point(part, name, is_counter=is_counter, is_delta=is_delta):
            if math.isfinite(point.value):  # a sum that were not could never be left again
                yield point


def _point(data: memoryview, name: str, *, is_counter: bool, is_delta: bool) -> Iterator[Point]:
    """At most one: nothing without a name or a number. NaN is a gauge's way to say that it does not know."""
    value: float | None = None
    attributes: list[tuple[str, str]] = []
    for field in _fields(data):
        match field.number, field.kind:
            case 4, 1:
                (value,) = DOUBLE.unpack(field.data)
            case 6, 1:
                (value,) = INTEGER.unpack(field.data)
            case 7, 2 if len(attributes) < MAX_ATTRIBUTES:
                attributes.append(_attribute(field.data))
    if name and value is not None:
        yield Point(
            name=name,
            value=float(value),
            attributes=tuple(sorted(attributes)),
            is_counter=is_counter,
            is_delta=is_delta,
        )


def _attribute(data: memoryview) -> tuple[str, str]:
    key = text = ""
    for field in _fields(data):
        match field.number, field.kind:
            case 1, 2:
                key = _text(field.data)
            case 2, 2:
                text = _any_value(field.data)
    return key, text


def _any_value(data: memoryview) -> str:
    """Texts, booleans, integers and numbers; lists and maps are empty."""
    for field in _fields(data):
        match field.number, field.kind:
            case 1, 2:
                return _text(field.data)
            case 2, 0:
                return "true" if field.integer else "false"
            case 3, 0:
                return str(_signed(field.integer))
            case 4, 1:
                return str(DOUBLE.unpack(field.data)[0])
    return ""


def _signed(integer: int) -> int:
    return integer - (1 << VARINT_BITS) if integer >> (VARINT_BITS - 1) else integer


def _text(data: memoryview) -> str:
    return bytes(data[:MAX_TEXT_BYTES]).decode("utf-8", "replace")


# -- protobuf's wire format ----------------------------------------------------------------------------------


def _parts(data: memoryview, number: int) -> Iterator[memoryview]:
    """The messages in a repeated field."""
    for field in _fields(data):
        if field.number == number and field.kind == BYTES:
            yield field.data


def _fields(data: memoryview) -> Iterator[Field]:
    pos, end = 0, len(data)
    while pos < end:
        tag, pos = _varint(data, pos)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            integer, pos = _varint(data, pos)
            yield Field(number, kind, integer, NOTHING)
            continue
        if kind == BYTES:
            size, pos = _varint(data, pos)
        elif kind == FIXED64:
            size = FIXED64_BYTES
        elif kind == FIXED32:
            size = FIXED32_BYTES
        else:
            raise MalformedMessageError(f"a protobuf field of the unknown kind {kind}")
        if size > end - pos:
            raise MalformedMessageError(f"a protobuf field of {size} bytes where {end - pos} are left")
        yield Field(number, kind, 0, data[pos : pos + size])
        pos += size


def _varint(data: memoryview, pos: int) -> tuple[int, int]:
    value = shift = 0
    while shift < VARINT_BITS:
        if pos >= len(data):
            raise MalformedMessageError("a protobuf varint ends early")
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, pos
        shift += 7
    raise MalformedMessageError("a protobuf varint is over 64 bits")
