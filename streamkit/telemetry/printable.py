"""Foreign text made safe to show: no control character of a key, a topic name or an error message reaches
a terminal or breaks a log line in two."""

from __future__ import annotations

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_CONTROL = [*range(0x20), *range(0x7F, 0xA0)]
_DIRECTION = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # these reorder what the reader sees
_LINE_ENDS = [0x2028, 0x2029]


def _escape(code: int) -> str:
    return _NAMED.get(chr(code)) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


_ESCAPES = {code: _escape(code) for code in [*_CONTROL, *_DIRECTION, *_LINE_ENDS]}


def printable(text: str) -> str:
    """`text` with control characters, line ends and direction marks as visible escapes."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)
