"""Sizes as people write them: `500000`, `20MB`, `1.5GB`, `64KiB`."""

from __future__ import annotations

import re
from typing import Any, Final

import click

UNITS: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_size(text: str) -> int | None:
    """So many bytes; None if that is no size."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in UNITS:
        return None
    return round(float(match[1]) * UNITS[match[2]])


def shown_size(size: int) -> str:
    """In the largest decimal unit that leaves a figure before the point."""
    for unit in ("TB", "GB", "MB", "kB"):
        one = UNITS[unit.lower()]
        if size >= one:
            return f"{size / one:.4g} {unit}"
    return f"{size} B"


class Size(click.ParamType[int]):
    """An option's value: bytes, with a unit or without."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        size = value if isinstance(value, int) else parse_size(value)
        if size is None or size < 1:
            self.fail(f"{value!r} is not a size; write for example 500kB, 20MB or 64MiB", param, ctx)
        return size
