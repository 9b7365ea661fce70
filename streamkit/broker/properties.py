"""The syntax of Kafka's `server.properties`, which is that of `java.util.Properties`.

A line is `key=value`, `key: value` or `key value`; `#` and `!` open a comment; a backslash at the end of a
line continues it, elsewhere it escapes (`\\t`, `\\n`, `\\r`, `\\f`, `\\uXXXX`, or the character itself).
A key given twice keeps its last value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ENTRY = re.compile(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NAMED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str) -> dict[str, str]:
    """The entries of a properties file, in the order of their first appearance."""
    entries: dict[str, str] = {}
    for line in _logical_lines(text):
        match = _ENTRY.match(line)
        if match is not None and match[1]:
            entries[_unescape(match[1])] = _unescape(match[2]).strip()
    return entries


def _logical_lines(text: str) -> Iterator[str]:
    pending = ""
    for line in text.splitlines():
        stripped = line.lstrip()
        if not pending and (not stripped or stripped[0] in "#!"):
            continue
        pending += stripped
        if _is_continued(pending):
            pending = pending[:-1]
            continue
        yield pending
        pending = ""
    if pending:
        yield pending


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _unescape(text: str) -> str:
    def replacement(match: re.Match[str]) -> str:
        escaped = match[1]
        if escaped[0] == "u" and len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        return _NAMED.get(escaped, escaped)

    return _ESCAPE.sub(replacement, text)
