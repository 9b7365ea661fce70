"""How coordinators write their records, in Kafka's manner.

A key begins with an int16 that names its schema, a value with an int16, its version.
"""

from __future__ import annotations

from struct import Struct
from typing import TypeVar

from streamkit.protocol import codec
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.schema import Message

Value = TypeVar("Value", bound=Message)

KEY_VERSION = 0

_INT16 = Struct(">h")


def schema_of(key: bytes) -> int:
    """The schema that a record's key names. Raises MalformedMessageError."""
    return _leading_int16(key)


def framed_key(key: Message, number: int | None = None) -> bytes:
    """`number` is that of the schema, where several schemas have the same key."""
    return _INT16.pack(key.KEY if number is None else number) + codec.encode(key, KEY_VERSION)


def unframed_key(cls: type[Value], key: bytes) -> Value:
    return codec.decode(cls, key[2:], KEY_VERSION)


def framed_value(value: Message, version: int) -> bytes:
    return _INT16.pack(version) + codec.encode(value, version)


def unframed_value(cls: type[Value], data: bytes) -> Value:
    version = _leading_int16(data)
    if version not in cls.VERSIONS:
        raise MalformedMessageError(f"{cls.__name__} of version {version}")
    return codec.decode(cls, data[2:], version)


def _leading_int16(data: bytes) -> int:
    if len(data) < 2:
        raise MalformedMessageError("a coordinator record without a version")
    return int(_INT16.unpack_from(data)[0])
