"""Tasks that belong to somebody: whatever a node starts ends with that node, and no failure is lost."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol


class TaskHandle(Protocol):
    def cancel(self) -> bool: ...

    def done(self) -> bool: ...


class Spawn(Protocol):
    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> TaskHandle:
        """Run `work` in the background; an exception that leaves it goes to the owner's failure callback."""
        ...

    async def close(self) -> None:
        """Cancel everything that still runs and wait until it has ended."""
        ...
