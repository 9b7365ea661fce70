"""Does a function only look at what it is given, so that a value which it was shown is still as it was read?

Then the value need not be written anew when it leaves: the record's own bytes say the same. The answer is a
proof from the bytecode or a no. Proven is what reads its arguments, constants and plain values from outside,
subscripts, compares, calculates, and calls nothing but methods and builtins that change nothing. All that has
a say are then values of Python's own types, whose operators have no effects. What is outside is judged as it
is now, so a None or an empty container, which may wait for something to take its place, proves nothing, and
what is called by name is a builtin already. An instruction that is not known here, one of a later Python,
say, proves nothing: that costs time and is otherwise harmless.
"""

from __future__ import annotations

import builtins
import dis
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

LOADS = ("LOAD_FAST", "LOAD_CONST", "LOAD_SMALL_INT", "STORE_FAST", "RETURN_CONST")
STEPS = ("POP_JUMP_", "JUMP_FORWARD", "JUMP_IF_")
# PUSH_NULL is not here: so begins a call of what is neither a global nor a method.
HARMLESS = frozenset(
    (
        "BINARY_SLICE", "BINARY_SUBSCR", "BUILD_SLICE", "CALL", "COMPARE_OP", "CONTAINS_OP", "COPY",
        "COPY_FREE_VARS", "IS_OP", "NOP", "NOT_TAKEN", "POP_TOP", "PRECALL", "RESUME", "RETURN_VALUE", "SWAP",
        "TO_BOOL", "UNARY_INVERT", "UNARY_NEGATIVE", "UNARY_NOT", "UNARY_POSITIVE",
    )
)  # fmt: skip
FROM_OUTSIDE = ("LOAD_GLOBAL", "LOAD_DEREF")
METHODS = frozenset(
    (
        "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdecimal", "isdigit",
        "isnumeric", "isspace", "items", "keys", "lower", "lstrip", "removeprefix", "removesuffix",
        "replace", "rstrip", "split", "startswith", "strip", "upper", "values",
    )
)  # fmt: skip
BUILTINS = (abs, all, any, bool, float, int, len, max, min, round, str, sum)
PLAIN = (str, bytes, int, float, bool)
PLAIN_CONTAINERS = (tuple, frozenset, set, list, dict)
MOST_ITEMS = 10_000  # that are looked at, each time that a task begins


def only_looks(function: Callable[..., Any]) -> bool:
    """`function` will be called with plain values: those that JSON is read into."""
    if type(function) is not FunctionType or function.__defaults__ or function.__kwdefaults__:
        return False
    return all(_is_harmless(instruction, function) for instruction in dis.get_instructions(function))


def _is_harmless(instruction: dis.Instruction, function: FunctionType) -> bool:
    name = instruction.opname
    if name == "BINARY_OP":
        return not instruction.argrepr.endswith("=")  # += may change a list
    if name in ("LOAD_METHOD", "LOAD_ATTR"):
        return instruction.argval in METHODS
    if name in FROM_OUTSIDE:
        is_called = "NULL" in instruction.argrepr
        return all(map(_is_known if is_called else _is_plain, _outside(function, instruction.argval)))
    if name == "LOAD_CONST":
        return not isinstance(instruction.argval, CodeType)
    return name in HARMLESS or name.startswith(LOADS) or name.startswith(STEPS)


def _outside(function: FunctionType, name: str) -> Iterator[Any]:
    """What the name stands for at present."""
    captured = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if name in captured:
        try:
            yield captured[name].cell_contents
        except ValueError:  # not yet assigned
            yield NotImplemented
    else:
        yield function.__globals__.get(name, getattr(builtins, name, NotImplemented))


def _is_known(value: Any) -> bool:
    return any(value is known for known in BUILTINS)


def _is_plain(value: Any) -> bool:
    if type(value) in PLAIN_CONTAINERS:
        if not 0 < len(value) <= MOST_ITEMS:
            return False
        items = [*value, *value.values()] if isinstance(value, dict) else [*value]
        return all(item is None or type(item) in PLAIN for item in items)
    return type(value) in PLAIN
