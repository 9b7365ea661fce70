"""The source of an encoder: `encode(m, buffers)` appends to the last buffer, which is a bytearray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from streamkit.protocol.compiler.source import Source, on_wire
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
)

Encoder: TypeAlias = Callable[[Any, list[Buffer]], None]


def compile_encoder(cls: type[Message], version: int) -> Encoder:
    """`encode(message, buffers)`: appends to the last buffer of the list, which must be a bytearray."""
    encoder: Encoder = EncoderSource(cls, version).build()
    return encoder


class EncoderSource(Source):
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
        """The fields of `value`, an expression; a run may be left pending."""
        inline, tagged = on_wire(cls, self.version)
        tail = self.quiet_tail(inline, tagged)
        for field in inline[: len(inline) - tail]:
            self.field(field, value)
        if tail == 0:
            self.rest([], tagged, value)
            return
        run = self.pending
        tests = [self.quiet(field, f"{value}.{field.name}") for field in (*inline[-tail:], *tagged)]
        with self.block(f"if {' and '.join(filter(None, tests))}:"):
            self.pending = [*run, *(self.quiet_value(field, value) for field in inline[-tail:])]
            if self.flexible:
                self.run("x")
            self.flush()
        with self.block("else:"):
            self.pending = run
            self.rest(inline[-tail:], tagged, value)
            self.flush()

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
                with self.block("else:"):
                    self.run("b", "1")
                    self.structure(cls, value)
                    self.flush()
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
        with self.block(f"for {item} in {items}:"):
            self.value(element, item, False)
            self.flush()

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
        with self.block(f"if {self.differs(field, item)}:"):
            self.line(f"{whole} = out; out = bytearray()")
            self.value(field.wire, item, self.version in field.nullable)
            self.flush()
            self.line(f"if {tags} is None: {tags} = []")
            self.line(f"{tags}.append(({field.tag}, out)); out = {whole}")

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
