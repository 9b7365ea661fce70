"""Rows as columns: what files and databases make of a value.

A struct, dataclass, model or mapping has its fields as columns; any other value is the column `value`. The
columns of a key are taken from the value; else `topic`, `partition`, `offset` and `timestamp_ms` are those of
the row, and a single other column is the record's key, or several are fields of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

PLACE = ("topic", "partition", "offset", "timestamp_ms")
VALUE = "value"


def plain(value: Any, keep: Iterable[type] = ()) -> Any:
    """The value in terms of dicts, lists, text and numbers; instances of `keep` stay as they are."""
    if hasattr(value, "model_dump"):  # pydantic's
        value = value.model_dump()
    return msgspec.to_builtins(value, builtin_types=tuple(keep), str_keys=True)


def columns_of(value: Any, keep: Iterable[type] = ()) -> dict[str, Any]:
    """Column → what stands in it. Raises TypeError for what has no such form."""
    found = plain(value, keep)
    return found if isinstance(found, dict) else {VALUE: found}


def key_columns(
    names: Sequence[str], columns: Mapping[str, Any], key: Any, place: Callable[[str], Any]
) -> dict[str, Any]:
    """The columns of a row's key. `place`: those of `PLACE`. Raises ValueError when one is missing."""
    missing = [name for name in names if name not in columns and name not in PLACE]
    found = {name: columns[name] if name in columns else place(name) for name in names if name not in missing}
    if missing:
        parts = plain(key) if len(names) > 1 else None
        fields = parts if isinstance(parts, dict) else {missing[0]: key} if len(missing) == 1 else {}
        found |= {name: fields.get(name) for name in missing}
    absent = [name for name in names if found[name] is None]
    if absent:
        raise ValueError(f"the row has no {', '.join(absent)}, by which it would be found")
    return {name: found[name] for name in names}
