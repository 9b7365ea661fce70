"""The records of groups whose work is divided by the coordinator, and what each of them changes.

Kafka gives each kind of group schemas of its own for the same five things: the group's epoch, what each
member said, the epoch of the target assignment and each member's part of it, and what each member has. A kind
may have others beside them. A *change* is one such record as a value: decisions write changes, replaying
reads them back. A change whose value is None deletes what it names.

A kind's `Schemas` say which number stands for which change, and what its value looks like. The fields of a
change are those of its record's key, and then the value; so one piece of code reads and writes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

from msgspec.structs import astuple

from streamkit.broker.coordination.framing import (
    framed_key,
    framed_value,
    schema_of,
    unframed_key,
    unframed_value,
)
from streamkit.broker.coordination.shard import CoordinatorRecord
from streamkit.protocol.schema import Int32, Int64, Message, schema, tag

VALUE_VERSION = 0

Value = TypeVar("Value", bound=Message)


@schema("0")
class GroupKey(Message):
    group_id: str = ""


@schema("0")
class MemberKey(Message):
    group_id: str = ""
    member_id: str = ""


@schema("0", flexible="0+")
class TargetEpochValue(Message):
    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0)] = 0


class Change(Protocol):
    """What one record says."""

    @property
    def group_id(self) -> str: ...

    @property
    def value(self) -> Message | None: ...

    def __iter__(self) -> Iterator[Any]: ...


class EpochChange(NamedTuple, Generic[Value]):
    """The group began an epoch, or was deleted."""

    group_id: str
    value: Value | None


class MemberChange(NamedTuple, Generic[Value]):
    """A member said who it is and what it wants, or is gone."""

    group_id: str
    member_id: str
    value: Value | None


class TargetEpochChange(NamedTuple):
    """The target assignment is that of an epoch, or deleted."""

    group_id: str
    value: TargetEpochValue | None


class TargetChange(NamedTuple, Generic[Value]):
    """A member's part of the target assignment."""

    group_id: str
    member_id: str
    value: Value | None


class CurrentChange(NamedTuple, Generic[Value]):
    """What a member has, and in which epoch it is."""

    group_id: str
    member_id: str
    value: Value | None


class Schema(NamedTuple):
    """One kind of record; `number` is Kafka's."""

    number: int
    change: Callable[..., Any]
    key: type[Message]
    value: type[Message]


class Schemas:
    """All kinds of records that one kind of group has."""

    def __init__(self, *schemas: Schema) -> None:
        self.by_number = {one.number: one for one in schemas}
        self._by_change = {one.change: one for one in schemas}

    def record_of(self, change: Change) -> CoordinatorRecord:
        """The record that says this."""
        number, _, key, _ = self._by_change[type(change)]
        *named, value = change
        named_key = key(**dict(zip(key.__struct_fields__, named, strict=True)))
        content = None if value is None else framed_value(value, VALUE_VERSION)
        return CoordinatorRecord(framed_key(named_key, number), content)

    def parse(self, key: bytes, value: bytes | None) -> Change | None:
        """What a record says; None for a schema that is not one of these. Raises MalformedMessageError."""
        found = self.by_number.get(schema_of(key))
        if found is None:
            return None
        named = astuple(unframed_key(found.key, key))
        change: Change = found.change(*named, None if value is None else unframed_value(found.value, value))
        return change
