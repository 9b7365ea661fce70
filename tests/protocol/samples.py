"""Messages made from their schemas: one fixed sample, or a hypothesis strategy, per class and version.

Only the fields that the version has are set, so a message equals what its own bytes decode to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from streamkit.protocol.api import APIS
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.schema import (
    Array,
    Blob,
    Field,
    Fixed,
    Message,
    RecordBatches,
    Structure,
    Text,
    WireType,
    fields_of,
)

PAIRS = [
    (cls, version)
    for api in APIS.values()
    for cls in (api.request, api.response)
    for version in range(api.min_version, api.max_version + 1)
]
"""Every message class with every version that we speak."""


def pair_id(value: object) -> str:
    return value.__name__ if isinstance(value, type) else f"v{value}"


BITS = {"b": 8, "h": 16, "H": 16, "i": 32, "I": 32, "q": 64}
LONG_TEXT = ["x" * 126, "x" * 127, "y" * 128, "é" * 100, "z" * 16_384]

Overrides = Callable[[Field], st.SearchStrategy[Any] | None]


def sample(cls: type[Message], version: int) -> Any:
    """A message with no default left in it and two elements in each array."""
    return cls(
        **{
            field.name: _sample(field.wire, field.name, version)
            for field in fields_of(cls)
            if version in field.versions
        }
    )


def _sample(wire: WireType, name: str, version: int) -> Any:
    match wire:
        case Fixed("?"):
            return True
        case Fixed("16s"):
            return bytes(range(16))
        case Fixed("d"):
            return 1.5
        case Fixed(code):
            return 3 if name.endswith("error_code") else (1 << BITS[code] // 2) - 2
        case Text():
            return f"a {name}"
        case Blob() | RecordBatches():
            return name.encode()
        case Array(element):
            return [_sample(element, name, version)] * 2
        case Structure(cls):
            return sample(cls, version)


def messages(cls: type[Message], version: int, override: Overrides) -> st.SearchStrategy[Any]:
    """Any message of this version; `override` may put a narrower strategy in a field's place."""
    return st.builds(
        cls,
        **{
            field.name: _values(field, version, override)
            for field in fields_of(cls)
            if version in field.versions
        },
    )


def _values(field: Field, version: int, override: Overrides) -> st.SearchStrategy[Any]:
    special = override(field)
    if special is not None:
        return special
    if field.name.endswith("error_code"):
        return st.sampled_from(ErrorCode).map(int)
    values = _wire_values(field.wire, version, override)
    if field.tag is not None:
        values = st.just(field.default) | values
    return st.none() | values if version in field.nullable else values


def _wire_values(wire: WireType, version: int, override: Overrides) -> st.SearchStrategy[Any]:
    match wire:
        case Fixed("?"):
            return st.booleans()
        case Fixed("16s"):
            return st.binary(min_size=16, max_size=16)
        case Fixed("d"):
            return st.floats(allow_nan=False)
        case Fixed(code):
            bits = BITS[code]
            return (
                st.integers(0, (1 << bits) - 1)
                if code.isupper()
                else st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
            )
        case Text():
            return st.text(max_size=6) | st.sampled_from(LONG_TEXT)
        case Blob() | RecordBatches():
            return st.binary(max_size=8) | st.sampled_from([b"x" * 127, b"y" * 300])
        case Array(element):
            few = st.lists(_wire_values(element, version, override), max_size=2)
            many = few.map(lambda items: items * 130)
            return few | many if isinstance(element, Fixed) else few
        case Structure(cls):
            return messages(cls, version, override)
