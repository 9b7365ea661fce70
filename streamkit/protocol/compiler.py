"""Writes the Python source of one codec: a function for each direction of a (message class, version).

Theory: almost all the time of a hand-written codec goes to calls, so the generated source makes few of them.
Nested structures are inlined. Neighbouring fixed-size values, the length of whatever follows them and empty
tag sections become one `struct` call (a *run*): while code is written, a run waits in `pending` until a value
of variable size forces it out. Runs also read the first byte of a varint, for nearly all lengths fit in it.

The encoder appends to the bytearray at the end of a list of buffers; records join that list uncopied and a
fresh bytearray follows them. The decoder walks a memoryview with one position. It checks a declared count
against the bytes that are left over the least size of an element, before anything is made of it; reads past
the end are caught where `struct` and indexing raise.
"""

from __future__ import annotations

import linecache
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any, TypeAlias

from streamkit.protocol.errors import UnsupportedVersionError
from streamkit.protocol.primitives import (
    MAX_UNKNOWN_TAGS,
    bad_length,
    read_uvarint,
    skip_tags,
    too_many_tags,
    uvarint,
    write_tags,
)
from streamkit.protocol.schema import (
    Array,
    Blob,
    Buffer,
    Field,
    Fixed,
    Message,
    RecordBatches,
    Structure,
    Text,
    WireType,
    fields_of,
)

Encoder: TypeAlias = Callable[[Any, list[Buffer]], None]
Decoder: TypeAlias = Callable[[memoryview, int, int], tuple[Any, int]]

_NAMESPACE: dict[str, object] = {
    "MAX_UNKNOWN_TAGS": MAX_UNKNOWN_TAGS,
    "bad_length": bad_length,
    "pack": struct.pack,
    "read_uvarint": read_uvarint,
    "skip_tags": skip_tags,
    "too_many_tags": too_many_tags,
    "unpack_from": struct.unpack_from,
    "uvarint": uvarint,
    "write_tags": write_tags,
}


def compile_encoder(cls: type[Message], version: int) -> Encoder:
    """`encode(message, buffers)`: appends to the last buffer of the list, which must be a bytearray."""
    encoder: Encoder = EncoderSource(cls, version).build()
    return encoder


def compile_decoder(cls: type[Message], version: int) -> Decoder:
    """`decode(data, pos, end) -> (message, position after it)`."""
    decoder: Decoder = DecoderSource(cls, version).build()
    return decoder


def is_flexible(cls: type[Message], version: int) -> bool:
    return version in cls.FLEXIBLE


def on_wire(cls: type[Message], version: int) -> tuple[list[Field], list[Field]]:
    """The fields that this version has: those in line, and those of the tag section by ascending tag."""
    fields = [field for field in fields_of(cls) if version in field.versions]
    tagged = sorted((field for field in fields if field.tag is not None), key=lambda field: field.tag or 0)
    return [field for field in fields if field.tag is None], tagged


@cache
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


class Source(ABC):
    """Lines of a function under construction, its constants, and the run that waits to be written out."""

    direction = ""

    def __init__(self, cls: type[Message], version: int) -> None:
        if version not in cls.VERSIONS:
            raise UnsupportedVersionError(f"{cls.__name__} has no version {version}")
        self.cls = cls
        self.version = version
        self.flexible = is_flexible(cls, version)
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

    def run(self, code: str, value: str = "") -> None:
        self.pending.append((code, value))


