"""Random UUIDs (RFC 4122, version 4) as the 16 bytes that the wire carries."""

from __future__ import annotations

from streamkit.runtime.contracts.rng import Rng

_RESERVED = frozenset((bytes(16), bytes(15) + b"\x01"))  # "none" and `__cluster_metadata`


class UuidSource:
    """Draws from one named substream, so that other draws do not shift these."""

    def __init__(self, rng: Rng, stream: str) -> None:
        self._rng = rng
        self._stream = stream

    def fresh(self) -> bytes:
        """A UUID whose base64 form does not begin with '-', which command lines would take for an option."""
        while True:
            drawn = bytearray(self._rng.bytes(self._stream, 16))
            drawn[6] = drawn[6] & 0x0F | 0x40
            drawn[8] = drawn[8] & 0x3F | 0x80
            begins_with_dash = drawn[0] >> 2 == 62
            if not begins_with_dash and bytes(drawn) not in _RESERVED:
                return bytes(drawn)
