"""OpenTelemetry metrics written by hand, so that the reader is not judged by itself."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def part(number: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def fixed(number: int, value: float | int) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d" if isinstance(value, float) else "<q", value)


def point(value: float | int, **attributes: str) -> bytes:
    """A NumberDataPoint."""
    named = b"".join(part(7, part(1, key) + part(2, part(1, text))) for key, text in attributes.items())
    return named + fixed(3, 1_000_000) + fixed(4 if isinstance(value, float) else 6, value)


def gauge(name: str, *points: bytes) -> bytes:
    return part(1, name) + part(5, b"".join(part(1, one) for one in points))


def total(name: str, *points: bytes, delta: bool = True, monotonic: bool = True) -> bytes:
    """A Sum."""
    data = b"".join(part(1, one) for one in points)
    return part(1, name) + part(7, data + integer(2, 1 if delta else 2) + integer(3, int(monotonic)))


def metrics_data(*metrics: bytes) -> bytes:
    scope = part(1, part(1, "test")) + b"".join(part(2, one) for one in metrics)
    return part(1, part(1, part(1, part(1, "rack"))) + part(2, scope))
