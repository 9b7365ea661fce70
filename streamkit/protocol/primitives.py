"""What the generated codecs call beside `struct`: unsigned varints and the unknown part of a tag section."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.protocol.errors import MalformedMessageError

MAX_UNKNOWN_TAGS = 64


def uvarint(value: int) -> bytes:
    """`value` in groups of seven bits, the lowest first; all but the last byte have their high bit set.

    The lengths of records take two or three bytes: these are written without a loop.
    """
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 127 | 128, value >> 7))
    if value < 1 << 21:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128)) + uvarint(value >> 21)


def read_uvarint(data: Sequence[int], pos: int) -> tuple[int, int]:
    """The 32-bit varint at `pos` and the position after it; IndexError where the data ends.

    Unrolled for the lengths of records, which take two or three bytes.
    """
    value = data[pos]
    if value < 128:
        return value, pos + 1
    byte = data[pos + 1]
    value += (byte - 1) << 7
    if byte < 128:
        return value, pos + 2
    byte = data[pos + 2]
    value += (byte - 1) << 14
    if byte < 128:
        return value, pos + 3
    byte = data[pos + 3]
    value += (byte - 1) << 21
    if byte < 128:
        return value, pos + 4
    byte = data[pos + 4]
    if byte > 15:
        raise MalformedMessageError("a varint is over 32 bits")
    return value + ((byte - 1) << 28), pos + 5


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


def too_many_elements() -> MalformedMessageError:
    return MalformedMessageError("more array elements than are taken in one message")


def too_many_tags() -> MalformedMessageError:
    return MalformedMessageError(f"more than {MAX_UNKNOWN_TAGS} unknown tagged fields")
