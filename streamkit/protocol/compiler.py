"""Writes the Python source of one codec: a function for each direction of a (message class, version).

Theory: almost all the time of a hand-written codec goes to calls, so the generated source makes few of them.
Nested structures are inlined. Neighbouring fixed-size values, the length of whatever follows them and empty
tag sections become one `struct` call (a *run*): while code is written, a run waits in `pending` until a value
of variable size forces it out. Runs take a varint as the one byte that nearly all lengths fit in. And where a
structure ends with values that are mostly absent (errors, tagged fields), a single test for all of them being
quiet leads to a single run.

The encoder appends to the bytearray at the end of a list of buffers; records join that list uncopied and a
fresh bytearray follows them. The decoder walks the data with one position: a memoryview where the message has
records, for these are slices of it, else a copy as bytes, which Python reads faster. It checks a declared
count against the bytes that are left over the least size of an element, before anything is made of it; reads
past the end are caught where `struct` and indexing raise.
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
Decoder: TypeAlias = Callable[[memoryview, int, int], Any]

_NAMESPACE: dict[str, object] = {
    "MAX_UNKNOWN_TAGS": MAX_UNKNOWN_TAGS,
    "bad_length": bad_length,
    "read_uvarint": read_uvarint,
    "skip_tags": skip_tags,
    "too_many_tags": too_many_tags,
    "uvarint": uvarint,
    "write_tags": write_tags,
}


def compile_encoder(cls: type[Message], version: int) -> Encoder:
    """`encode(message, buffers)`: appends to the last buffer of the list, which must be a bytearray."""
    encoder: Encoder = EncoderSource(cls, version).build()
    return encoder


def compile_decoder(cls: type[Message], version: int) -> Decoder:
    """`decode(data, pos, end) -> message`."""
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

    def array_structs(self, code: str) -> str:
        self.constants.setdefault(f"arrays_{code}", _array_structs(code))
        return f"arrays_{code}"

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
        if self.pending:
            self.line(self.write(self.pending))
            self.pending = []

    def write(self, run: list[tuple[str, str]]) -> str:
        codes = "".join(code for code, _ in run)
        values = ", ".join(value for _, value in run if value)
        if not values:
            return f"out += {bytes(len(codes))!r}"
        if codes == "B":
            return f"out.append({values})"
        return f"out += {self.struct_method('pack', codes)}({values})"

    def structure(self, cls: type[Message], value: str) -> None:
        inline, tagged = on_wire(cls, self.version)
        tail = self.quiet_tail(inline, tagged)
        for field in inline[: len(inline) - tail]:
            self.field(field, value)
        if tail == 0:
            self.rest([], tagged, value)
            return
        run = self.pending
        tests = [self.quiet(field, f"{value}.{field.name}") for field in (*inline[-tail:], *tagged)]
        self.line(f"if {' and '.join(filter(None, tests))}:")
        self.depth += 1
        self.pending = [*run, *(self.quiet_value(field, value) for field in inline[-tail:])]
        if self.flexible:
            self.run("x")
        self.flush()
        self.depth -= 1
        self.line("else:")
        self.depth += 1
        self.pending = run
        self.rest(inline[-tail:], tagged, value)
        self.flush()
        self.depth -= 1

    def field(self, field: Field, value: str) -> None:
        self.value(field.wire, f"{value}.{field.name}", self.version in field.nullable)

    def rest(self, inline: list[Field], tagged: list[Field], value: str) -> None:
        for field in inline:
            self.field(field, value)
        if tagged:
            self.tag_section(tagged, value)
        elif self.flexible:
            self.run("x")

    def quiet_tail(self, inline: list[Field], tagged: list[Field]) -> int:
        """How many fields at the end of a structure are worth a common test; 0 if fewer than two vary."""
        tail = varying = 0
        for field in reversed(inline):
            match field.wire:
                case Fixed():
                    pass
                case Array():
                    varying += 1
                case Text() | Blob() if self.version in field.nullable:
                    varying += 1
                case _:
                    break
            tail += 1
        return tail if varying and varying + len(tagged) > 1 else 0

    def quiet(self, field: Field, value: str) -> str:
        """The test that a field has only the length of nothing to write; no test if its size is fixed."""
        if field.tag is not None:
            return f"not ({self.differs(field, value)})"
        return "" if isinstance(field.wire, Fixed) else f"not {value}"

    def quiet_value(self, field: Field, value: str) -> tuple[str, str]:
        """A fixed-size value, or the length of nothing: null or empty."""
        name = f"{value}.{field.name}"
        if isinstance(field.wire, Fixed):
            return field.wire.code, name
        nullable = self.version in field.nullable
        if self.flexible:
            return "B", f"{name} is not None" if nullable else "1"
        return "h" if isinstance(field.wire, Text) else "i", f"-({name} is None)" if nullable else "0"

    def value(self, wire: WireType, value: str, nullable: bool) -> None:
        match wire:
            case Fixed(code):
                self.run(code, value)
            case Text():
                self.counted(value, nullable, "h", f"{{}} = {value}.encode()")
            case Blob():
                self.counted(value, nullable, "i", f"{{}} = {value}")
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

    def counted(self, value: str, nullable: bool, code: str, prepare: str) -> None:
        """A length and that many bytes; `prepare` makes them out of `value`."""
        body, length = self.fresh("s"), self.fresh("n")
        prepare = prepare.format(body)
        if nullable:
            self.line(f"if {value} is None: {length} = -1")
            self.line(f"else: {prepare}; {length} = len({body})")
        else:
            self.line(f"{prepare}; {length} = len({body})")
        self.length(length, code)
        self.line(f"if {length} > 0: out += {body}" if nullable else f"out += {body}")

    def length(self, length: str, code: str) -> None:
        """A length or count with the run before it; flexible versions add one, for 0 stands for null."""
        if not self.flexible:
            self.run(code, length)
            self.flush()
            return
        self.line(f"if {length} < 127: {self.write([*self.pending, ('B', f'{length} + 1')])}")
        if self.pending:
            self.line(f"else: {self.write(self.pending)}; out += uvarint({length} + 1)")
        else:
            self.line(f"else: out += uvarint({length} + 1)")
        self.pending = []

    def records(self, value: str) -> None:
        body, length = self.fresh("s"), self.fresh("n")
        self.line(f"{body} = {value}")
        self.line(f"if {body} is None: {length} = -1; {body} = ()")
        self.line(f"elif type({body}) is list: {length} = sum(map(len, {body}))")
        self.line(f"else: {length} = len({body}); {body} = ({body},)")
        self.length(length, "i")
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
        if isinstance(element, Fixed) and element.code != "16s":
            self.line(f"if {length} > 0: out += {self.array_structs(element.code)}[{length}].pack(*{items})")
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

    def __init__(self, cls: type[Message], version: int) -> None:
        super().__init__(cls, version)
        self.has_records = has_records(cls, version)

    def source(self) -> str:
        if not self.has_records:
            self.line("data = bytes(data)")
        result = self.structure(self.cls, self.cls.__name__)
        self.flush()
        return "\n".join(["def decode(data, pos, end):", *self.lines, f"    return {result}", ""])

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
        self.line("else:")
        self.depth += 1
        expression = self.structure(cls, path)
        self.flush()
        self.line(f"{result} = {expression}")
        self.depth -= 1
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
        if self.flexible:
            self.line(f"if 0 < {length} <= (end - pos) // {least} + 1:")
        else:
            self.line(f"if 0 <= {length} <= (end - pos) // {least}:")
        self.depth += 1
        if isinstance(element, Fixed) and element.code != "16s":
            self.fixed_items(element.code, items, f"({length} - 1)" if self.flexible else length, least)
        else:
            self.line(f"{items} = []")
            self.line(f"for _ in range({'1, ' if self.flexible else ''}{length}):")
            self.depth += 1
            self.item(element, path, items)
            self.depth -= 1
        self.depth -= 1
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
        self.line(f"for _ in range({tags}):")
        self.depth += 1
        self.line(f"{number}, pos = read_uvarint(data, pos); {size}, pos = read_uvarint(data, pos)")
        self.line(f"{stop} = pos + {size}")
        self.line(f"if {stop} > end: raise bad_length({path!r}, {size}, end - pos)")
        for field in tagged:
            self.line(f"if {number} == {field.tag}:")
            self.depth += 1
            self.line(f"end = {stop}")
            value = self.value(field.wire, f"{path}.{field.name}", self.version in field.nullable)
            self.flush()
            self.line(f"{values[field.name]} = {value}; end = {whole}")
            self.line(f"if pos != {stop}: raise bad_length('{path}.{field.name}', {size}, end - pos)")
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
