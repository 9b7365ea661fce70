"""Batches as frames: Polars or Arrow of the values of a batch, and rows that become records again.

    @sk.batch(500)
    async def score(orders: pl.DataFrame) -> pl.DataFrame: ...      # or pa.Table, or pa.RecordBatch

A frame has a column for each field of the values' class, by the class's types, so that a batch in which a
field is always None has no other columns than the next; of dicts, a column for each key that occurs, by what
is there; of other values, the column `value`. Beside them stand `_key`, `_timestamp`, `_partition` and
`_offset`, unless a field is called so.

A frame that is returned goes on as records: each row under the key, time and headers of the record that it
came from. Rows find it by `_partition` and `_offset` where these are among the columns (so rows may be
dropped and sorted), and else by their order, all of them.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import importlib
import inspect
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import msgspec
from msgspec import inspect as kinds

from streamkit.errors import UsageError
from streamkit.processing.operators.function import function_name

if TYPE_CHECKING:
    from streamkit.processing.record import Record

FrameKind = Literal["polars", "arrow"]
KEY, TIME, PARTITION, OFFSET = META = ("_key", "_timestamp", "_partition", "_offset")
VALUE = "value"
PACKAGES = {"polars": "polars", "arrow": "pyarrow"}
KEPT = (bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
UTC = datetime.UTC

Columns = dict[str, tuple[list[Any], kinds.Type | None]]  # values, and their type where it is known


class HasSchema(Protocol):
    """A Polars frame, an Arrow table or record batch, as far as types are concerned."""

    @property
    def schema(self) -> Any: ...


class Frame:
    """How the values of a batch become what its function takes. `single`: a pa.RecordBatch, not a table."""

    def __init__(self, kind: FrameKind, *, single: bool = False) -> None:
        self.kind = kind
        self._single = single
        self._library: Any = None

    def of(self, values: Sequence[Any], records: Sequence[Record[Any]]) -> Any:
        """A frame with a row for each value."""
        columns = _columns(values)
        for name, column in _about(records).items():
            columns.setdefault(name, column)
        if self._library is None:
            self._library = _library(self.kind)
        return self._polars(columns) if self.kind == "polars" else self._arrow(columns)

    def _polars(self, columns: Columns) -> Any:
        pl = self._library
        series = [
            pl.Series(name, values, None if type is None else _polars_type(type, pl))
            for name, (values, type) in columns.items()
        ]
        return pl.DataFrame(series)

    def _arrow(self, columns: Columns) -> Any:
        pa = self._library
        make = pa.RecordBatch if self._single else pa.Table
        arrays = [
            pa.array(values, None if type is None else _arrow_type(type, pa))
            for values, type in columns.values()
        ]
        return make.from_arrays(arrays, names=list(columns))


def frame_of(function: Callable[..., Any], kind: str | None) -> Frame | None:
    """The frame that a batch function takes, by what is said or what its first parameter is declared as."""
    if kind is not None and kind not in get_args(FrameKind):
        raise UsageError(f'frame is "polars" or "arrow", got {kind!r}')
    declared = _declared(function)
    if declared is None and kind is None:
        return None
    said, single = declared or (kind, False)
    if kind is not None and said != kind:
        raise UsageError(f"{function_name(function)} takes a frame of {said}, and frame={kind!r}")
    frame = Frame(typing.cast(FrameKind, said), single=single)
    _library(frame.kind)  # the worker that has it not should not start
    return frame


FRAMES = {
    "polars.DataFrame": ("polars", False),
    "pl.DataFrame": ("polars", False),
    "pyarrow.Table": ("arrow", False),
    "pa.Table": ("arrow", False),
    "pyarrow.RecordBatch": ("arrow", True),
    "pa.RecordBatch": ("arrow", True),
}


def _declared(function: Callable[..., Any]) -> tuple[str, bool] | None:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return None
    try:
        declared = typing.get_type_hints(function).get(parameters[0].name)
    except NameError:  # a type that exists for the type checker only
        declared = parameters[0].annotation
    if isinstance(declared, type):
        declared = f"{declared.__module__.partition('.')[0]}.{declared.__qualname__}"
    return FRAMES.get(declared) if isinstance(declared, str) else None


def _library(kind: str) -> Any:
    try:
        return importlib.import_module(PACKAGES[kind])
    except ImportError as error:
        raise UsageError(
            f"batches as {kind} frames need {PACKAGES[kind]}: {error}",
            hint=f"pip install 'streamkit-log[{PACKAGES[kind]}]'",
        ) from error


# -- values to columns --------------------------------------------------------------------------------


def _columns(values: Sequence[Any]) -> Columns:
    classes = {value.__class__ for value in values if value is not None}
    if len(classes) == 1:
        (cls,) = classes
        fields = _fields(cls)
        if fields is not None:
            return {
                name: _typed([None if v is None else getattr(v, name) for v in values], type)
                for name, type in fields.items()
            }
    plain = [msgspec.to_builtins(value, builtin_types=KEPT) for value in values]
    if classes and all(isinstance(value, dict | None) for value in plain):
        names = dict.fromkeys(name for value in plain if value is not None for name in value)
        return {name: ([None if v is None else v.get(name) for v in plain], None) for name in names}
    return {VALUE: (plain, None)}


def _about(records: Sequence[Record[Any]]) -> Columns:
    def column(part: Callable[[Record[Any]], Any], type: kinds.Type | None) -> tuple[list[Any], Any]:
        return [part(record) for record in records], type

    keys = [msgspec.to_builtins(record.key, builtin_types=KEPT) for record in records]
    return {
        KEY: (keys, None),
        TIME: column(lambda r: datetime.datetime.fromtimestamp(r.timestamp_ms / 1000, UTC), DATETIME),
        PARTITION: column(lambda r: r.partition, INT),
        OFFSET: column(lambda r: r.offset, INT),
    }


INT, DATETIME = kinds.IntType(), kinds.DateTimeType()
_known: dict[type, Mapping[str, kinds.Type] | None] = {}


def _fields(cls: type) -> Mapping[str, kinds.Type] | None:
    """The fields of a class by name; None where it is not made of fields."""
    if cls not in _known:
        _known[cls] = _fields_of(cls)
    return _known[cls]


def _fields_of(cls: Any) -> Mapping[str, kinds.Type] | None:
    if hasattr(cls, "model_fields"):
        return {name: kinds.type_info(field.annotation) for name, field in cls.model_fields.items()}
    if not (isinstance(cls, type) and (issubclass(cls, msgspec.Struct) or dataclasses.is_dataclass(cls))):
        return None
    info = kinds.type_info(cls)
    assert isinstance(info, kinds.StructType | kinds.DataclassType)
    return {field.name: field.type for field in info.fields}


def _typed(values: list[Any], type: kinds.Type) -> tuple[list[Any], kinds.Type | None]:
    """The values as both libraries take them, and their type where both have it."""
    type = _without_none(type)
    if isinstance(type, kinds.DateTimeType):
        return [None if v is None else _aware(v) for v in values], type
    if isinstance(type, kinds.EnumType):
        return [v.value if isinstance(v, enum.Enum) else v for v in values], None
    if isinstance(type, kinds.UUIDType):
        return [str(v) if isinstance(v, uuid.UUID) else v for v in values], kinds.StrType()
    if isinstance(type, SCALARS):
        return values, type
    if isinstance(type, kinds.DecimalType):
        return values, None
    return [msgspec.to_builtins(v, builtin_types=KEPT) for v in values], _nested(type)


def _aware(value: datetime.datetime) -> datetime.datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _without_none(type: kinds.Type) -> kinds.Type:
    if isinstance(type, kinds.Metadata):
        return _without_none(type.type)
    if isinstance(type, kinds.UnionType):
        some = [one for one in type.types if not isinstance(one, kinds.NoneType)]
        return _without_none(some[0]) if len(some) == 1 else type
    return type


SCALARS = (
    kinds.BoolType,
    kinds.IntType,
    kinds.FloatType,
    kinds.StrType,
    kinds.BytesType,
    kinds.DateType,
    kinds.TimeType,
    kinds.TimeDeltaType,
)
LISTS = (kinds.ListType, kinds.VarTupleType)


def _nested(type: kinds.Type) -> kinds.Type | None:
    """A list of what both libraries have a type for, as deep as it may be; None: by what is there."""
    type = _without_none(type)
    if isinstance(type, SCALARS):
        return type
    if isinstance(type, LISTS) and (item := _nested(type.item_type)) is not None:
        return kinds.ListType(item)
    return None


def _arrow_type(type: kinds.Type, pa: Any) -> Any:
    if isinstance(type, kinds.ListType):
        return pa.list_(_arrow_type(type.item_type, pa))
    return {
        kinds.BoolType: pa.bool_(),
        kinds.IntType: pa.int64(),
        kinds.FloatType: pa.float64(),
        kinds.StrType: pa.string(),
        kinds.BytesType: pa.binary(),
        kinds.DateTimeType: pa.timestamp("us", "UTC"),
        kinds.DateType: pa.date32(),
        kinds.TimeType: pa.time64("us"),
        kinds.TimeDeltaType: pa.duration("us"),
    }[type.__class__]


def _polars_type(type: kinds.Type, pl: Any) -> Any:
    if isinstance(type, kinds.ListType):
        return pl.List(_polars_type(type.item_type, pl))
    return {
        kinds.BoolType: pl.Boolean,
        kinds.IntType: pl.Int64,
        kinds.FloatType: pl.Float64,
        kinds.StrType: pl.String,
        kinds.BytesType: pl.Binary,
        kinds.DateTimeType: pl.Datetime("us", "UTC"),
        kinds.DateType: pl.Date,
        kinds.TimeType: pl.Time,
        kinds.TimeDeltaType: pl.Duration("us"),
    }[type.__class__]


# -- rows to results ----------------------------------------------------------------------------------


def results_of(returned: Any, records: Sequence[Record[Any]]) -> Any:
    """What a frame's function returned, as a result for each record. Raises TypeError where that fails."""
    if returned is None or isinstance(returned, list | tuple):
        return returned
    names = _column_names(returned)
    if names is None:
        if isinstance(rows := _listed(returned), list):
            return rows
        raise TypeError(
            f"a batch was answered with a {type(returned).__name__}: return a frame, a column or None"
        )
    rows = returned.to_dicts() if hasattr(returned, "to_dicts") else returned.to_pylist()
    results = [_result(row) for row in rows]
    if OFFSET not in names:
        return results
    place = (PARTITION, OFFSET) if PARTITION in names else (OFFSET,)
    return _in_place(results, [tuple(row[name] for name in place) for row in rows], records)


