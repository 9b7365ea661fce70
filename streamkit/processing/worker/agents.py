"""Runs the asynchronous agents of one task: a few long-lived coroutines, never a Task for each record.

    runner = AgentRunner(task, on_output)     # on_output() is called when results wait for `task.drain()`
    runner.start(); ...; runner.wake()        # after each slice: new records may wait
    await runner.stop()                       # cancels; unfinished records stay uncommitted

Every resumption of user code goes through `Stepped`, which lends it the task's tables for exactly that
long: no context variable, and a coroutine that survives its task finds its scope closed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, nullcontext
from copy import copy
from typing import Any, Final

from streamkit.errors import StreamkitError
from streamkit.processing.connectors.sinks import Sink
from streamkit.processing.operators.outflow import Outflow
from streamkit.processing.record import Record, wants_record
from streamkit.processing.table import Lease, Scope
from streamkit.processing.tasks.assembly import AgentPort
from streamkit.processing.tasks.inflight import KEY, STREAM_TIME, VALUE, Item, Lane, record_of
from streamkit.processing.tasks.task import Task
from streamkit.processing.worker.batches import BatchLoop
from streamkit.processing.worker.in_time import in_time
from streamkit.processing.worker.outflows import OutflowLoop

SLICE_S = 0.001  # user code that never waits gives the loop back this often
LOOK_EVERY = 64  # records between two looks at the clock
UNWILLING_S = 1.0  # how long a cancelled agent may take to end
NO_TURN = nullcontext()
SETTLED: Final = object()  # in place of a result: the error policy had the last word, and told who asked


class Stepped:
    """Awaits a coroutine, with `scope` lent to the app's tables during each of its steps."""

    __slots__ = ("_coroutine", "_lease", "_scope")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], lease: Lease, scope: Scope) -> None:
        self._coroutine = coroutine
        self._lease = lease
        self._scope = scope

    def __await__(self) -> Generator[Any, Any, Any]:
        lease, coroutine, error = self._lease, self._coroutine, None
        while True:
            before, lease.scope = lease.scope, self._scope
            try:
                waiting_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as finished:
                return finished.value
            finally:
                lease.scope = before
            error = None
            try:
                yield waiting_for
            except BaseException as thrown:
                error = thrown


class Breath:
    """Gives the loop back after a slice of uninterrupted work."""

    __slots__ = ("_count", "_since", "_time")

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._since = self._time()
        self._count = 0

    async def take(self) -> None:
        """Call once for each record."""
        self._count += 1
        if self._count % LOOK_EVERY == 0 and self._time() - self._since > SLICE_S:
            await asyncio.sleep(0)
            self._since = self._time()


class Feed:
    """What a stream agent iterates over: the records of one lane, finished as the next is asked for."""

    def __init__(self, runner: AgentRunner, port: AgentPort, lane: Lane, scope: Scope) -> None:
        self._runner = runner
        self._port = port
        self._lane = lane
        self._scope = scope

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in self._items():
            yield item[VALUE]

    async def records(self) -> AsyncIterator[tuple[Any, Record[Any]]]:
        """Each value with its `Record`."""
        async for item in self._items():
            yield item[VALUE], record_of(item)

    async def _items(self) -> AsyncIterator[Item]:
        lane, scope, breath = self._lane, self._scope, Breath()
        event = self._runner.event(self._port)
        while True:
            finishing = lane.in_hand
            if finishing and not lane.is_answered:
                self._runner.task.emit(self._port, lane.queue[0], None)
            item = lane.next()
            if finishing:  # it may be committed from here on, so its results must leave before
                self._runner.on_output()
            if item is None:
                event.clear()
                await event.wait()
                continue
            scope.key, scope.time_ms = item[KEY], item[STREAM_TIME]
            yield item
            await breath.take()