class EncoderSource(Source):
    """Writes `encode(m, buffers)`."""

    direction = "encode"

    def source(self) -> str:
        self.structure(self.cls, "m")
        self.flush()
        return "\n".join(["def encode(m, buffers):", "    out = buffers[-1]", *self.lines, ""])

    def flush(self) -> None:
        if not self.pending:
            return
        codes = "".join(code for code, _ in self.pending)
        values = ", ".join(value for _, value in self.pending if value)
        self.pending = []
        if not values:
            self.line(f"out += {bytes(len(codes))!r}")
        else:
            self.line(f"out += {self.struct_method('pack', codes)}({values})")

    def structure(self, cls: type[Message], value: str) -> None:
        inline, tagged = on_wire(cls, self.version)
        for field in inline:
            self.value(field.wire, f"{value}.{field.name}", self.version in field.nullable)
        if tagged:
            self.tag_section(tagged, value)
        elif self.flexible:
            self.run("x")

    def value(self, wire: WireType, value: str, nullable: bool) -> None:
        match wire:
            case Fixed(code):
                self.run(code, value)
            case Text():
                self.counted(value, nullable, "h", f"{{}} = {value}.encode()", "out += {}")
            case Blob():
                self.counted(value, nullable, "i", f"{{}} = {value}", "out += {}")
            case RecordBatches():
                self.records(value)
            case Array(element):
                self.array(element, value, nullable)
            case Structure(cls) if nullable:
                self.flush()
                self.line(f"if {value} is None: out.append(255)")
                self.line("else:")
                self.depth += 1
                self.run("b", "1")
                self.structure(cls, value)
                self.flush()
                self.depth -= 1
            case Structure(cls):
                self.structure(cls, value)

    def counted(self, value: str, nullable: bool, code: str, prepare: str, write: str) -> None:
        """A length and that many bytes: `prepare` makes them out of `value`, `write` appends them."""
        body, length = self.fresh("s"), self.fresh("n")
        prepare = prepare.format(body)
        if nullable:
            self.line(f"if {value} is None: {body} = b''; {length} = -1")
            self.line(f"else: {prepare}; {length} = len({body})")
        else:
            self.line(f"{prepare}; {length} = len({body})")
        self.length(length, code)
        self.flush()
        self.line(write.format(body))

    def length(self, length: str, code: str) -> None:
        """A length or count; in flexible versions it is one more, so that 0 can stand for null."""
        if self.flexible:
            self.flush()
            self.line(f"if {length} < 127: out.append({length} + 1)")
            self.line(f"else: out += uvarint({length} + 1)")
        else:
            self.run(code, length)

    def records(self, value: str) -> None:
        body, length = self.fresh("s"), self.fresh("n")
        self.line(f"{body} = {value}")
        self.line(f"if {body} is None: {length} = -1; {body} = ()")
        self.line(f"elif type({body}) is list: {length} = sum(map(len, {body}))")
        self.line(f"else: {length} = len({body}); {body} = ({body},)")
        self.length(length, "i")
        self.flush()
        self.line(f"if {length} > 0: buffers += {body}; out = bytearray(); buffers.append(out)")

    def array(self, element: WireType, value: str, nullable: bool) -> None:
        items, length, item = self.fresh("a"), self.fresh("n"), self.fresh("m")
        if nullable:
            self.line(f"{items} = {value}")
            self.line(f"if {items} is None: {items} = (); {length} = -1")
            self.line(f"else: {length} = len({items})")
        else:
            self.line(f"{items} = {value}; {length} = len({items})")
        self.length(length, "i")
        self.flush()
        if isinstance(element, Fixed) and element.code != "16s":
            self.line(f"if {length} > 0: out += pack(f'>{{{length}}}{element.code}', *{items})")
            return
        self.line(f"for {item} in {items}:")
        self.depth += 1
        self.value(element, item, False)
        self.flush()
        self.depth -= 1

    def tag_section(self, tagged: list[Field], value: str) -> None:
        """Tagged fields that differ from their defaults; the usual case is that none does."""
        self.flush()
        tags = self.fresh("tags")
        self.line(f"{tags} = None")
        for field in tagged:
            self.tagged(field, f"{value}.{field.name}", tags)
        self.line(f"if {tags} is None: out.append(0)")
        self.line(f"else: write_tags(out, {tags})")

    def tagged(self, field: Field, value: str, tags: str) -> None:
        item, whole = self.fresh("v"), self.fresh("out")
        self.line(f"{item} = {value}")
        self.line(f"if {self.differs(field, item)}:")
        self.depth += 1
        self.line(f"{whole} = out; out = bytearray()")
        self.value(field.wire, item, self.version in field.nullable)
        self.flush()
        self.line(f"if {tags} is None: {tags} = []")
        self.line(f"{tags}.append(({field.tag}, out)); out = {whole}")
        self.depth -= 1

    def differs(self, field: Field, value: str) -> str:
        default = field.default
        if default is None:
            return f"{value} is not None"
        if default == []:
            return value
        if isinstance(default, Message):
            name = self.constant("D", default)
            return f"{value} is not {name} and {value} != {name}"
        return f"{value} != {default!r}"


