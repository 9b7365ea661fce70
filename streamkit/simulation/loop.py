"""Virtual time: an event loop that never waits.

When nothing is ready the loop jumps to the next timer. Nothing outside can wake it, so nothing ready and no
timer is a deadlock, and that is a failure. The order of callbacks depends on nothing but what was
scheduled:

* tasks and futures hash by the order of their creation, for asyncio keeps some in sets;
* there are no threads: `run_in_executor` raises;
* the garbage collector is off, and runs at fixed virtual times.

Callbacks belong to owners (`simulation.owner`): `loop.time()` and timers run at the rate of the owner's
machine.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, NoReturn, TypeVarTuple, Unpack

from streamkit.simulation.owner import OWNER, Life, Owner, PoweredOffError

Ts = TypeVarTuple("Ts")

COLLECT_EVERY_S = 20.0
MOST_CALLBACKS_AT_ONCE = 1_000_000
"""At one instant of virtual time; more is a loop that spins."""


class DeadlockError(Exception):
    """Everybody waits for somebody."""


class SpinningError(Exception):
    """Virtual time stands still while callbacks go on."""


class OrderedFuture(asyncio.Future[Any]):
    """A future that hashes by its number."""

    __slots__ = ("_number",)

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class OrderedTask(asyncio.Task[Any]):
    """A task that hashes by its number; nobody complains when the dead leave one behind."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Made by `virtual_loop`, which also sees to the garbage collector."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        """True virtual time."""
        self.callbacks = 0
        """How many have run."""
        self.on_stray_failure: Callable[[str], None] = lambda description: None
        """Hears of failures that nobody looked at; they are no failure of the simulation."""
        self.world = Owner("world")
        """Who everything belongs to that is of no node."""
        self._numbers = 0
        self._at_this_instant = 0
        self._next_collection_s = COLLECT_EVERY_S
        self._errors: list[BaseException] = []
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]  # it says a Protocol with defaults
        self.set_exception_handler(self._failed)

    # -- time

    def time(self) -> float:
        return self.now_s * OWNER.get(self.world).rate

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        rate = self._owner(context).rate
        return self._at(reached_s(self.now_s * rate + delay, rate), callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._at(reached_s(when, self._owner(context).rate), callback, args, context)

    def _owner(self, context: Context | None) -> Owner:
        return OWNER.get(self.world) if context is None else context.get(OWNER, self.world)

    def _at(
        self, when_s: float, callback: Callable[..., object], args: Any, context: Context | None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(max(when_s, self.now_s), callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _run_once(self) -> None:
        """Jump to the next timer if nothing is ready; then run what is ready now."""
        ready, scheduled, world = self._ready, self._scheduled, self.world
        if not ready and not self._stopping:
            self._jump()
        while scheduled and scheduled[0]._when <= self.now_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        count = len(ready)
        self.callbacks += count
        self._at_this_instant += count
        if self._at_this_instant > MOST_CALLBACKS_AT_ONCE:
            raise SpinningError(f"{self._at_this_instant} callbacks at {self.now_s:.6f} s")
        for _ in range(count):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER, world)
            if owner.life is Life.RUNNING:
                handle._run()
            elif owner.life is Life.PAUSED:
                owner.held.append(handle)
        if self._errors:
            raise self._errors.pop(0)

    def _jump(self) -> None:
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            raise DeadlockError(f"nothing is left to happen at {self.now_s:.6f} s")
        if scheduled[0]._when > self.now_s:
            self.now_s = scheduled[0]._when
            self._at_this_instant = 0
            if self.now_s >= self._next_collection_s:
                self._next_collection_s = self.now_s + COLLECT_EVERY_S
                gc.collect()

    def resume(self, owner: Owner) -> None:
        """A paused owner goes on with everything that came due meanwhile."""
        owner.life = Life.RUNNING
        held, owner.held = owner.held, []
        self._ready.extend(held)

    # -- what asyncio asks of a loop

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return OrderedFuture(self._numbers, self)

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> OrderedTask:
        self._numbers += 1
        task = OrderedTask(self._numbers, coro, loop=loop, **options)
        self._owner(options.get("context")).started(task)
        return task

    def run_in_executor(self, executor: object, func: object, *args: object) -> NoReturn:
        raise RuntimeError("there are no threads in a simulation")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap until its turn."""

    def _write_to_self(self) -> None:
        """Other threads would wake the loop so; here it is the end of an abandoned async generator."""

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, PoweredOffError):
            return
        if "handle" in context or "transport" in context:
            self._errors.append(error or RuntimeError(context["message"]))
        else:
            self.on_stray_failure(f"{context['message']}: {error!r}")

    # asyncio's own, which it does not declare
    _ready: deque[Any]
    _scheduled: list[Any]
    _stopping: bool


def reached_s(when: float, rate: float) -> float:
    """When a clock of this rate shows `when`, and no rounding error earlier.

    Whoever is woken too early waits once more, for less than time can advance by, and would so for ever.
    """
    now_s = when / rate
    while now_s * rate < when:
        now_s = math.nextafter(now_s, math.inf)
    return now_s


@contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    """A loop to run one simulation on."""
    loop = VirtualLoop()
    was_enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield loop
    finally:
        loop.close()
        gc.unfreeze()
        if was_enabled:
            gc.enable()
