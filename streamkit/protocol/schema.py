"""The vocabulary in which every schema is declared: messages, metadata records, coordinator records.

A schema is a `Message` class whose annotations are its wire table, in wire order:

    @schema("3-13", flexible="9+", key=0)
    class ProduceRequest(Message):
        transactional_id: str | None = None                      # nullable in every version
        acks: Int16 = 0
        topic_data: list[TopicProduceData] = []

    class TopicProduceData(Message):                             # nested: takes its parent's version
        name: Annotated[str, versions("0-12")] = ""              # not on the wire in version 13
        topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
        partition_data: list[PartitionProduceData] = []

`str`, `bytes`, `bool`, `list[...]` and other messages stand for themselves; integers say their width. A field
outside of its versions is neither written nor read and keeps its default. `T | None` may be null in every
version, or only in those of `nullable(...)`. `tag(n)` puts a field into the tag section of flexible versions,
where it is written only if it differs from its default. Flexible versions (KIP-482) write lengths as varints
and end every structure with a tag section.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    TypeAlias,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec


class Versions(NamedTuple):
    """An inclusive range of versions; empty when `last < first`."""

    first: int
    last: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.first <= version <= self.last

    def __bool__(self) -> bool:
        return self.first <= self.last


ALL = Versions(0, 32767)
NEVER = Versions(0, -1)


def versions(text: str) -> Versions:
    """The range that `text` names, in Kafka's notation: "3", "0-12", "9+", "none"."""
    if text == "none":
        return NEVER
    if text.endswith("+"):
        return Versions(int(text[:-1]), ALL.last)
    first, _, last = text.partition("-")
    return Versions(int(first), int(last or first))


class Nullable(NamedTuple):
    """The versions in which a field may be null."""

    versions: Versions


def nullable(text: str) -> Nullable:
    return Nullable(versions(text))


class Tag(NamedTuple):
    """The number of a field in the tag section."""

    number: int


def tag(number: int) -> Tag:
    return Tag(number)


class Fixed(NamedTuple):
    """A value of fixed size: its code in the `struct` module's language."""

    code: str


class Text(NamedTuple):
    """UTF-8 with its length in bytes: int16, or a varint in flexible versions."""


class Blob(NamedTuple):
    """Bytes with their length: int32, or a varint in flexible versions."""


class RecordBatches(NamedTuple):
    """Bytes that are never copied: decoded as a slice of the frame, encoded as buffers of their own."""


class Array(NamedTuple):
    """A count (int32, or a varint in flexible versions) and as many elements."""

    element: WireType


class Structure(NamedTuple):
    """Another message, in its parent's version."""

    cls: type[Message]


WireType: TypeAlias = Fixed | Text | Blob | RecordBatches | Array | Structure

Int8: TypeAlias = Annotated[int, Fixed("b")]
Int16: TypeAlias = Annotated[int, Fixed("h")]
UInt16: TypeAlias = Annotated[int, Fixed("H")]
Int32: TypeAlias = Annotated[int, Fixed("i")]
UInt32: TypeAlias = Annotated[int, Fixed("I")]
Int64: TypeAlias = Annotated[int, Fixed("q")]
Float64: TypeAlias = Annotated[float, Fixed("d")]
Uuid: TypeAlias = Annotated[bytes, Fixed("16s")]
Buffer: TypeAlias = bytes | bytearray | memoryview
Records: TypeAlias = Annotated[Buffer | list[Buffer] | None, RecordBatches()]

ZERO_UUID = bytes(16)

_PLAIN: dict[object, WireType] = {bool: Fixed("?"), str: Text(), bytes: Blob()}


if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True, kw_only_default=True)
    class _MessageMeta(msgspec.StructMeta):
        """Tells type checkers what `Message` passes on to its subclasses."""

else:
    _MessageMeta = msgspec.StructMeta  # a metaclass written in Python would make constructions 3x slower


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, metaclass=_MessageMeta):
    """A value of the wire. Root messages carry `@schema`; nested ones take the version of their root."""

    KEY: ClassVar[int] = -1
    VERSIONS: ClassVar[Versions] = ALL
    FLEXIBLE: ClassVar[Versions] = NEVER


MessageType = TypeVar("MessageType", bound=Message)


def schema(
    valid: str, *, flexible: str = "none", key: int = -1
) -> Callable[[type[MessageType]], type[MessageType]]:
    """Declare a root message: its valid and flexible versions, and the API or record key it answers to."""

    def declare(cls: type[MessageType]) -> type[MessageType]:
        cls.KEY = key
        cls.VERSIONS = versions(valid)
        cls.FLEXIBLE = versions(flexible)
        return cls

    return declare


class Field(NamedTuple):
    """One row of a wire table."""

    name: str
    wire: WireType
    versions: Versions
    nullable: Versions
    tag: int | None
    default: object


@cache
def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """The wire table of a message class, all versions of it."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_field(info, hints[info.name]) for info in msgspec.structs.fields(cls))


def _field(info: msgspec.structs.FieldInfo, hint: Any) -> Field:
    marks: list[object] = []
    wire, may_be_null = _resolve(hint, marks)
    valid = next((mark for mark in marks if isinstance(mark, Versions)), ALL)
    null = next((mark.versions for mark in marks if isinstance(mark, Nullable)), ALL)
    number = next((mark.number for mark in marks if isinstance(mark, Tag)), None)
    default = info.default if info.default is not msgspec.NODEFAULT else info.default_factory()
    return Field(info.name, wire, valid, null if may_be_null else NEVER, number, default)


def _resolve(hint: Any, marks: list[object]) -> tuple[WireType, bool]:
    """The wire type of an annotation and whether it admits None; what else it carries goes to `marks`."""
    may_be_null = False
    while get_origin(hint) in (Annotated, Union, UnionType):
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            marks += extras
            wire = next((extra for extra in extras if isinstance(extra, Fixed | RecordBatches)), None)
            if wire is not None:
                return wire, may_be_null or isinstance(wire, RecordBatches)
        else:
            (hint,) = (choice for choice in get_args(hint) if choice is not NoneType)
            may_be_null = True
    if get_origin(hint) is list:
        return Array(_resolve(get_args(hint)[0], marks)[0]), may_be_null
    if isinstance(hint, type) and issubclass(hint, Message):
        return Structure(hint), may_be_null
    return _PLAIN[hint], may_be_null
