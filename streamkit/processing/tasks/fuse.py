"""Chains of plain functions, compiled to one loop.

A chain starts at an input topic and ends wherever records leave it: a sink, a repartition topic, a window's
state, an agent's inbox. Each operator writes its own few lines of Python into a `Code`, given an `At` that
says which variable holds the value at this place; what comes out for `filter → map → to` is

    def run(records, chain):
        m = None
        try:
            for m in records:
                v1 = decode_0(m.value())
                if fn_1(v1):
                    v2 = fn_2(v1)
                    out_3((encode_4(v2), m.key(), m.timestamp()[1], m.headers(), None))
        except Exception as error:
            chain.failed = m
            return error
        return None

so that a record costs the user's own calls and a few bytecodes: no object per record or per operator, keys,
times and headers read only where somebody wants them. `records` is an iterator: after a failure the error
policy decides, and `run` goes on with the same iterator behind the failed record. The line that raised tells
which operator it was (`Compiled.operator_at`).

What is computed rather than read (window results, outputs of async agents) enters through `push`, which has
the same body with the record's parts as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from streamkit.processing.record import RawRecord, Record, wants_record
from streamkit.processing.serde import NOT_NULL, WRITTEN_AS_READ, Serde

if TYPE_CHECKING:
    from streamkit.processing.tasks.watermark import Mark
    from streamkit.processing.topology import Entry, Node

# value, key, timestamp in ms, headers, partition (None: the partitioner chooses)
SinkRecord = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]] | None, int | None]
INDENT = "    "


class Counts(msgspec.Struct):
    """What an operator did, as plain numbers that only grow."""

    records: int = 0
    done: int = 0  # records that an agent finished without an error
    late: int = 0
    duplicates: int = 0
    null_keys: int = 0
    skipped: int = 0
    dead_letters: int = 0
    failed: int = 0
    retries: int = 0


class Runtime(Protocol):
    """What generated code binds to: the parts of one task."""

    def outlet(self, topic: str) -> list[SinkRecord]: ...
    def inbox(self, node: Node) -> list[Any]: ...
    def state(self, node: Node) -> Any: ...
    def replier(self, node: Node) -> Any: ...
    def view(self, node: Node) -> Any: ...
    def counts(self, node: Node) -> Counts: ...
    def children(self, node: Node, port: str = "") -> tuple[Node, ...]: ...
    def touches_tables(self, node: Node) -> bool: ...
    def expires(self, node: Node) -> bool: ...
    def scope(self) -> Any: ...


class At(msgspec.Struct, frozen=True, kw_only=True):
    """Where a value stands in generated code: names of variables, empty while not yet computed.

    `raw`: `m` is the record that the value came from, and the value's key is still `m.key()`.
    """

    value: str
    key_serde: Serde[Any]
    key: str = ""
    time: str = ""
    stream_time: str = ""
    headers: str = ""
    raw: bool = True
    old: str = ""  # of a change of a table: what the value takes the place of, None if nothing


class Code:
    """Lines of Python under construction, with the objects that they name."""

    def __init__(self, runtime: Runtime, *, tracks_time: bool) -> None:
        self.runtime = runtime
        self.tracks_time = tracks_time  # does anything downstream measure by event time?
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []
        self.owners: list[Node | None] = []
        self.prologue: list[str] = []  # once per call, before the first record
        self.epilogue: list[str] = []  # once per call, after the last record or the one that failed
        self.outlets: list[str] = []  # lists whose partial growth is withdrawn when a record fails
        self.withdrawn: list[str] = []  # states that take back what they kept of it
        self._notes: list[int] = []  # lines for that
        self.foreseeing: list[Any] = []  # states whose keys are those of the records
        self.forks = 0  # places where one record may leave more than once
        self.harmless = 0  # of them those behind which nobody's code runs
        self._untouched: dict[str, Serde[Any]] = {}  # variables that are as they were read, and by what
        self._bound: dict[tuple[int, str], str] = {}
        self._owner: Node | None = None
        self._depth = 0
        self._variables = 0

    def bind(self, thing: Any, hint: str) -> str:
        """The global name under which generated code sees `thing`."""
        known = self._bound.get((id(thing), hint))
        if known is None:
            known = self._bound[id(thing), hint] = f"{hint}_{len(self.names)}"
            self.names[known] = thing
        return known

    def variable(self, hint: str) -> str:
        self._variables += 1
        return f"{hint}{self._variables}"

    def once(self, line: str) -> None:
        if line not in self.prologue:
            self.prologue.append(line)

    def tally(self, counts: Counts, field: str) -> None:
        """Count one record here; `counts` hears of it once per call."""
        number = f"{field}_{self.bind(counts, 'counts')}"
        self.once(f"{number} = 0")
        self.line(f"{number} += 1")
        total = f"{self.bind(counts, 'counts')}.{field} += {number}"
        if total not in self.epilogue:
            self.epilogue.append(total)

    def foresee(self, state: Any, at: At) -> None:
        """Tell the state of records before they are processed, if their own keys are what it is asked for."""
        if at.raw and state not in self.foreseeing:
            self.foreseeing.append(state)

    def line(self, text: str) -> None:
        self.lines.append(INDENT * self._depth + text)
        self.owners.append(self._owner)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        self.line(header)
        self._depth += 1
        yield
        self._depth -= 1

    def enter(self, entry: Entry) -> None:
        """Generate the whole chain that starts here."""
        self._owner = entry
        entry.generate_entry(self)

    # -- what operators ask for ---------------------------------------------------------------------

    def follow(self, node: Node, at: At, port: str = "") -> None:
        """Generate everything downstream of `node` (of its `port`), at this place."""
        children = self.runtime.children(node, port)
        if not children:
            self.line("pass")
        self.forks += max(0, len(children) - 1)
        for child in children:
            if not child.only_looks:
                self._untouched.clear()
            owner, self._owner = self._owner, child
            child.generate_from(self, at, node)
            self._owner = owner

    def untouched(self, at: At, serde: Serde[Any]) -> None:
        """The value at `at` is what `serde` read from `m.value()`."""
        if serde in WRITTEN_AS_READ:
            self._untouched[at.value] = serde

    def outlet(self, out: list[Any]) -> str:
        """The append method of an output list."""
        name = self.bind(out, "list")
        if name not in self.outlets:
            self.outlets.append(name)
        self.names[f"put_{name}"] = out.append
        return f"put_{name}"

    def takes_back(self, state: str) -> None:
        """The state's `begin` is called before each record, and its `withdraw` when that fails."""
        if state not in self.withdrawn:
            self.withdrawn.append(state)

    def note(self, state: str, *texts: str) -> None:
        """Lines that tell the state what it would have to take back; none where nothing can fail behind."""
        self.takes_back(state)
        for text in texts:
            self._notes.append(len(self.lines))
            self.line(text)

    @property
    def may_tear(self) -> bool:
        """May a record fail behind what it has changed?"""
        return self.forks > self.harmless

    @property
    def body(self) -> list[str]:
        """All lines, without those that nobody needs."""
        dropped = () if self.may_tear else self._notes
        return [line for number, line in enumerate(self.lines) if number not in dropped]

    @property
    def body_owners(self) -> list[Node | None]:
        dropped = () if self.may_tear else self._notes
        return [owner for number, owner in enumerate(self.owners) if number not in dropped]

    def key(self, at: At) -> At:
        """`at` with the decoded key in a variable."""
        if at.key:
            return at
        name = self.variable("key")
        self.line(f"{name} = m.key()")
        if not _passes_bytes(at.key_serde):
            decode = self.bind(at.key_serde.on_arrival, "decode")
            with self.block(f"if {name} is not None:"):
                self.line(f"{name} = {decode}({name})")
        return msgspec.structs.replace(at, key=name)

    def time(self, at: At) -> At:
        """`at` with the event time, in milliseconds, in a variable."""
        if at.time:
            return at
        name = self.variable("ts")
        self.line(f"{name} = m.timestamp()[1]")
        return msgspec.structs.replace(at, time=name)

    def timestamp(self, at: At) -> str:
        return at.time or "m.timestamp()[1]"

    def headers(self, at: At) -> str:
        return at.headers or "m.headers()"

    def encoded_key(self, at: At, serde: Serde[Any], *, keep: bool) -> str:
        """An expression for the key's bytes; `keep`: the record's own bytes will do."""
        if keep and at.raw:
            return "m.key()"
        encode = self.bind(serde.encode, "encode")
        return f"({encode}({at.key}) if {at.key} is not None else None)"

    def encoded_value(self, at: At, serde: Serde[Any]) -> str:
        """An expression for the value's bytes; None for None."""
        if at.raw and self._untouched.get(at.value) == serde:
            return f"(m.value() if {at.value} is not None else None)"  # JSON's null becomes a tombstone
        value, encode = at.value, self.bind(serde.encode, "encode")
        careful = f"{encode}({value}) if {value} is not None else None"
        if serde.encode_not_null is None:
            return f"({careful})"
        quick, classes = self.bind(serde.encode_not_null, "encode"), self.bind(NOT_NULL, "not_null")
        return f"({quick}({value}) if {value}.__class__ in {classes} else {careful})"

    def apply(self, node: Node, fn: Callable[..., Any], at: At, *arguments: str) -> str:
        """An expression that calls a user function with these values; `at` has the key."""
        self._lend(node, at)
        return f"{self.bind(fn, 'fn')}({', '.join(arguments)})"

    def call(self, node: Node, fn: Callable[..., Any], at: At) -> tuple[str, At]:
        """An expression that calls a user function with the value, and the record if it asks for it."""
        if self.runtime.touches_tables(node):
            at = self.key(at)
            self._lend(node, at)
        name = self.bind(fn, "fn")
        if not wants_record(fn):
            return f"{name}({at.value})", at
        at = self.time(self.key(at))
        record = self.bind(Record, "Record")
        headers = f", {at.headers}" if at.headers else ""
        return f"{name}({at.value}, {record}(m, {at.key}, {at.time}{headers}))", at

    def _lend(self, node: Node, at: At) -> None:
        """Tell the tables that this operator touches what it has in hand, and at what stream time."""
        if self.runtime.touches_tables(node):
            scope = self.bind(self.runtime.scope(), "scope")
            self.line(f"{scope}.key = {at.key}")
            self.line(f"{scope}.record = m")
            if self.runtime.expires(node):
                self.line(f"{scope}.time_ms = {at.stream_time or self.timestamp(at)}")


