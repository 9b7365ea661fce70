"""The Avro schema of a class: Struct, dataclass, TypedDict, NamedTuple or pydantic model.

    class Order(msgspec.Struct):         {"type": "record", "name": "Order", "fields": [
        order_id: int                      {"name": "order_id", "type": "long"},
        note: str | None = None            {"name": "note", "type": ["null", "string"], "default": null}]}

What Avro has no type for is not guessed at: such a class needs a schema, `sk.Avro(Order, schema=...)`.
Decimals are strings, since a class does not say their precision; enumerations are their values, so that a new
member is no new schema. Fields carry the names that they have on the wire (`rename=`, `alias=`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from streamkit.errors import UsageError

AvroType = str | dict[str, Any] | list[Any]
NONE = object()  # no default

SCALARS: dict[type, AvroType] = {
    inspect.NoneType: "null",
    inspect.BoolType: "boolean",
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytes",
    inspect.DecimalType: "string",
    inspect.TimeDeltaType: "string",
    inspect.DateTimeType: {"type": "long", "logicalType": "timestamp-micros"},
    inspect.DateType: {"type": "int", "logicalType": "date"},
    inspect.TimeType: {"type": "long", "logicalType": "time-micros"},
    inspect.UUIDType: {"type": "string", "logicalType": "uuid"},
}
LISTS = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
RECORDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)
Field = tuple[str, Any, Any]  # its name on the wire, its type, its default


def avro_schema(declared: Any, namespace: str = "") -> AvroType:
    """The schema of a type. Raises UsageError, naming the field, where Avro has no type for it."""
    return _Schema(namespace).of(
        declared, declared.__name__ if isinstance(declared, type) else repr(declared)
    )


class _Schema:
    """One schema under construction: a record is spelled out where it occurs first, and named after that."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._named: dict[Any, str] = {}

    def of(self, declared: Any, where: str) -> AvroType:
        if _is_pydantic(declared):
            return self._record(declared, _fields_of_model(declared), where)
        try:
            return self._of(inspect.type_info(declared), where)
        except TypeError as error:
            raise _no_type(where, str(error)) from None

    def _of(self, info: inspect.Type, where: str) -> AvroType:
        if type(info) in SCALARS:
            return SCALARS[type(info)]
        if isinstance(info, inspect.Metadata):
            return self._of(info.type, where)
        if isinstance(info, inspect.EnumType):
            return self._values([member.value for member in info.cls], where)
        if isinstance(info, inspect.LiteralType):
            return self._values(info.values, where)
        if isinstance(info, LISTS):
            return {"type": "array", "items": self._of(info.item_type, f"{where}[]")}
        if isinstance(info, inspect.DictType) and isinstance(info.key_type, inspect.StrType):
            return {"type": "map", "values": self._of(info.value_type, f"{where}[]")}
        if isinstance(info, inspect.UnionType):
            return self._union(info, where)
        if isinstance(info, RECORDS):
            return self._record(info.cls, _fields(info), where)
        if isinstance(info, inspect.CustomType) and _is_pydantic(info.cls):
            return self._record(info.cls, _fields_of_model(info.cls), where)
        raise _no_type(where, type(info).__name__.removesuffix("Type"))

    def _record(self, cls: Any, fields: Iterator[Field], where: str) -> AvroType:
        known = self._named.get(cls)
        if known is not None:
            return known
        name = cls.__name__.partition("[")[0]
        if name in self._named.values():
            raise _no_type(where, f"a second record that is called {name}")
        self._named[cls] = name
        schema: dict[str, Any] = {"type": "record", "name": name}
        if self._namespace and len(self._named) == 1:
            schema["namespace"] = self._namespace  # those inside inherit it
        schema["fields"] = [self._field(field, where) for field in fields]
        return schema

    def _field(self, field: Field, where: str) -> dict[str, Any]:
        name, declared, default = field
        where = f"{where}.{name}"
        avro = self._of(declared, where) if isinstance(declared, inspect.Type) else self.of(declared, where)
        if default is NONE:
            return {"name": name, "type": avro}
        if isinstance(avro, list):  # a default is of a union's first type
            avro = sorted(avro, key=lambda branch: _kind(branch) != _kind_of(default))
        return {"name": name, "type": avro, **_written(default, avro)}

    def _union(self, info: inspect.UnionType, where: str) -> AvroType:
        branches = [self._of(branch, where) for branch in info.types]
        kinds = [_kind(branch) for branch in branches]
        if len(set(kinds)) < len(kinds):
            raise _no_type(where, f"a union of {' and '.join(kinds)}")
        return sorted(branches, key=lambda branch: branch != "null")

    def _values(self, values: Any, where: str) -> AvroType:
        kinds = {type(value) for value in values}
        for kind, avro in ((str, "string"), (int, "long")):
            if kinds == {kind}:
                return avro
        raise _no_type(where, "an enumeration of other things than text or whole numbers")


def _kind(branch: AvroType) -> str:
    """What a reader of a union tells branches apart by. Two records are one kind: a dict may be either."""
    if isinstance(branch, dict):
        return str(branch["type"])
    if isinstance(branch, str) and branch not in PRIMITIVE:
        return "record"
    return str(branch)


PRIMITIVE = {"null", "boolean", "int", "long", "float", "double", "string", "bytes"}


KIND_OF = {
    type(None): "null",
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    list: "array",
    dict: "map",
}


def _kind_of(default: Any) -> str | None:
    return KIND_OF.get(type(msgspec.to_builtins(default)))


def _written(default: Any, avro: AvroType) -> dict[str, Any]:
    """A default as JSON. What is no plain value (a date, a record) is left to the class that reads it."""
    first = avro[0] if isinstance(avro, list) else avro
    value, logical = msgspec.to_builtins(default), isinstance(first, dict) and "logicalType" in first
    if isinstance(value, tuple):
        value = list(value)
    if first == "double" and isinstance(value, int):
        value = float(value)
    plain = value in ([], {}) or not isinstance(value, list | dict)
    if not plain or logical or isinstance(default, bytes) or _kind(first) != _kind_of(value):
        return {}
    return {"default": value}


def _fields(info: Any) -> Iterator[Field]:
    for field in info.fields:
        default = NONE
        if not field.required:
            if field.default is not msgspec.NODEFAULT:
                default = field.default
            elif field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            else:
                raise _no_type(f"{info.cls.__name__}.{field.encode_name}", "a field that may be absent")
        yield field.encode_name, field.type, default


def _is_pydantic(declared: Any) -> bool:
    return hasattr(declared, "model_fields") and hasattr(declared, "model_validate")


def _fields_of_model(model: Any) -> Iterator[Field]:
    for name, field in model.model_fields.items():
        default = NONE if field.is_required() else field.get_default(call_default_factory=True)
        yield field.serialization_alias or field.alias or name, field.annotation, default


def _no_type(where: str, what: str) -> UsageError:
    return UsageError(
        f"Avro has no type for {where}: {what}",
        hint="write the schema yourself: sk.Avro(..., schema=...)",
    )
