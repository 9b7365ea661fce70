"""What a user's function computes, as eight hex digits: state that one function has shaped is no other's.

What counts is what may change a result: the names of what it calls and looks into, constants, operators,
defaults, captured plain values. What does not: layout, the names of parameters and variables, and how an
interpreter spells all that. Bytecode is another in each Python (comprehensions become part of their function,
constants are folded, instructions fused); so only words are taken that all have, and as a set. Two functions
that differ in none of them compute the same in all but contrived cases (`a - b` and `b - a`). To refuse a
worker after an upgrade of Python, where there is no declaration to take back, would be worse.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import operator
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

CONSTANTS = {"LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST"}
OPERATORS = {"BINARY_OP", "COMPARE_OP"}
SUBSCRIPTS = {"BINARY_SUBSCR", "BINARY_SLICE"}  # operators since 3.14
TESTS = {"CONTAINS_OP", "IS_OP"}
SIGNS = {"UNARY_NEGATIVE", "UNARY_INVERT", "UNARY_NOT"}
PLAIN = (str, bytes, int, float, complex)
GETTERS = (operator.attrgetter, operator.itemgetter, operator.methodcaller)


def function_fingerprint(function: Callable[..., Any]) -> str:
    """A class or builtin is known by its name."""
    return hashlib.sha256("\n".join(sorted({*_words(function)})).encode()).hexdigest()[:8]


def _words(function: Any) -> Iterator[str]:
    if isinstance(function, functools.partial):
        yield from _words(function.func)
        yield from _values([*function.args, *function.keywords.items()])
    elif isinstance(function, GETTERS):
        yield from _values([type(function).__qualname__, *function.__reduce__()[1]])
    elif isinstance(function, MethodType):
        yield from _words(function.__func__)
    elif isinstance(function, FunctionType):
        yield from _code_words(function.__code__)
        captured = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        yield from _values([*captured, *defaults])
    else:
        yield getattr(function, "__qualname__", type(function).__qualname__)


def _code_words(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_words(constant)
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in CONSTANTS:
            yield from _values(instruction.argval)
        elif name == "KW_NAMES":  # a constant since 3.13
            yield from _values(code.co_consts[instruction.arg or 0])
        else:
            yield from _operator(instruction)


def _operator(instruction: dis.Instruction) -> Iterator[str]:
    name = instruction.opname
    if name in OPERATORS:
        spelled = instruction.argrepr.removeprefix("bool(").removesuffix(")")
        yield spelled.removesuffix("=") if name == "BINARY_OP" else spelled
    elif name in SUBSCRIPTS:
        yield "[]"
    elif name in TESTS:
        yield f"{name} {instruction.arg}"
    elif name in SIGNS:
        yield name


def _values(value: Any) -> Iterator[str]:
    """Plain values, and those in what Python makes one constant of."""
    if isinstance(value, PLAIN):
        yield repr(value)
    elif isinstance(value, slice):
        yield from _values((value.start, value.stop, value.step))
    elif isinstance(value, (tuple, list, frozenset)):
        for one in value:
            yield from _values(one)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - looking is the test
    except ValueError:
        return False
    return True