def _passes_bytes(serde: Serde[Any]) -> bool:
    return serde.name in ("bytes", "key")


class Compiled:
    """A generated function and the operator that each of its lines belongs to."""

    def __init__(
        self, function: Callable[..., Any], source: str, owners: list[Node | None], file: str
    ) -> None:
        self.function = function
        self.source = source
        self._owners = owners
        self._file = file

    def operator_at(self, traceback: TracebackType | None) -> Node | None:
        """The operator whose line raised; None when the error came from elsewhere."""
        found = None
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == self._file:
                found = self._owners[traceback.tb_lineno - 1]
            traceback = traceback.tb_next
        return found


def compile_loop(code: Code, name: str) -> Compiled:
    """`run(records, chain)` around the record's body in `code`; returns the error that stopped it, or
    None.
    """
    marks, undo = _withdrawal(code)
    head = ["def run(records, chain):", "    s = chain.stream_time", "    m = None"]
    head += [INDENT + line for line in (*code.prologue, *marks)]
    head += ["    try:", "        for m in records:"]
    head += [INDENT * 3 + line for line in marks]
    tail = ["    except Exception as error:", "        chain.stream_time = s", "        chain.failed = m"]
    tail += [INDENT * 2 + line for line in (*undo, *code.epilogue)]
    tail += ["        return error", "    chain.stream_time = s"]
    tail += [INDENT + line for line in (*code.epilogue, "return None")]
    return _compile(code, name, head, tail, depth=3)


