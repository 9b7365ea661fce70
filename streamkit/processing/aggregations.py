"""Aggregations: what a window keeps of its records, and how two keepings become one.

An aggregation owns a few *slots* of an accumulator. It is given as Python expressions over them, because they
are compiled into the loop that reads records: several aggregations are one pass. Three of them matter:

    combine    the slots after one more value          every record
    merge      the slots of two accumulators as one    sessions that meet, panes of a hopping window
    result     what the user sees                      at emission

Slots are stored as JSON. A slot that is not plain (a set, a sketch) says how it is frozen and thawed.

With `where` an aggregation passes over values, so that it may have seen none: what is `empty` is left out of
merges, and its result is None. One that has an answer for no values at all (0, an empty list) is never empty.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, Self

import msgspec

from streamkit.abstract_struct import AbstractStructMeta
from streamkit.errors import UsageError
from streamkit.processing.former_fingerprint import former_function_fingerprint
from streamkit.processing.function_fingerprint import function_fingerprint
from streamkit.processing.sketches import HyperLogLog, QuantileSketch, hashed

Of = str | Callable[[Any], Any] | None
Slots = tuple[str, ...]
_encode = msgspec.json.Encoder().encode


class Use(Protocol):
    """Where an expression will stand."""

    def bind(self, thing: Any, hint: str) -> str:
        """The name under which the expression sees `thing`."""
        ...


class Conditional(msgspec.Struct, frozen=True, kw_only=True, metaclass=AbstractStructMeta):
    """What looks at values, or at those for which a condition holds."""

    condition: Callable[[Any], Any] | None = None

    def where(self, condition: Callable[[Any], Any]) -> Self:
        """The same over the values for which `condition` holds, as SQL's FILTER (WHERE ...)."""
        if self.condition is not None:
            raise UsageError("an aggregation has one condition", hint="join the two with `and`")
        return msgspec.structs.replace(self, condition=condition)


class Aggregation(Conditional, frozen=True):
    """What is kept for one named result, as expressions over its slots.

    `of`: the field of the value, or a function of it, that is aggregated.
    """

    of: Of = None
    put: ClassVar[str] = ""  # method of the slot that takes what `combine` gives; "": it is assigned
    in_order: ClassVar[bool] = False  # depends on the order of arrival, which panes do not keep

    @abstractmethod
    def initial(self, use: Use) -> Slots:
        """The slots' first contents."""

    @abstractmethod
    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        """The slots' contents after one more `x` with event time `ts`. Nothing is stored until all of these
        succeeded.
        """

    @abstractmethod
    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        """The contents for the records of both; neither is changed."""

    def result(self, use: Use, slots: Slots) -> str:
        return slots[0]

    def empty(self, slots: Slots) -> str:
        """Whether no value has come yet, where that makes a difference."""
        return ""

    def merged(self, use: Use, a: Slots, b: Slots) -> Slots:
        """`merge`, of which either may be empty."""
        both = self.merge(use, a, b)
        if self.condition is None or not self.empty(a):
            return both
        no_a, no_b = self.empty(a), self.empty(b)
        return tuple(f"{b[i]} if {no_a} else {a[i]} if {no_b} else {both[i]}" for i in range(len(both)))

    def told(self, use: Use, slots: Slots) -> str:
        """`result`, or None when it is empty."""
        result, empty = self.result(use, slots), self.empty(slots)
        return result if self.condition is None or not empty else f"(None if {empty} else {result})"

    def freeze(self, slots: list[Any]) -> list[Any]:
        """The contents as plain JSON values."""
        return slots

    def thaw(self, slots: list[Any]) -> list[Any]:
        return slots

    @property
    def plain(self) -> bool:
        """Are the slots JSON as they are?"""
        return type(self).freeze is Aggregation.freeze

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The user's functions that run here."""
        return tuple(function for function in (self.of, self.condition) if callable(function))

    @property
    def shaping(self) -> tuple[Callable[..., Any], ...]:
        """Those of them that shape what is stored."""
        return self.functions

    @property
    def fingerprint(self) -> str:
        """What the slots mean."""
        return self._known_by(map(function_fingerprint, self.shaping))

    @property
    def former_fingerprint(self) -> str:
        return self._known_by(map(former_function_fingerprint, self.functions))

    def _known_by(self, functions: Iterable[str]) -> str:
        field = self.of if isinstance(self.of, str) else ""
        where = "" if self.condition is None else " where"
        return f"{type(self).__name__}({field}{','.join(functions)}{self._parameters}){where}"

    @property
    def _parameters(self) -> str:
        return ""


