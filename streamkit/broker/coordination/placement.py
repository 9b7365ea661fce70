"""Which partition of a coordinator's topic holds a group (or, one day, a transactional id).

Every broker and some tools compute this, so it is Java's: the absolute value of `String.hashCode`, modulo the
partition count.
"""

from __future__ import annotations


def java_hash(text: str) -> int:
    """`String.hashCode`: a polynomial over UTF-16 code units, as a signed 32-bit integer."""
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    value = 0
    for unit in units:
        value = (value * 31 + unit) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def partition_for(key: str, partitions: int) -> int:
    """Java's `Utils.abs(key.hashCode()) % partitions`, where the absolute value of the minimum is 0."""
    value = java_hash(key)
    return 0 if value == -(1 << 31) else abs(value) % partitions