def compile_push(code: Code, name: str) -> Compiled:
    """`push(v, key, ts, s, headers, m)`: one computed value enters; errors are the caller's."""
    marks, undo = _withdrawal(code)
    head = ["def push(v, key, ts, s, headers, m):"]
    head += [INDENT + line for line in (*code.prologue, *marks)]
    tail = [INDENT + line for line in code.epilogue]
    if undo:
        head.append("    try:")
        tail = ["    except Exception:", *(INDENT * 2 + line for line in (*undo, "raise")), *tail]
    return _compile(code, name, head, tail, depth=2 if undo else 1)


def _withdrawal(code: Code) -> tuple[list[str], list[str]]:
    """Lines before a value and after its failure: what it has left behind so far is taken back."""
    if not code.forks:
        return [], []
    marks = [f"mark_{outlet} = len({outlet})" for outlet in code.outlets]
    undo = [f"del {outlet}[mark_{outlet}:]" for outlet in code.outlets]
    withdrawn = code.withdrawn if code.may_tear else []
    for state in withdrawn:
        code.names[f"{state}_begin"] = code.names[state].begin
    marks += [f"{state}_begin()" for state in withdrawn]
    return marks, undo + [f"{state}.withdraw()" for state in withdrawn]


def _compile(code: Code, name: str, head: list[str], tail: list[str], depth: int) -> Compiled:
    body = [INDENT * depth + line for line in code.body]
    source = "\n".join([*head, *body, *tail]) + "\n"
    file = f"<streamkit {name}>"
    namespace = dict(code.names)
    exec(compile(source, file, "exec"), namespace)  # noqa: S102 - from the topology, never from data
    owners = [None] * len(head) + code.body_owners + [None] * len(tail)
    function = head[0].removeprefix("def ").partition("(")[0]
    return Compiled(namespace[function], source, owners, file)


class ChainState(Protocol):
    """What the generated loop reads and leaves behind."""

    stream_time: int
    failed: RawRecord | None

    def heard(self, mark: Mark) -> None: ...