def _column_names(returned: Any) -> list[str] | None:
    """Of a frame; None: it is none."""
    names = getattr(returned, "column_names", None)  # Arrow
    if names is None and hasattr(returned, "to_dicts"):
        names = getattr(returned, "columns", None)
    return None if names is None else list(names)


def _listed(returned: Any) -> Any:
    for method in ("to_pylist", "to_list"):
        if hasattr(returned, method):
            return getattr(returned, method)()
    return None


def _result(row: dict[str, Any]) -> Any:
    values = {name: value for name, value in row.items() if name not in META}
    return values[VALUE] if list(values) == [VALUE] else values


def _in_place(results: list[Any], places: list[tuple[Any, ...]], records: Sequence[Record[Any]]) -> list[Any]:
    of_record = [(r.partition, r.offset) if places and len(places[0]) > 1 else (r.offset,) for r in records]
    at = {place: number for number, place in enumerate(of_record)}
    if len(at) < len(records):
        if places == of_record:
            return results
        raise TypeError(
            "the rows of a batch from several topics have no place of their own: return all of them"
        )
    found: list[Any] = [None] * len(records)
    seen: set[tuple[Any, ...]] = set()
    for place, result in zip(places, results, strict=True):
        if place not in at or place in seen:
            what = (
                "two rows for one record" if place in seen else f"a row for {place}, which is not among them"
            )
            raise TypeError(f"a batch of {len(records)} was answered with {what}")
        seen.add(place)
        found[at[place]] = result
    return found