class AgentRunner:
    """The coroutines of one task's agents. `failure`: what ended one of them, were it ever to happen.

    `own`: what a task works with of a sink that the app declares.
    """

    def __init__(self, task: Task, on_output: Callable[[], None], own: Callable[[Sink], Sink] = copy) -> None:
        self.task = task
        self.on_output = on_output
        self.failure: BaseException | None = None
        self._own = own
        self._events: dict[str, asyncio.Event] = {}
        self._running: list[asyncio.Task[None]] = []
        self._locks: dict[str, asyncio.Lock] = {}
        self._stopping = False
        self.hurried = False

    def start(self) -> None:
        """Start the coroutines on the running loop."""
        loop = asyncio.get_running_loop()
        for port in self.task.agents.values():
            self._events[port.node.name] = asyncio.Event()
            work: list[Coroutine[Any, Any, None]]
            if port.node.shape == "stream":
                work = [self._lane(port, lane) for lane in port.lanes.lanes]
            elif isinstance(port.node, Outflow):
                own = self._own(port.node.sink)
                work = [OutflowLoop(self, port, lane, own).run() for lane in port.lanes.lanes]
            elif port.node.shape == "batch":
                work = [BatchLoop(self, port, lane).run() for lane in port.lanes.lanes]
            else:
                work = [self._worker(port) for _ in range(port.node.concurrency)]
            self._running += [loop.create_task(w, name=f"{port.node.name}-{self.task.id}") for w in work]
        for running in self._running:
            running.add_done_callback(self._ended)

    def wake(self) -> None:
        """Records may have arrived."""
        for port in self.task.agents.values():
            if len(port):
                self.event(port).set()

    @property
    def working(self) -> bool:
        """Is there any sense in going on?"""
        return self.task.failure is None and not self._stopping

    def hurry(self, hurried: bool) -> None:
        """Somebody waits until nothing is in hand, or nobody does: batches are not filled any more."""
        if hurried == self.hurried:
            return
        self.hurried = hurried
        if hurried:
            for event in self._events.values():
                event.set()

    async def stop(self) -> None:
        """Cancel what runs; its records stay unfinished and will be processed again."""
        self._stopping = True
        for running in self._running:
            running.cancel()
        if self._running:  # code that will not be cancelled is left to itself: it can write nothing any more
            await asyncio.wait(self._running, timeout=UNWILLING_S)
        self._running.clear()

    def event(self, port: AgentPort) -> asyncio.Event:
        return self._events[port.node.name]

    def _ended(self, running: asyncio.Task[None]) -> None:
        """A future that the user's code awaits may be cancelled by others, and the coroutine with it."""
        if not running.cancelled():
            error = running.exception()
        else:
            error = None if self._stopping else _cancelled(running)
        if error is not None:
            self.failure = error
            self.on_output()

    def lend(self, coroutine: Coroutine[Any, Any, Any], scope: Scope) -> Any:
        return Stepped(coroutine, self.task.topology.lease, scope) if self.task.topology.tables else coroutine

    # -- record agents ------------------------------------------------------------------------------

    async def _worker(self, port: AgentPort) -> None:
        """One of `concurrency` equal coroutines: take a record, await the user's function, settle it."""
        event, flight, scope, breath = self.event(port), port.flight, port.new_scope(), Breath()
        with_record = wants_record(port.node.function)
        while self.working:
            item = flight.take()
            if item is None:
                event.clear()
                await event.wait()
                continue
            result = await self._call(port, item, scope, with_record)
            async with self._turns(port):
                if self.task.failure is None:
                    for left, (done, value) in enumerate(flight.done(item, result)):
                        if value is not SETTLED:
                            await self.leave(port, done, value, scope)
                        flight.finish(done)
                        self.on_output()  # before the next one's sinks are awaited: a commit may come
                        if left:
                            event.set()  # there is room for more than this coroutine's next record
            self.on_output()
            await breath.take()

    async def _call(self, port: AgentPort, item: Item, scope: Scope, with_record: bool) -> Any:
        """What the user's function makes of a record, or SETTLED."""
        scope.key, scope.time_ms = item[KEY], item[STREAM_TIME]
        timeout_ms = port.node.timeout_ms
        attempt = 0
        while True:
            attempt += 1
            try:
                arguments = (item[VALUE], record_of(item)) if with_record else (item[VALUE],)
                call = self.lend(port.node.function(*arguments), scope)
                return await (call if timeout_ms is None else in_time(call, timeout_ms))
            except Exception as error:
                pause_ms = self.task.fail(port, item, error, attempt)
            if pause_ms is None:
                return SETTLED
            await asyncio.sleep(pause_ms / 1000)

    def _turns(self, port: AgentPort) -> AbstractAsyncContextManager[object]:
        """Where sinks are awaited in the order of the input, one result leaves after the other."""
        in_turn = port.node.sinks and port.node.order == "input"
        return self._locks.setdefault(port.node.name, asyncio.Lock()) if in_turn else NO_TURN

    async def leave(self, port: AgentPort, item: Item, value: Any, scope: Scope) -> None:
        """A result goes to the functions among the sinks, then down the graph. What cannot go down there is
        not tried again: the result would be the same.
        """
        for sink in port.node.sinks if value is not None else ():
            if not await self._sink(port, item, value, sink, scope):
                return
        try:
            self.task.emit(port, item, value)
        except Exception as error:
            self.task.settle(port, item, error)

    async def _sink(
        self, port: AgentPort, item: Item, value: Any, sink: Callable[..., Any], scope: Scope
    ) -> bool:
        """Call it, again where the policy says so. False: the record is settled."""
        attempt = 0
        while True:
            attempt += 1
            try:
                await self.lend(_called(sink, item, value), scope)
            except Exception as error:
                pause_ms = self.task.fail(port, item, error, attempt)
            else:
                return True
            if pause_ms is None:
                return False
            await asyncio.sleep(pause_ms / 1000)

    # -- stream agents ------------------------------------------------------------------------------

    async def _lane(self, port: AgentPort, lane: Lane) -> None:
        """One loop of a stream agent. When it raises, the record in hand is settled and the loop begins
        anew.
        """
        scope = port.new_scope()
        feed = Feed(self, port, lane, scope)
        tried, attempt = None, 0
        while self.working:
            try:
                await self.lend(self._loop(port, lane, feed), scope)
            except Exception as error:
                if not lane.in_hand:
                    raise
                item = lane.queue[0]
                attempt = attempt + 1 if item is tried else 1
                tried = item
                await self._settle(port, lane, item, error, attempt)

    async def _loop(self, port: AgentPort, lane: Lane, feed: Feed) -> None:
        made = port.node.function(feed)
        if not inspect.isasyncgen(made):
            await made
        else:
            async for value in made:
                if value is not None:
                    for sink in port.node.sinks:
                        await _called(sink, lane.queue[0], value)
                self.task.emit(port, lane.queue[0], value, answers=not lane.is_answered)
                lane.answered = lane.queue[0]
        raise RuntimeError(f"the agent {port.node.name} returned: its loop over the stream must not end")

    async def _settle(self, port: AgentPort, lane: Lane, item: Item, error: Exception, attempt: int) -> None:
        pause_ms = self.task.fail(port, item, error, attempt, answers=not lane.is_answered)
        if pause_ms is not None:
            lane.in_hand = False  # the new loop gets it again
            await asyncio.sleep(pause_ms / 1000)
        elif self.task.failure is None:
            lane.queue.popleft()
            lane.in_hand = False
        self.on_output()


def _cancelled(running: asyncio.Task[None]) -> StreamkitError:
    return StreamkitError(
        f"{running.get_name()} was cancelled, and not by the worker: something that it awaits was",
        hint="catch asyncio.CancelledError around that, and raise an error for the policy to judge",
    )


async def _called(sink: Callable[..., Any], item: Item, value: Any) -> None:
    made = sink(value, record_of(item)) if wants_record(sink) else sink(value)
    if inspect.isawaitable(made):
        await made