class Count(Aggregation, frozen=True):
    """How many records."""

    def __post_init__(self) -> None:
        if self.of is not None:
            raise UsageError("Count() counts records", hint="Count().where(...) counts some of them")

    def initial(self, use: Use) -> Slots:
        return ("0",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{slots[0]} + 1",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} + {b[0]}",)


class Sum(Aggregation, frozen=True):
    """The sum of a field, or of a function of the value."""

    def initial(self, use: Use) -> Slots:
        return ("0",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{slots[0]} + {x}",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} + {b[0]}",)


class Min(Aggregation, frozen=True):
    """The least."""

    def initial(self, use: Use) -> Slots:
        return ("None",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{x} if {slots[0]} is None or {x} < {slots[0]} else {slots[0]}",)

    def empty(self, slots: Slots) -> str:
        return f"{slots[0]} is None"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} if {a[0]} <= {b[0]} else {b[0]}",)


class Max(Aggregation, frozen=True):
    """The greatest."""

    def initial(self, use: Use) -> Slots:
        return ("None",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{x} if {slots[0]} is None or {x} > {slots[0]} else {slots[0]}",)

    def empty(self, slots: Slots) -> str:
        return f"{slots[0]} is None"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} if {a[0]} >= {b[0]} else {b[0]}",)


class Mean(Aggregation, frozen=True):
    """The arithmetic mean."""

    def initial(self, use: Use) -> Slots:
        return ("0", "0")

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{slots[0]} + {x}", f"{slots[1]} + 1")

    def empty(self, slots: Slots) -> str:
        return f"not {slots[1]}"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} + {b[0]}", f"{a[1]} + {b[1]}")

    def result(self, use: Use, slots: Slots) -> str:
        return f"{slots[0]} / {slots[1]}"


class Var(Aggregation, frozen=True):
    """The variance of a sample (n − 1 below the line), without cancellation; None for a single value.

    Slots: count, mean, sum of squared distances from the mean (Welford; merged as Chan et al. do).
    """

    def initial(self, use: Use) -> Slots:
        return ("0", "0.0", "0.0")

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        n, mean, m2 = slots
        new_mean = f"{mean} + ({x} - {mean}) / ({n} + 1)"
        return (f"{n} + 1", new_mean, f"{m2} + ({x} - {mean}) * ({x} - ({new_mean}))")

    def empty(self, slots: Slots) -> str:
        return f"not {slots[0]}"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        n = f"({a[0]} + {b[0]})"
        apart = f"({b[1]} - {a[1]})"
        return (
            f"{a[0]} + {b[0]}",
            f"{a[1]} + {apart} * {b[0]} / {n}",
            f"{a[2]} + {b[2]} + {apart} * {apart} * {a[0]} * {b[0]} / {n}",
        )

    def result(self, use: Use, slots: Slots) -> str:
        return f"({slots[2]} / ({slots[0]} - 1) if {slots[0]} > 1 else None)"


class Std(Var, frozen=True):
    """The standard deviation of a sample: the root of `Var`."""

    def result(self, use: Use, slots: Slots) -> str:
        n, _, m2 = slots
        return f"({use.bind(math.sqrt, 'sqrt')}({m2} / ({n} - 1)) if {n} > 1 else None)"


