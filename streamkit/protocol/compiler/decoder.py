"""The source of a decoder: `decode(data, pos, end, room)` reads the message at `pos`; its bytes end by `end`.

`room` is how many elements all its arrays may hold together: an element of one byte can become a value of a
hundred, so the size of a frame alone does not bound what decoding it takes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from streamkit.protocol.compiler.source import Source, least_size, on_wire
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
)

Decoder: TypeAlias = Callable[[memoryview, int, int, int], Any]


def compile_decoder(cls: type[Message], version: int) -> Decoder:
    """`decode(data, pos, end, room) -> message`."""
    decoder: Decoder = DecoderSource(cls, version).build()
    return decoder


def has_records(cls: type[Message], version: int) -> bool:
    return any(_contains_records(field.wire, version) for fields in on_wire(cls, version) for field in fields)


def _contains_records(wire: WireType, version: int) -> bool:
    match wire:
        case RecordBatches():
            return True
        case Array(element):
            return _contains_records(element, version)
        case Structure(cls):
            return has_records(cls, version)
        case _:
            return False


class DecoderSource(Source):
    direction = "decode"

    def __init__(self, cls: type[Message], version: int) -> None:
        super().__init__(cls, version)
        self.has_records = has_records(cls, version)

    def source(self) -> str:
        if not self.has_records:
            self.line("data = bytes(data)")
        result = self.structure(self.cls, self.cls.__name__)
        self.flush()
        return "\n".join(["def decode(data, pos, end, room):", *self.lines, f"    return {result}", ""])

    def flush(self) -> None:
        if not self.pending:
            return
        codes = "".join(code for code, _ in self.pending)
        names = ", ".join(name for _, name in self.pending)
        self.pending = []
        if codes == "B":
            self.line(f"{names} = data[pos]; pos += 1")
        else:
            size = struct.calcsize(f">{codes}")
            self.line(f"{names}, = {self.struct_method('unpack_from', codes)}(data, pos); pos += {size}")

    def read(self, code: str, stem: str) -> str:
        name = self.fresh(stem)
        self.run(code, name)
        return name

    def structure(self, cls: type[Message], path: str) -> str:
        """Reads the fields; returns the expression that builds the message (a run may still be pending)."""
        inline, tagged = on_wire(cls, self.version)
        make = self.constant(cls.__name__, cls)
        values = {
            field.name: self.value(field.wire, f"{path}.{field.name}", self.version in field.nullable)
            for field in inline
        }
        if not self.flexible:
            return self.construct(make, values)
        tags = self.read("B", "t")
        if not tagged:
            self.flush()
            self.line(f"if {tags}: pos = skip_tags(data, pos, end, {tags})")
            return self.construct(make, values)
        self.flush()
        result = self.fresh("m")
        with self.block(f"if {tags}:"):
            values |= self.tag_section(tagged, tags, path)
            self.line(f"{result} = {self.construct(make, values)}")
        self.line(f"else: {result} = {self.construct(make, {f.name: values[f.name] for f in inline})}")
        return result

    def construct(self, make: str, values: dict[str, str]) -> str:
        return f"{make}({', '.join(f'{name}={value}' for name, value in values.items())})"

    def value(self, wire: WireType, path: str, nullable: bool) -> str:
        """Reads a value; returns the name of the local that has it, or will once the run is flushed."""
        match wire:
            case Fixed(code):
                return self.read(code, "v")
            case Text():
                copy = "data[pos:{}].tobytes()" if self.has_records else "data[pos:{}]"
                return self.counted("h", path, nullable, f"{copy}.decode()")
            case Blob():
                copy = "data[pos:{}].tobytes()" if self.has_records else "data[pos:{}]"
                return self.counted("i", path, nullable, copy)
            case RecordBatches():
                return self.counted("i", path, nullable, "data[pos:{}]")
            case Array(element):
                return self.array(element, path, nullable)
            case Structure(cls) if nullable:
                return self.nullable_structure(cls, path)
            case Structure(cls):
                expression = self.structure(cls, path)
                self.flush()
                result = self.fresh("m")
                self.line(f"{result} = {expression}")
                return result

    def nullable_structure(self, cls: type[Message], path: str) -> str:
        present, result = self.read("b", "n"), self.fresh("m")
        self.flush()
        self.line(f"if {present} < 0: {result} = None")
        with self.block("else:"):
            expression = self.structure(cls, path)
            self.flush()
            self.line(f"{result} = {expression}")
        return result

    def length(self, code: str) -> str:
        """Reads a length or count; in flexible versions it is one more, so that 0 can stand for null."""
        length = self.read("B" if self.flexible else code, "n")
        self.flush()
        if self.flexible:
            self.line(f"if {length} > 127: {length}, pos = read_uvarint(data, pos - 1)")
        return length

    def null_or_refuse(self, length: str, path: str, nullable: bool, value: str) -> None:
        """What a length means that is none."""
        actual = f"{length} - 1" if self.flexible else length
        if nullable:
            self.line(f"elif {length} == {0 if self.flexible else -1}: {value} = None")
        self.line(f"else: raise bad_length({path!r}, {actual}, end - pos)")

    def counted(self, code: str, path: str, nullable: bool, make: str) -> str:
        length = self.length(code)
        value, stop = self.fresh("v"), self.fresh("e")
        self.line(f"{stop} = pos + {length}{' - 1' if self.flexible else ''}")
        self.line(f"if pos <= {stop} <= end: {value} = {make.format(stop)}; pos = {stop}")
        self.null_or_refuse(length, path, nullable, value)
        return value

    def array(self, element: WireType, path: str, nullable: bool) -> str:
        length, items = self.length("i"), self.fresh("a")
        least = max(1, least_size(element, self.version, self.flexible))
        room = f"(end - pos) // {least}"
        with self.block(
            f"if 0 < {length} <= {room} + 1:" if self.flexible else f"if 0 <= {length} <= {room}:"
        ):
            self.line(f"room -= ({length} - 1)" if self.flexible else f"room -= {length}")
            self.line("if room < 0: raise too_many_elements()")
            if isinstance(element, Fixed) and element.code != "16s":
                self.fixed_items(element.code, items, f"({length} - 1)" if self.flexible else length, least)
            else:
                self.line(f"{items} = []")
                with self.block(f"for _ in range({'1, ' if self.flexible else ''}{length}):"):
                    self.item(element, path, items)
        self.null_or_refuse(length, path, nullable, items)
        return items

    def fixed_items(self, code: str, items: str, length: str, size: int) -> None:
        structs = self.array_structs(code)
        self.line(f"{items} = list({structs}[{length}].unpack_from(data, pos)); pos += {length} * {size}")

    def item(self, element: WireType, path: str, items: str) -> None:
        """Reads one element of an array."""
        match element:
            case Structure(cls):
                item = self.structure(cls, path)
            case _:
                item = self.value(element, path, False)
        self.flush()
        self.line(f"{items}.append({item})")

    def tag_section(self, tagged: list[Field], tags: str, path: str) -> dict[str, str]:
        """Reads `tags` tagged fields; returns the locals of the known ones."""
        values = {field.name: self.fresh("v") for field in tagged}
        for field in tagged:
            self.line(f"{values[field.name]} = {self.default(field)}")
        number, size, stop, whole = (self.fresh(stem) for stem in ("tag", "n", "e", "end"))
        unknown = self.fresh("unknown")
        self.line(f"if {tags} > 127: raise too_many_tags()")
        self.line(f"{unknown} = 0; {whole} = end")
        with self.block(f"for _ in range({tags}):"):
            self.line(f"{number}, pos = read_uvarint(data, pos); {size}, pos = read_uvarint(data, pos)")
            self.line(f"{stop} = pos + {size}")
            self.line(f"if {stop} > end: raise bad_length({path!r}, {size}, end - pos)")
            for field in tagged:
                known = f"{path}.{field.name}"
                with self.block(f"if {number} == {field.tag}:"):
                    self.line(f"end = {stop}")
                    value = self.value(field.wire, known, self.version in field.nullable)
                    self.flush()
                    self.line(f"{values[field.name]} = {value}; end = {whole}")
                    self.line(f"if pos != {stop}: raise bad_length({known!r}, {size}, end - pos)")
                    self.line("continue")
            self.line(f"{unknown} += 1; pos = {stop}")
            self.line(f"if {unknown} > MAX_UNKNOWN_TAGS: raise too_many_tags()")
        return values

    def default(self, field: Field) -> str:
        if isinstance(field.default, Message):
            return self.constant("D", field.default)
        return repr(field.default)
