"""`window(...).aggregate(...)`: one result for each key and window when it closes, or sooner and more often.

A result is a plain dict: `{"key": …, "start_ms": …, "end_ms": …}` and the named aggregations. `end_ms` is
exclusive where the window has a length of its own; of sessions and counted windows it is the time of the
last record. Its key is the record's; its event time is the last millisecond of the window (on close) or that
of the record (on update). Records too late for their window go to the `late` port unchanged.

A session whose start changes, because a record came before it or it was joined to another, is another one:
where its result was emitted early, it is emitted once more with `"retracted": True`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.accumulators import Aggregations, Layout
from streamkit.processing.aggregations import Aggregation
from streamkit.processing.operators.function import VALUE_AND_RECORD, check_function, function_name
from streamkit.processing.serde import JSON, Serde
from streamkit.processing.state.operator_state import OperatorState
from streamkit.processing.state.panes import PanedState
from streamkit.processing.state.sessions import SessionState
from streamkit.processing.state.store import Index, Store
from streamkit.processing.state.stored_panes import StoredPanes
from streamkit.processing.state.stored_sessions import SessionIndex, StoredSessions
from streamkit.processing.state.stored_sliding import SlidingIndex, StoredSliding
from streamkit.processing.state.windows import AlignedState, CountState
from streamkit.processing.topology import Node, Stateful
from streamkit.processing.windows import (
    CountWindow,
    Emit,
    Every,
    Hopping,
    Session,
    Sliding,
    Tumbling,
    WindowKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamkit.processing.tasks.fuse import At, Code


Input = tuple[str, str]
"""Variables of the generated loop: what an aggregation takes from the value, and whether it takes it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Window(Stateful):
    kind: ClassVar[str] = "window"
    needs_time: ClassVar[bool] = True
    window: WindowKind
    aggregations: Aggregations
    emit: Emit

    def __post_init__(self) -> None:
        self._check_kinds()
        if isinstance(self.window, Sliding) and self.emit != "on_close":
            raise UsageError(
                "a sliding window is emitted on close: there is one for each record",
                hint="add grace= to have it wait longer, or use sk.hopping(...)",
            )
        if isinstance(self.window, CountWindow) and isinstance(self.emit, Every):
            raise UsageError('windows of a number of records are emitted "on_close" or "on_update"')
        if isinstance(self.window, (Session, Sliding)) and not self.layout.mergeable:
            raise UsageError(
                "session and sliding windows make one accumulator of two",
                hint="give sk.Aggregate(...) a join= function",
            )

    def _check_kinds(self) -> None:
        if not isinstance(self.window, WindowKind):
            raise UsageError(
                f"{self.window!r} is no window",
                hint='window(sk.tumbling("1m")), or hopping, sliding, session, count_window',
            )
        for name, aggregation in self.aggregations:
            if not isinstance(aggregation, Aggregation):
                raise UsageError(
                    f"{name}={aggregation!r} is no aggregation",
                    hint=f'for example aggregate({name}=sk.Count()) or aggregate({name}=sk.Sum("amount"))',
                )
            if callable(aggregation.of):
                check_function(aggregation.of, f"aggregate({name}=)", *VALUE_AND_RECORD, optional=1)

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.aggregations)

    @property
    def paned(self) -> bool:
        """Is a record aggregated once for all of its windows?"""
        if isinstance(self.window, Sliding):
            return True
        mergeable = all(a.mergeable and not a.in_order for _, a in self.aggregations)
        return isinstance(self.window, Hopping) and self.emit == "on_close" and mergeable

    def make_state(self, store: Store) -> OperatorState:
        key, layout, window = self.key_serde, self.layout, self.window
        match window:
            case CountWindow(n=n):
                return CountState(n, layout, key, store)
            case Session():
                sessions = StoredSessions if store.spills else SessionState
                return sessions(window, self.emit, layout, key, store)
            case Sliding() if store.spills:
                return StoredSliding(window, layout, key, store)
            case Sliding():
                return PanedState(window, layout, key, store)
            case Hopping() if self.paned and store.spills:
                return StoredPanes(window, layout, key, store)
            case Hopping() if self.paned:
                return PanedState(window, layout, key, store)
            case _:
                return AlignedState(window, self.emit, layout, key, store)

    def make_index(self) -> Index | None:
        match self.window:
            case Session():
                return SessionIndex()
            case Sliding():
                return SlidingIndex()
            case _:
                return None

    @property
    def computes(self) -> bool:
        return self.emit != "on_update" and not isinstance(self.window, CountWindow)

    @property
    def value_serde(self) -> Serde[Any]:
        return JSON

    @property
    def delay_ms(self) -> int:
        return self.input_delay_ms + (self.window.grace_ms if self.computes else 0)

    @property
    def state_name(self) -> str:
        return f"{self._kept} {self.layout.fingerprint}"

    @property
    def former_state_name(self) -> str:
        return f"{self._kept} {self.layout.former_fingerprint}"

    @property
    def _kept(self) -> str:
        return f"{self.window.fingerprint}{' panes' if self.paned else ''}"

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return tuple(function for _, a in self.aggregations for function in a.functions)

    @property
    def detail(self) -> str:
        results = ", ".join(f"{name}={_described(a)}" for name, a in self.aggregations)
        return f"{self.window}, {self.emit}: {results}"

    # -- generated code -------------------------------------------------------------------------------

    def generate(self, code: Code, at: At) -> None:
        counts = code.bind(code.runtime.counts(self), "counts")
        at = code.time(code.key(at))
        with code.block(f"if {at.key} is None:"):
            code.line(f"{counts}.null_keys += 1")
        with code.block("else:"):
            match self.window:
                case Tumbling() as window:
                    self._tumbling(code, at, window)
                case Hopping() as window if not self.paned:
                    self._hopping(code, at, window)
                case Session():
                    self._session(code, at)
                case CountWindow():
                    self._count(code, at)
                case window:
                    self._paned(code, at, window)

    def generate_computed(self, code: Code, at: At) -> None:
        start, end, a = (code.variable(hint) for hint in ("start", "end", "a"))
        code.line(f"{start}, {end}, {a} = {at.value}")
        code.line(f"{at.value} = {self._result(code, at.key, start, end, a)}")
        code.follow(self, at)

    def _tumbling(self, code: Code, at: At, window: Tumbling) -> None:
        """The window is computed where it is another than the last record's."""
        start, end, closing = (code.variable(hint) for hint in ("start", "end", "closing"))
        code.once(f"{start} = {end} = 0")
        with code.block(f"if not {start} <= {at.time} < {end}:"):
            code.line(f"{start} = {at.time} - {at.time} % {window.size_ms}")
            code.line(f"{end}, {closing} = {start} + {window.size_ms}, {start} + {window.span_ms}")
        with code.block(f"if {closing} <= {self._reached(code, at)}:"):
            self._late(code, at)
        with code.block("else:"):
            self._update(code, at, start)

    def _hopping(self, code: Code, at: At, window: Hopping) -> None:
        """Every window of the record is updated."""
        every, start, reached = window.every_ms, code.variable("start"), code.variable("reached")
        code.line(f"{reached} = {self._reached(code, at)}")
        with code.block(f"if {at.time} // {every} * {every} + {window.span_ms} <= {reached}:"):
            self._late(code, at)
        with code.block("else:"):
            first = f"({at.time} - {window.size_ms}) // {every} * {every} + {every}"
            open_ = f"({reached} - {window.span_ms}) // {every} * {every} + {every}"
            code.forks += 1
            with code.block(f"for {start} in range(max({first}, {open_}), {at.time} + 1, {every}):"):
                self._update(code, at, start)

    def _paned(self, code: Code, at: At, window: Hopping | Sliding) -> None:
        """The record's pane is updated; its name says from which window on it counts (see `panes`)."""
        every, pane_ms = (window.every_ms, window.pane_ms) if isinstance(window, Hopping) else (1, 1)
        name, reached, pane = code.variable("pane"), code.variable("reached"), at.time
        code.line(f"{reached} = {self._reached(code, at)}")
        with code.block(f"if {at.time} // {every} * {every} + {window.span_ms} <= {reached}:"):
            self._late(code, at)
        with code.block("else:"):
            if pane_ms > 1:
                pane = f"{at.time} - {at.time} % {pane_ms}"
            first, open_ = code.variable("first"), code.variable("open")
            code.line(f"{first} = ({at.time} - {window.size_ms}) // {every} * {every} + {every}")
            code.line(f"{open_} = ({reached} - {window.span_ms}) // {every} * {every} + {every}")
            code.line(f"{name} = ({pane}, {first} if {first} >= {open_} else {open_})")
            if isinstance(code.runtime.state(self), StoredSliding):
                self._keep(code, at, name)
            else:
                self._update(code, at, name)

    def _keep(self, code: Code, at: At, name: str) -> None:
        """Bring the record into the accumulator of the pane, where that may be on disk."""
        state, a = code.runtime.state(self), code.variable("a")
        window = code.bind(state, "window")
        code.foresee(state, at)
        inputs = self._inputs(code, at)
        code.line(f"{a} = {window}.find({at.key}, {name})")
        with code.block(f"if {a} is None:"):
            code.line(f"{a} = {self._fresh(code)}")
        stores = self._combined(code, at, a, inputs)
        code.note(window, f"{window}.note({at.key}, {name}, {a})")
        code.line(f"{window}.keep({at.key}, {name}, {a})")
        self._store(code, stores)

    def _session(self, code: Code, at: At) -> None:
        sessions = code.runtime.state(self)
        if sessions.spills:
            code.foresee(sessions, at)
        state = code.bind(sessions, "window")
        plan, a, gone = code.variable("plan"), code.variable("a"), code.variable("gone")
        code.line(f"{plan} = {state}.find({at.key}, {at.time}, {self._reached(code, at)})")
        with code.block(f"if {plan} is None:"):
            self._late(code, at)
        with code.block("else:"):
            code.line(f"{a} = {plan}.accumulator")
            with code.block(f"if {a} is None:"):
                code.line(f"{a} = {self._fresh(code)}")
            stores = self._combined(code, at, a)
            code.note(state, f"{state}.note({at.key})")
            self._store(code, stores)
            code.line(f"{gone} = {state}.carry_out({at.key}, {plan}, {a})")
            if self.emit != "on_close":
                self._retract(code, at, gone)
            if self.emit == "on_update":
                self._emit(code, at, f"{plan}.first", f"{plan}.last", a)

    def _retract(self, code: Code, at: At, gone: str) -> None:
        """Tell sessions that were told, and are no more, once again; with the time that they had."""
        code.forks += 1
        code.harmless += not _may_fail(code, self)
        old, result, time = code.variable("old"), code.variable("v"), at.time
        assert isinstance(self.window, Session)
        if isinstance(self.emit, Every):
            time = code.variable("ts")
            gone = f"[one for one in {gone} if one.said]"
        with code.block(f"for {old} in {gone}:"):
            former = self._result(code, at.key, f"{old}.first", f"{old}.last", f"{old}.accumulator")
            code.line(f"{result} = {former}")
            code.line(f"{result}['retracted'] = True")
            if time != at.time:
                code.line(f"{time} = {old}.last + {self.window.gap_ms}")
            stream_time = at.stream_time or at.time
            after = msgspec.structs.replace(at, value=result, headers="None", time=time)
            code.follow(self, msgspec.structs.replace(after, stream_time=stream_time))

    def _count(self, code: Code, at: At) -> None:
        state = code.bind(code.runtime.state(self), "window")
        spills = code.runtime.state(self).spills
        if spills:
            code.foresee(code.runtime.state(self), at)
        entry, a, full = code.variable("entry"), code.variable("a"), code.variable("full")
        code.line(f"{entry} = {state}.{'find' if spills else 'open.get'}({at.key})")
        with code.block(f"if {entry} is None:"):
            code.line(f"{entry} = [0, {at.time}, {at.time}, {self._fresh(code)}]")
        code.line(f"{a} = {entry}[3]")
        stores = self._combined(code, at, a)
        code.note(state, f"{state}.note({at.key}, {entry})")
        self._store(code, stores)
        code.line(f"{full} = {state}.take({at.key}, {entry}, {at.time})")
        with code.block(f"if {full}:" if self.emit == "on_close" else "if True:"):
            self._emit(code, at, f"{entry}[1]", f"{entry}[2]", a)

    def _reached(self, code: Code, at: At) -> str:
        """The record's stream time, or the task's watermark where that is further."""
        window = code.bind(code.runtime.state(self), "window")
        watermark, stream_time = f"{window}_watermark", at.stream_time or at.time
        code.once(f"{watermark} = {window}.watermark_ms")
        return f"({stream_time} if {stream_time} > {watermark} else {watermark})"

    def _late(self, code: Code, at: At) -> None:
        code.line(f"{code.bind(code.runtime.counts(self), 'counts')}.late += 1")
        if code.runtime.children(self, "late"):
            code.follow(self, at, port="late")

    def _update(self, code: Code, at: At, start: str) -> None:
        """Bring the record into the accumulator of the window (or pane) named by `start`."""
        state = code.runtime.state(self)
        window = code.bind(state, "window")
        bucket, last, a = f"{window}_bucket", f"{window}_start", code.variable("a")
        code.once(f"{last} = None")
        inputs = self._inputs(code, at)
        with code.block(f"if {start} != {last}:"):
            code.line(f"{last} = {start}")
            code.line(f"{bucket} = {window}.bucket({start})")
        code.line(f"{a} = {bucket}.get({at.key})")
        if state.spills:
            code.foresee(state, at)
            with code.block(f"if {a} is None:"):
                code.line(f"{a} = {window}.stored({start}, {at.key})")
        lengths = [f"len({a}[{slot}])" for slot in self.layout.growing]
        note, noted = f"{window}_note", ", ".join([f"{a}[:]", *lengths])
        code.names[note] = state.before.append
        with code.block(f"if {a} is None:"):
            code.line(f"{a} = {self._fresh(code)}")
            code.note(window, f"{note}(({start}, {at.key}, {a}, None))")
        code.note(window, "else:", f"    {note}(({start}, {at.key}, {a}, [{noted}]))")
        stores = self._combined(code, at, a, inputs)
        with code.block(f"if not {a}[0]:"):
            code.line(f"{a}[0] = True")
            code.line(f"{bucket}[{at.key}] = {a}")
            code.line(f"{window}_dirty(({start}, {at.key}, {a}))")
        code.once(f"{window}_dirty = {window}.dirty.append")
        self._store(code, stores)
        if isinstance(self.emit, Every):
            code.line(f"{window}.changed[{start}, {at.key}] = {a}")
        elif self.emit == "on_update":
            assert isinstance(self.window, (Tumbling, Hopping))
            self._emit(code, at, start, f"{start} + {self.window.size_ms}", a)

    def _emit(self, code: Code, at: At, start: str, end: str, a: str) -> None:
        result = code.variable("v")
        code.forks += _may_fail(code, self)
        code.line(f"{result} = {self._result(code, at.key, start, end, a)}")
        code.follow(self, msgspec.structs.replace(at, value=result, headers="None"))

    def _fresh(self, code: Code) -> str:
        slots = [slot for _, aggregation in self.aggregations for slot in aggregation.initial(code)]
        return f"[False, {', '.join(slots)}]"

    def _combined(self, code: Code, at: At, a: str, inputs: list[Input] | None = None) -> list[str]:
        """Compute the slots' new contents; returns the statements that will store them, which cannot fail."""
        stores: list[str] = []
        if inputs is None:
            inputs = self._inputs(code, at)
        for (_, aggregation), slots, (x, counts) in zip(
            self.aggregations, self.layout.slots(a), inputs, strict=True
        ):
            combined = aggregation.combine(code, slots, x, at.time)
            for slot, expression in zip(slots, combined, strict=True):
                new, put = code.variable("n"), aggregation.put
                unless = f" if {counts} else {'None' if put else slot}" if counts else ""
                code.line(f"{new} = ({expression}){unless}")
                store = f"{slot}.{put}({new})" if put else f"{slot} = {new}"
                stores.append(f"if {counts}: {store}" if counts and put else store)
        return stores

    def _store(self, code: Code, stores: list[str]) -> None:
        for store in stores:
            code.line(store)

    def _inputs(self, code: Code, at: At) -> list[Input]:
        conditions: dict[Callable[[Any], Any], str] = {}  # each is asked once of a record
        return [self._input(code, at, aggregation, conditions) for _, aggregation in self.aggregations]

    def _input(
        self, code: Code, at: At, aggregation: Aggregation, conditions: dict[Callable[[Any], Any], str]
    ) -> Input:
        of, condition, counts = aggregation.of, aggregation.condition, ""
        if condition is not None and not (counts := conditions.get(condition, "")):
            counts = conditions[condition] = code.variable("counts")
            code.line(f"{counts} = {code.call(self, condition, at)[0]}")
        if of is None:
            return at.value, counts
        x = code.variable("x")
        if callable(of):
            taken, _ = code.call(self, of, at)
        elif of.isidentifier():
            taken = f"({at.value}[{of!r}] if {at.value}.__class__ is dict else {at.value}.{of})"
        else:
            taken = f"{at.value}[{of!r}]"
        code.line(f"{x} = {taken} if {counts} else None" if counts else f"{x} = {taken}")
        return x, counts

    def _result(self, code: Code, key: str, start: str, end: str, a: str) -> str:
        """A dict display of the result for accumulator `a`."""
        parts = [f"'key': {key}", f"'start_ms': {start}", f"'end_ms': {end}"]
        for (name, aggregation), slots in zip(self.aggregations, self.layout.slots(a), strict=True):
            parts.append(f"{name!r}: {aggregation.told(code, slots)}")
        return "{" + ", ".join(parts) + "}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Late(Node):
    """The records that came too late for their window, as they entered it."""

    kind: ClassVar[str] = "late"

    @property
    def value_serde(self) -> Serde[Any]:
        return self.parents[0].parents[0].value_serde


def _may_fail(code: Code, node: Node) -> bool:
    """Does user code run behind it?"""
    return any(child.functions or _may_fail(code, child) for child in code.runtime.children(node))


def _described(aggregation: Aggregation) -> str:
    of = aggregation.of
    inner = "" if of is None else of if isinstance(of, str) else function_name(of)
    where = "" if aggregation.condition is None else f" where {function_name(aggregation.condition)}"
    return f"{type(aggregation).__name__}({inner}){where}"
