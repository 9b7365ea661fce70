"""Whether a command imports the module of an app just now: `app.run()` in it would start a worker then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamkit.errors import UsageError

_importing: list[str] = []


@contextmanager
def importing(place: str) -> Iterator[None]:
    """While a command imports `place` to find its app."""
    _importing.append(place)
    try:
        yield
    finally:
        _importing.pop()


def check_not_importing() -> None:
    if _importing:
        raise UsageError(
            f"app.run() runs when {_importing[-1]} is imported, before a command has found the app",
            hint='write: if __name__ == "__main__": app.run()',
        )