class First(Aggregation, frozen=True):
    """The value with the least event time; of several, the one that came first."""

    def initial(self, use: Use) -> Slots:
        return ("None", "None")

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        value, time = slots
        earlier = f"{time} is None or {ts} < {time}"
        return (
            f"{use.bind(plain, 'plain')}({x}) if {earlier} else {value}",
            f"{ts} if {earlier} else {time}",
        )

    def empty(self, slots: Slots) -> str:
        return f"{slots[1]} is None"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} if {a[1]} <= {b[1]} else {b[0]}", f"{a[1]} if {a[1]} <= {b[1]} else {b[1]}")


class Last(Aggregation, frozen=True):
    """The value with the greatest event time; of several, the one that came last."""

    def initial(self, use: Use) -> Slots:
        return ("None", "None")

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        value, time = slots
        later, taken = f"{time} is None or {ts} >= {time}", f"{use.bind(plain, 'plain')}({x})"
        return (f"{taken} if {later} else {value}", f"{ts} if {later} else {time}")

    def empty(self, slots: Slots) -> str:
        return f"{slots[1]} is None"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{b[0]} if {b[1]} >= {a[1]} else {a[0]}", f"{b[1]} if {b[1]} >= {a[1]} else {a[1]}")


class Collect(Aggregation, frozen=True):
    """Every value (or field of it) in the order of arrival, as plain JSON values. Sessions that meet are put
    one after the other.
    """

    put: ClassVar[str] = "append"
    in_order: ClassVar[bool] = True

    def initial(self, use: Use) -> Slots:
        return ("[]",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{use.bind(plain, 'plain')}({x})",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"[*{a[0]}, *{b[0]}]",)

    def result(self, use: Use, slots: Slots) -> str:
        return f"[*{slots[0]}]"


class TopN(Aggregation, frozen=True):
    """The `n` greatest, greatest first: of the values, or of a field or function of them."""

    n: int = 10

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"TopN keeps at least one value, got n={self.n}")

    def initial(self, use: Use) -> Slots:
        return ("[]",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        top = slots[0]
        stays = f"len({top}) >= {self.n} and {x} <= {top}[-1]"
        grown = f"sorted([*{top}, {use.bind(plain, 'plain')}({x})], reverse=True)[:{self.n}]"
        return (f"{top} if {stays} else {grown}",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"sorted([*{a[0]}, *{b[0]}], reverse=True)[:{self.n}]",)

    def result(self, use: Use, slots: Slots) -> str:
        return f"[*{slots[0]}]"

    @property
    def _parameters(self) -> str:
        return f" {self.n}"


class CountDistinct(Aggregation, frozen=True):
    """How many different values, exactly. It keeps each of them; see `ApproxCountDistinct` for many."""

    put: ClassVar[str] = "add"

    def initial(self, use: Use) -> Slots:
        return ("set()",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        as_text = f"{use.bind(_json, 'json')}({x})"
        return (f"str({x}) if {x}.__class__ is int else {as_text}",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]} | {b[0]}",)

    def result(self, use: Use, slots: Slots) -> str:
        return f"len({slots[0]})"

    def freeze(self, slots: list[Any]) -> list[Any]:
        return [sorted(slots[0])]

    def thaw(self, slots: list[Any]) -> list[Any]:
        return [set(slots[0])]


class ApproxCountDistinct(Aggregation, frozen=True):
    """How many different values, within about 1.6 % (one standard deviation), in 4 KiB (HyperLogLog)."""

    put: ClassVar[str] = "add"

    def initial(self, use: Use) -> Slots:
        return (f"{use.bind(HyperLogLog, 'HyperLogLog')}()",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{use.bind(hashed, 'hashed')}({use.bind(_json, 'json')}({x}))",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]}.merged({b[0]})",)

    def result(self, use: Use, slots: Slots) -> str:
        return f"{slots[0]}.estimate()"

    def freeze(self, slots: list[Any]) -> list[Any]:
        return [slots[0].freeze()]

    def thaw(self, slots: list[Any]) -> list[Any]:
        return [HyperLogLog.thaw(slots[0])]


class Quantile(Aggregation, frozen=True):
    """The value below which the share `q` of the numbers lies, within 1 % of that value (DDSketch)."""

    q: float = 0.5
    put: ClassVar[str] = "add"

    def __post_init__(self) -> None:
        if not 0 <= self.q <= 1:
            raise UsageError(f"a quantile lies between 0 and 1, got q={self.q}")

    def initial(self, use: Use) -> Slots:
        return (f"{use.bind(QuantileSketch, 'QuantileSketch')}()",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{use.bind(QuantileSketch.bucket_of, 'bucket_of')}({x})",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{a[0]}.merged({b[0]})",)

    def result(self, use: Use, slots: Slots) -> str:
        return f"{slots[0]}.quantile({self.q!r})"

    def freeze(self, slots: list[Any]) -> list[Any]:
        return [slots[0].freeze()]

    def thaw(self, slots: list[Any]) -> list[Any]:
        return [QuantileSketch.thaw(slots[0])]


class Reduce(Aggregation, frozen=True):
    """`function(a, b)` over the values (or a field of them) as plain JSON, pair by pair.

    It also joins what two sessions or panes have reduced, so it must not matter how values are grouped.
    """

    function: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.function is None:
            raise UsageError("Reduce needs a function of two values", hint="sk.Reduce(function=max)")

    def initial(self, use: Use) -> Slots:
        return ("None", "0")

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        one = f"{use.bind(plain, 'plain')}({x})"
        both = f"{use.bind(self.function, 'reduce')}({slots[0]}, {one})"
        return (f"{both} if {slots[1]} else {one}", f"{slots[1]} + 1")

    def empty(self, slots: Slots) -> str:
        return f"not {slots[1]}"

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{use.bind(self.function, 'reduce')}({a[0]}, {b[0]})", f"{a[1]} + {b[1]}")

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        assert self.function is not None
        return (*super().functions, self.function)


class Aggregate(Aggregation, frozen=True):
    """An aggregation of one's own over a plain JSON value.

    `start()` makes the first state, `add(state, value)` gives the next (it may not change the state that it
    was given), `join(a, b)` makes one of two (session windows need it), `finish(state)` is what is emitted.
    """

    start: Callable[[], Any] | None = None
    add: Callable[[Any, Any], Any] | None = None
    join: Callable[[Any, Any], Any] | None = None
    finish: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.start is None or self.add is None:
            raise UsageError(
                "Aggregate needs start= and add=",
                hint="sk.Aggregate(start=int, add=lambda state, value: ...)",
            )

    def initial(self, use: Use) -> Slots:
        return (f"{use.bind(self.start, 'start')}()",)

    def combine(self, use: Use, slots: Slots, x: str, ts: str) -> Slots:
        return (f"{use.bind(self.add, 'add')}({slots[0]}, {x})",)

    def merge(self, use: Use, a: Slots, b: Slots) -> Slots:
        return (f"{use.bind(self.join, 'join')}({a[0]}, {b[0]})",)

    def result(self, use: Use, slots: Slots) -> str:
        return slots[0] if self.finish is None else f"{use.bind(self.finish, 'finish')}({slots[0]})"

    @property
    def mergeable(self) -> bool:
        return self.join is not None

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        return self.shaping if self.finish is None else (*self.shaping, self.finish)

    @property
    def shaping(self) -> tuple[Callable[..., Any], ...]:
        own = (self.start, self.add, self.join)
        return (*super().functions, *(function for function in own if function is not None))


def plain(value: Any) -> Any:
    """The value as JSON will give it back, so that a restored window equals one that was never stored."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return msgspec.to_builtins(value)


def _json(value: Any) -> str:
    """A value as text that is equal for equal values."""
    return _encode(plain(value)).decode()
