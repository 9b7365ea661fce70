"""Whose code is running: every callback of the event loop belongs to an owner, and lives as long as that.

A node's incarnation is an owner. Whatever it starts (tasks, timers, callbacks of its sockets and files)
inherits its `contextvars` context, so the loop knows for each callback whether it may still run: a dead
owner's callbacks are dropped unseen, and a paused owner's are kept for later. A power cut therefore runs no
code at all, not even a `finally`.

The owner knows its machine's clocks too: their rate (how much faster than true time they run) and the
offset of the wall clock, which jumps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Life(Enum):
    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


class PoweredOffError(BaseException):
    """What a dead owner meets at its disk and its network; no `except Exception` takes it for an error."""


class MachineClock:
    """The clocks of one machine; they outlive the incarnations that read them."""

    def __init__(self, *, rate: float = 1.0, offset_ms: int = 0) -> None:
        self.rate = rate
        self.offset_ms = offset_ms


class Owner:
    def __init__(self, name: str, clock: MachineClock | None = None) -> None:
        self.name = name
        self.clock = clock or MachineClock()
        self.rate = self.clock.rate
        self.life = Life.RUNNING
        self.held: list[asyncio.Handle] = []
        """Callbacks that came due while the owner was paused."""
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """Those that have not ended, in the order of their start."""
        self.context: Context = copy_context()
        self.context.run(OWNER.set, self)

    def __repr__(self) -> str:
        return f"Owner({self.name}, {self.life.value})"

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it as this owner, whoever runs now."""
        return self.context.copy().run(call, *args, **kwargs)

    def check(self) -> None:
        if self.life is Life.DEAD:
            raise PoweredOffError(self.name)

    def die(self) -> None:
        """From here on nothing of this owner runs; its disk and its network refuse whatever is left."""
        self.life = Life.DEAD
        self.held.clear()

    def started(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def bury(self) -> None:
        """After the simulation: end what the owner left, whose `finally` blocks can reach nothing any
        more."""
        self.die()
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            coroutine = task.get_coro()
            if coroutine is not None:
                with suppress(BaseException):
                    self.run(coroutine.close)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)


OWNER: ContextVar[Owner] = ContextVar("OWNER")
