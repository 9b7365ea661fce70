"""One configuration key: its name, type, default, range and documentation, and how text becomes its value.

A configuration class is a frozen dataclass whose fields are declared with `flag`, `integer`, `long`,
`double`, `string`, `choice`, `words` and `replicas`. The field is the row of the table: its metadata carries
the `Key`, its annotation the type that readers see, so that parsing, DescribeConfigs and the documentation
cannot drift from the code.

    num_partitions: int = integer("num.partitions", 1, "Partitions of a topic …", low=1)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from math import inf
from typing import Any, Final, TypeAlias, cast

Value: TypeAlias = bool | int | float | str | tuple[str, ...]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
DOUBLE_MAX: Final = 1.7976931348623157e308
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class ConfigType(IntEnum):
    """Kafka's types of a configuration value, numbered as DescribeConfigs answers them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


_BITS: Final = {ConfigType.SHORT: 16, ConfigType.INT: 32, ConfigType.LONG: 64}


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """A name under which a value may be given, and how many of the key's units one of its units is."""

    name: str
    unit: int = 1


def minutes(name: str) -> Spelling:
    """A spelling in minutes of a key in milliseconds."""
    return Spelling(name=name, unit=MINUTE_MS)


def hours(name: str) -> Spelling:
    """A spelling in hours of a key in milliseconds."""
    return Spelling(name=name, unit=HOUR_MS)


Spellings: TypeAlias = tuple[str | Spelling, ...]


