"""Which line of a traceback belongs to the user: not to this package, to Python or to another package."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

NOT_THEIRS = (
    str(Path(__file__).parent),
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    "<",  # generated code, and what Python has frozen
)


def users_line(error: BaseException) -> str:
    """`shop.py, line 12`: the innermost such line; "" where there is none."""
    if isinstance(error, SyntaxError):
        return f"{_shown(error.filename)}, line {error.lineno}" if error.filename else ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(NOT_THEIRS):
            return f"{_shown(frame.filename)}, line {frame.lineno}"
    return ""


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
