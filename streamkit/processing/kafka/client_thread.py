"""The one thread of a worker that makes blocking calls.

Python code on a second thread starves the event loop, so this thread runs next to none: it sits in C calls
that give up the interpreter lock, and hands over whole lists. Two directions, and no lock in either:

    loop → thread   `await thread.call(fn)` queues a call and resolves with its result
    thread → loop   `thread.wait_for(coroutine)` from a callback that librdkafka made *inside* such a call
                    (a rebalance). The loop may need calls of its own to finish that coroutine (a commit
                    before partitions go), so the waiting thread keeps serving the queue.

Between calls the thread runs `idle`, which polls for records and returns within a few milliseconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", bool]  # what to run, its answer, outermost only


class ClientThread:
    """Runs `idle` over and over, and queued calls in between, until `stop()`.

    An exception of `idle` ends the thread and is handed to `on_failure` on the loop; calls that were still
    queued then, or come later, raise RuntimeError.
    """

    def __init__(self, idle: Callable[[], None], on_failure: Callable[[BaseException], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._on_failure = on_failure
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._stopping = False
        self._caught: Exception | None = None
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-client", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    async def stop(self) -> None:
        """End after the calls that are queued already."""
        self._stopping = True
        self.wake()
        await self._ended.wait()

    async def call(self, fn: Callable[[], T], *, outermost: bool = False) -> T:
        """`fn()` on the client thread. `outermost`: never inside a callback, but after it."""
        if self._ended.is_set():
            raise RuntimeError("the client thread has ended")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((fn, answer, outermost))
        return await answer

    def wake(self) -> None:
        """End a `rest` early. Any thread."""
        self._calls.put(None)

    def rest(self, seconds: float) -> None:
        """Called by `idle`: nothing to poll for now; serve at most one call, or return when woken."""
        with suppress(Empty):
            self._serve(self._calls.get(timeout=seconds))

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of `coroutine` on the loop. Only from the client thread, inside a call or `idle`."""
        outcome = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        outcome.add_done_callback(lambda _: self.wake())
        postponed: list[_Call] = []
        while not outcome.done():
            call = self._calls.get()
            if call is not None and call[2]:
                postponed.append(call)
            else:
                self._serve(call)
        for call in postponed:
            self._calls.put(call)
        return outcome.result()

    def guarded(self, callback: Callable[P, None]) -> Callable[P, None]:
        """The callback for librdkafka. An error must not travel through the C code that calls back, which
        garbles it: `raise_caught` raises it, once that code has returned.
        """

        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                callback(*args, **kwargs)
            except Exception as error:
                self._caught = error

        return call

    def raise_caught(self) -> None:
        """What a callback raised, if one did."""
        if self._caught is not None:
            raise self._caught

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """`fn(*args)` on the loop, soon, without waiting; nothing once the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(fn, *args)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._serve_queued()
                self._idle()
            self._serve_queued()
        except BaseException as error:
            self.post(self._on_failure, error)
        finally:
            self.post(self._end)

    def _serve_queued(self) -> None:
        with suppress(Empty):
            while True:
                self._serve(self._calls.get_nowait())

    def _serve(self, call: _Call | None) -> None:
        if call is None:
            return
        fn, answer, _ = call
        try:
            result = fn()
        except BaseException as error:
            self.post(_settle, answer, None, error)
        else:
            self.post(_settle, answer, result, None)

    def _end(self) -> None:
        self._ended.set()
        with suppress(Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None:
                    _settle(call[1], None, RuntimeError("the client thread has ended"))


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
