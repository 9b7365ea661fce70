"""How functions were known before names of parameters ceased to count: commits of then are still accepted.

Only read. A commit under such a fingerprint is followed by one under the present kind.
"""

from __future__ import annotations

import dis
import functools
import hashlib
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

CONSTANTS = {"LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST"}
OPERATORS = {"BINARY_OP", "COMPARE_OP"}
TESTS = {"CONTAINS_OP", "IS_OP"}
PLAIN = (str, bytes, int, float, bool, type(None))


def former_function_fingerprint(function: Callable[..., Any]) -> str:
    """Eight hex digits; a class or builtin is known by its name."""
    return hashlib.sha256("\n".join(_words(function)).encode()).hexdigest()[:8]


def _words(function: Any) -> Iterator[str]:
    if isinstance(function, functools.partial):
        yield from _words(function.func)
        yield from (repr(part) for part in (*function.args, *sorted(function.keywords.items())))
    elif isinstance(function, MethodType):
        yield from _words(function.__func__)
    elif isinstance(function, FunctionType):
        yield from _code_words(function.__code__)
        cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        yield from (repr(value) for value in cells if isinstance(value, PLAIN))
    else:
        yield getattr(function, "__qualname__", type(function).__qualname__)


def _code_words(code: CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_varnames[: code.co_argcount])
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_words(constant)
    yield from filter(None, map(_word, dis.get_instructions(code)))


def _word(instruction: dis.Instruction) -> str:
    """The part of an instruction that is the same in every Python; nothing of most."""
    name, value = instruction.opname, instruction.argval
    if name in CONSTANTS and isinstance(value, PLAIN) and value is not None:
        return repr(value)
    if name in OPERATORS:
        return instruction.argrepr.removeprefix("bool(").removesuffix(")")
    if name == "BINARY_SUBSCR":  # an operator since 3.14
        return "[]"
    if name in TESTS:
        return f"{name} {instruction.arg}"
    return name if name.startswith("UNARY_") else ""


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - looking is the test
    except ValueError:
        return False
    return True
