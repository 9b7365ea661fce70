"""What a user's function computes, as a few words that survive reformatting and a new Python.

State that a function has shaped must not be read by another function. Bytecode changes with the interpreter
and source text with its layout, so neither is compared; names, constants, operators and captured plain values
are. Two functions that differ in nothing of this compute the same in all but contrived cases.
"""

from __future__ import annotations

import dis
import functools
import hashlib
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

OPERATORS = {"BINARY_OP", "COMPARE_OP", "CONTAINS_OP", "IS_OP", "UNARY_NEGATIVE", "UNARY_NOT", "UNARY_INVERT"}
PLAIN = (str, bytes, int, float, bool, type(None))


def function_fingerprint(function: Callable[..., Any]) -> str:
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
        elif isinstance(constant, PLAIN):
            yield repr(constant)
    for instruction in dis.get_instructions(code):
        if instruction.opname in OPERATORS:
            yield f"{instruction.opname} {instruction.argrepr}"


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - looking is the test
    except ValueError:
        return False
    return True
