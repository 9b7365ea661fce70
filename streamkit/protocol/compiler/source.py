"""What both directions share: the shape of a message in one version, and a function under construction."""

from __future__ import annotations

import linecache
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any

from streamkit.protocol.errors import UnsupportedVersionError
from streamkit.protocol.primitives import (
    MAX_UNKNOWN_TAGS,
    bad_length,
    read_uvarint,
    skip_tags,
    too_many_elements,
    too_many_tags,
    uvarint,
    write_tags,
)
from streamkit.protocol.schema import Field, Fixed, Message, Structure, Text, WireType, fields_of

_NAMESPACE: dict[str, object] = {
    "MAX_UNKNOWN_TAGS": MAX_UNKNOWN_TAGS,
    "bad_length": bad_length,
    "read_uvarint": read_uvarint,
    "skip_tags": skip_tags,
    "too_many_elements": too_many_elements,
    "too_many_tags": too_many_tags,
    "uvarint": uvarint,
    "write_tags": write_tags,
}


def on_wire(cls: type[Message], version: int) -> tuple[list[Field], list[Field]]:
    """The fields that this version has: those in line, and those of the tag section by ascending tag."""
    fields = [field for field in fields_of(cls) if version in field.versions]
    tagged = sorted((field for field in fields if field.tag is not None), key=lambda field: field.tag or 0)
    return [field for field in fields if field.tag is None], tagged


def least_size(wire: WireType, version: int, flexible: bool) -> int:
    """The fewest bytes that a value can take: what bounds a declared count."""
    match wire:
        case Fixed(code):
            return struct.calcsize(f">{code}")
        case Text():
            return 1 if flexible else 2
        case Structure(cls):
            inline, _ = on_wire(cls, version)
            sizes = (
                1
                if isinstance(field.wire, Structure) and version in field.nullable
                else least_size(field.wire, version, flexible)
                for field in inline
            )
            return sum(sizes) + flexible
        case _:
            return 1 if flexible else 4


class ArrayStructs(dict[int, struct.Struct]):
    """The `Struct` of so many values of one type, remembered for the usual counts."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __missing__(self, length: int) -> struct.Struct:
        made = struct.Struct(f">{length}{self.code}")
        if length < 64:
            self[length] = made
        return made


_array_structs = cache(ArrayStructs)


class Source(ABC):
    """Lines of a function under construction, its constants, and the run that waits to be written out."""

    direction = ""

    def __init__(self, cls: type[Message], version: int) -> None:
        if version not in cls.VERSIONS:
            raise UnsupportedVersionError(f"{cls.__name__} has no version {version}")
        self.cls = cls
        self.version = version
        self.flexible = version in cls.FLEXIBLE
        self.lines: list[str] = []
        self.depth = 1
        self.pending: list[tuple[str, str]] = []
        self.constants: dict[str, object] = {}
        self.numbers = count(1)

    @abstractmethod
    def source(self) -> str:
        """The text of the whole function."""

    def build(self) -> Any:
        source = self.source()
        name = f"<{self.direction} {self.cls.__name__} v{self.version}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        # The source is made of our own tables alone; nothing from outside can reach it.
        namespace: dict[str, object] = {**_NAMESPACE, **self.constants}
        exec(compile(source, name, "exec"), namespace)  # noqa: S102
        return namespace[self.direction]

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """The lines added inside are indented under `head`."""
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    def fresh(self, stem: str) -> str:
        return f"{stem}{next(self.numbers)}"

    def constant(self, stem: str, value: object) -> str:
        for name, known in self.constants.items():
            if known is value:
                return name
        name = self.fresh(stem)
        self.constants[name] = value
        return name

    def struct_method(self, method: str, codes: str) -> str:
        name = f"{method}_{codes}".replace("?", "t")
        self.constants.setdefault(name, getattr(struct.Struct(f">{codes}"), method))
        return name

    def array_structs(self, code: str) -> str:
        self.constants.setdefault(f"arrays_{code}", _array_structs(code))
        return f"arrays_{code}"

    def run(self, code: str, value: str = "") -> None:
        self.pending.append((code, value))