class DecoderSource(Source):
    """Writes `decode(data, pos, end)`."""

    direction = "decode"

    def source(self) -> str:
        result = self.structure(self.cls, self.cls.__name__)
        self.flush()
        return "\n".join(["def decode(data, pos, end):", *self.lines, f"    return {result}, pos", ""])

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
        self.line(f"if {tags}:")
        self.depth += 1
        values |= self.tag_section(tagged, tags, path)
        self.line(f"{result} = {self.construct(make, values)}")
        self.depth -= 1
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
                return self.counted("h", path, nullable, "str(data[pos:{}], 'utf-8')")
            case Blob():
                return self.counted("i", path, nullable, "bytes(data[pos:{}])")
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
        self.line("else:")
        self.depth += 1
        expression = self.structure(cls, path)
        self.flush()
        self.line(f"{result} = {expression}")
        self.depth -= 1
        return result

    def length(self, code: str) -> str:
        """Reads a length or count, -1 for null."""
        if not self.flexible:
            length = self.read(code, "n")
            self.flush()
            return length
        length = self.read("B", "n")
        self.flush()
        self.line(f"if {length} > 127: {length}, pos = read_uvarint(data, pos - 1)")
        self.line(f"{length} -= 1")
        return length

    def refuse(self, length: str, path: str) -> str:
        return f"raise bad_length({path!r}, {length}, end - pos)"

    def counted(self, code: str, path: str, nullable: bool, make: str) -> str:
        length = self.length(code)
        value, stop = self.fresh("v"), self.fresh("e")
        self.line(f"{stop} = pos + {length}")
        self.line(f"if pos <= {stop} <= end: {value} = {make.format(stop)}; pos = {stop}")
        if nullable:
            self.line(f"elif {length} == -1: {value} = None")
        self.line(f"else: {self.refuse(length, path)}")
        return value

    def array(self, element: WireType, path: str, nullable: bool) -> str:
        length, items = self.length("i"), self.fresh("a")
        least = max(1, least_size(element, self.version, self.flexible))
        self.line(f"if 0 <= {length} <= (end - pos) // {least}:")
        self.depth += 1
        if isinstance(element, Fixed) and element.code != "16s":
            format = f"f'>{{{length}}}{element.code}'"
            self.line(f"{items} = list(unpack_from({format}, data, pos)); pos += {length} * {least}")
        else:
            self.line(f"{items} = []")
            self.line(f"for _ in range({length}):")
            self.depth += 1
            item = (
                self.structure(element.cls, path)
                if isinstance(element, Structure)
                else self.value(element, path, False)
            )
            self.flush()
            self.line(f"{items}.append({item})")
            self.depth -= 1
        self.depth -= 1
        if nullable:
            self.line(f"elif {length} == -1: {items} = None")
        self.line(f"else: {self.refuse(length, path)}")
        return items

    def tag_section(self, tagged: list[Field], tags: str, path: str) -> dict[str, str]:
        """Reads `tags` tagged fields; returns the locals of the known ones."""
        values = {field.name: self.fresh("v") for field in tagged}
        for field in tagged:
            self.line(f"{values[field.name]} = {self.default(field)}")
        number, size, stop, whole = (self.fresh(stem) for stem in ("tag", "n", "e", "end"))
        unknown = self.fresh("unknown")
        self.line(f"if {tags} > 127: raise too_many_tags()")
        self.line(f"{unknown} = 0; {whole} = end")
        self.line(f"for _ in range({tags}):")
        self.depth += 1
        self.line(f"{number}, pos = read_uvarint(data, pos); {size}, pos = read_uvarint(data, pos)")
        self.line(f"{stop} = pos + {size}")
        self.line(f"if {stop} > end: {self.refuse(size, path)}")
        for field in tagged:
            self.line(f"if {number} == {field.tag}:")
            self.depth += 1
            self.line(f"end = {stop}")
            value = self.value(field.wire, f"{path}.{field.name}", self.version in field.nullable)
            self.flush()
            self.line(f"{values[field.name]} = {value}; end = {whole}")
            self.line(f"if pos != {stop}: {self.refuse(size, f'{path}.{field.name}')}")
            self.line("continue")
            self.depth -= 1
        self.line(f"{unknown} += 1; pos = {stop}")
        self.line(f"if {unknown} > MAX_UNKNOWN_TAGS: raise too_many_tags()")
        self.depth -= 1
        return values

    def default(self, field: Field) -> str:
        if isinstance(field.default, Message):
            return self.constant("D", field.default)
        return repr(field.default)
