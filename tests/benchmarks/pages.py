"""Large values that cannot be compressed, cheap to make and the same every time."""

from __future__ import annotations

from base64 import b64encode
from random import Random
from zlib import crc32

PAGE_BYTES = 8_000
PRINT = Random(1).randbytes(8 << 20)


def page(key: str, visits: int) -> bytes:
    """What is kept of a key after so many visits."""
    return bytes((visits,)) + _printed(key, PAGE_BYTES)


def text(key: str) -> str:
    """A page of characters."""
    return b64encode(_printed(key, PAGE_BYTES * 3 // 4)).decode()


def _printed(key: str, size: int) -> bytes:
    start = crc32(key.encode()) % (len(PRINT) - size)
    return PRINT[start : start + size]