class InvalidValueError(ValueError):
    """A text that is no value of its key; the message says what is expected."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """The row of one key. `low` and `high` are inclusive; only `choices`, if there are any, are values or
    list members.

    `spellings` are the names a broker's properties may use, strongest first; for a topic's key they name the
    broker's default for it, if there is one.
    """

    attribute: str = ""
    name: str
    type: ConfigType
    default: Value
    doc: str
    spellings: tuple[Spelling, ...]
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    """What a list must match as a whole; `notation` says it in words."""
    notation: str = ""
    dynamic: bool = False
    """Whether a broker's key can be altered while the broker runs."""

    @property
    def default_name(self) -> str:
        """What the default is called among a value's synonyms."""
        return self.spellings[0].name if self.spellings else self.name

    def parse(self, text: str, unit: int = 1) -> Value:
        """The value that `text`, counted in `unit`s, stands for; raises InvalidValueError."""
        text = text.strip()
        if self.type is ConfigType.BOOLEAN:
            return self._boolean(text)
        if self.type in _BITS:
            return self._number(text, unit)
        if self.type is ConfigType.DOUBLE:
            return self._fraction(text)
        if self.type is ConfigType.LIST:
            return self._list(text)
        if self.choices and text not in self.choices:
            raise self._invalid(text, f"must be one of {', '.join(self.choices)}")
        return text

    def render(self, value: Value) -> str:
        """The text that `parse` would read as `value`."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(value)
        return str(value)

    @property
    def valid_values(self) -> str:
        """Kafka's notation of what is allowed: `[1,...]`, `[a, b]`, or nothing."""
        if self.notation:
            return self.notation
        if self.choices:
            return f"[{', '.join(self.choices)}]"
        if self.low is not None:
            return f"[{self.low},...{'' if self.high is None else f',{self.high}'}]"
        return ""

    def _boolean(self, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise self._invalid(text, "must be true or false")
        return text.lower() == "true"

    def _number(self, text: str, unit: int) -> int:
        try:
            number = int(text)
        except ValueError:
            raise self._invalid(text, "must be a whole number") from None
        # A negative figure is a sentinel ("no limit"), not a quantity: it has no unit.
        number = number * unit if number > 0 else number
        high = 2 ** (_BITS[self.type] - 1) - 1
        low = -high - 1 if self.low is None else self.low
        high = high if self.high is None else self.high
        if not low <= number <= high:
            raise self._invalid(text, f"must be between {low // unit} and {high // unit}")
        return number

    def _fraction(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise self._invalid(text, "must be a number") from None
        low = -inf if self.low is None else self.low
        high = inf if self.high is None else self.high
        if not low <= number <= high:
            raise self._invalid(text, f"must be between {low} and {high}")
        return number

    def _list(self, text: str) -> tuple[str, ...]:
        members = tuple(part.strip() for part in text.split(",") if part.strip())
        for member in members:
            if self.choices and member not in self.choices:
                raise self._invalid(text, f"may contain only {', '.join(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, ",".join(members)):
            raise self._invalid(text, f"must be {self.notation}")
        if not members and self.choices:
            raise self._invalid(text, f"must name at least one of {', '.join(self.choices)}")
        return members

    def _invalid(self, text: str, expected: str) -> InvalidValueError:
        return InvalidValueError(f"Invalid value {text} for configuration {self.name}: it {expected}")


def keys_of(config_class: type[Any]) -> dict[str, Key]:
    """The table that a configuration class declares, by the key's own name."""
    rows = [
        dataclasses.replace(entry.metadata["key"], attribute=entry.name)
        for entry in dataclasses.fields(config_class)
        if "key" in entry.metadata
    ]
    return {row.name: row for row in rows}


def parsed(keys: Mapping[str, Key], texts: Mapping[str, str]) -> dict[str, Value]:
    """These texts as values, by attribute; raises InvalidValueError, KeyError."""
    return {keys[name].attribute: keys[name].parse(text) for name, text in texts.items()}


def nearest(name: str, names: list[str]) -> str:
    """The known name that `name` most resembles, or an empty string."""
    return next(iter(get_close_matches(name, names, n=1, cutoff=0.6)), "")


def flag(name: str, default: bool, doc: str) -> bool:
    return cast(bool, _row(name, ConfigType.BOOLEAN, default, doc, ()))


def integer(
    name: str,
    default: int,
    doc: str,
    *,
    low: int | None = None,
    high: int | None = None,
    spellings: Spellings = (),
    type: ConfigType = ConfigType.INT,
    dynamic: bool = False,
) -> int:
    return cast(int, _row(name, type, default, doc, spellings, low=low, high=high, dynamic=dynamic))


def long(
    name: str,
    default: int,
    doc: str,
    *,
    low: int | None = None,
    spellings: Spellings = (),
    dynamic: bool = False,
) -> int:
    return cast(int, _row(name, ConfigType.LONG, default, doc, spellings, low=low, dynamic=dynamic))


def double(
    name: str,
    default: float,
    doc: str,
    *,
    low: int | None = None,
    high: int | None = None,
    spellings: Spellings = (),
    dynamic: bool = False,
) -> float:
    row = _row(name, ConfigType.DOUBLE, default, doc, spellings, low=low, high=high, dynamic=dynamic)
    return cast(float, row)


def string(name: str, default: str, doc: str, *, spellings: Spellings = ()) -> str:
    return cast(str, _row(name, ConfigType.STRING, default, doc, spellings))


def choice(name: str, default: str, doc: str, choices: tuple[str, ...], *, spellings: Spellings = ()) -> str:
    return cast(str, _row(name, ConfigType.STRING, default, doc, spellings, choices=choices))


def words(
    name: str,
    default: tuple[str, ...],
    doc: str,
    choices: tuple[str, ...] = (),
    *,
    spellings: Spellings = (),
) -> tuple[str, ...]:
    row = _row(name, ConfigType.LIST, default, doc, spellings, choices=choices)
    return cast("tuple[str, ...]", row)


def replicas(name: str, doc: str) -> tuple[str, ...]:
    """Replicas of one topic: by nature there is no broker's default for them."""
    row = Key(
        name=name,
        type=ConfigType.LIST,
        default=(),
        doc=doc,
        spellings=(),
        pattern=r"\*|(\d+:\d+(,\d+:\d+)*)?",
        notation="* or [partitionId]:[brokerId],[partitionId]:[brokerId],...",
    )
    return cast("tuple[str, ...]", field(default=(), metadata={"key": row}))


def _row(
    name: str,
    type: ConfigType,
    default: Value,
    doc: str,
    spellings: Spellings,
    *,
    low: int | None = None,
    high: int | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> object:
    """A dataclass field whose metadata is the key; the annotation beside the call is what readers see."""
    names = tuple(Spelling(name=one) if isinstance(one, str) else one for one in spellings)
    row = Key(
        name=name,
        type=type,
        default=default,
        doc=doc,
        low=low,
        high=high,
        choices=choices,
        dynamic=dynamic,
        spellings=names or (Spelling(name=name),),
    )
    return field(default=default, metadata={"key": row})
