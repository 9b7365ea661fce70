"""What the generated codecs call beside `struct`: unsigned varints and the unknown part of a tag section."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.protocol.errors import MalformedMessageError

MAX_UNKNOWN_TAGS = 64


def uvarint(value: int) -> bytes:
    """`value` in groups of seven bits, the lowest first; all but the last byte have their high bit set."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_uvarint(data: Sequence[int], pos: int) -> tuple[int, int]:
    """The 32-bit varint at `pos` and the position after it; IndexError where the data ends."""
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 28:
            raise MalformedMessageError("a varint is longer than five bytes")
    if value > 0xFFFFFFFF:
        raise MalformedMessageError("a varint is over 32 bits")
    return value, pos


def skip_tags(data: Sequence[int], pos: int, end: int, count: int) -> int:
    """The position after `count` tagged fields that nobody knows."""
    if count > MAX_UNKNOWN_TAGS:
        raise too_many_tags()
    for _ in range(count):
        _, pos = read_uvarint(data, pos)
        size, pos = read_uvarint(data, pos)
        if size > end - pos:
            raise bad_length("a tagged field", size, end - pos)
        pos += size
    return pos


def write_tags(out: bytearray, tags: Sequence[tuple[int, bytearray]]) -> None:
    """A tag section; `tags` are in ascending order."""
    out += uvarint(len(tags))
    for number, value in tags:
        out += uvarint(number)
        out += uvarint(len(value))
        out += value


def bad_length(what: str, length: int, left: int) -> MalformedMessageError:
    return MalformedMessageError(f"{what} claims the length {length} where {left} bytes are left")


def too_many_tags() -> MalformedMessageError:
    return MalformedMessageError(f"more than {MAX_UNKNOWN_TAGS} unknown tagged fields")
