"""Which tables a user function uses, found by reading what it refers to.

Tables are module globals or closure variables in all but contrived programs, so the names in a function's
code, followed through the functions of the same package that it calls, say which they are. That is how an
app knows, before the first record, which task owns a table and whether its stream is partitioned. Where it
does not show (a table inside a container), `@app.agent(..., tables=[…])` names it; a use that nobody
declared is refused when it happens, so nothing is lost silently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from streamkit.processing.table import Table

DEPTH = 8


def tables_used(function: Callable[..., Any]) -> dict[str, Table[Any, Any]]:
    """Tables that the function refers to, by name."""
    found: dict[str, Table[Any, Any]] = {}
    _visit(function, found, set(), DEPTH)
    return found


def _visit(thing: Any, found: dict[str, Table[Any, Any]], seen: set[int], depth: int) -> None:
    if isinstance(thing, Table):
        found[thing.name] = thing
        return
    if depth == 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            _visit(part, found, seen, depth - 1)
    elif isinstance(thing, MethodType):
        for part in (thing.__func__, *getattr(thing.__self__, "__dict__", {}).values()):
            _visit(part, found, seen, depth - 1)
    elif isinstance(thing, FunctionType):
        for part in _references(thing):
            if not isinstance(part, FunctionType) or _neighbours(thing, part):
                _visit(part, found, seen, depth - 1)


def _references(function: FunctionType) -> Iterator[Any]:
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    values = [function.__globals__[name] for name in sorted(names) if name in function.__globals__]
    for value in values:
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[name] for name in sorted(names) if name in vars(value))
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _neighbours(a: FunctionType, b: FunctionType) -> bool:
    return a.__module__.partition(".")[0] == b.__module__.partition(".")[0]
