"""CRC-32C (Castagnoli), the checksum of record batches and of our own checkpoint files."""

from __future__ import annotations

import google_crc32c


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum as an unsigned 32-bit number.

    The C function takes `bytes` alone; copying a view first still runs at several gigabytes a second.
    """
    raw = data if type(data) is bytes else bytes(data)
    return google_crc32c.value(raw)  # type: ignore[no-any-return]
