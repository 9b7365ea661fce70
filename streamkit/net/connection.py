"""One connection: frames in, answers out in the order of the requests, and a bound on all that lies between.

Receiving. All connections read into one scratch buffer, so an idle connection owns none. What one read
brought is copied out once, whole, and frames are slices of that copy. A frame that did not fit one read
gets a buffer of its own, into which its beginning is copied and the rest received straight; that buffer
grows with the bytes that really came (by four, up to the frame's size), never with what its sender claims.

Dispatching. `serve` turns a frame into an `Exchange`, answered at once or later. Frames are served in the
order of arrival while fewer than `max_requests` / `max_request_bytes` are unanswered and fewer than
`max_unsent_bytes` of answers wait to leave; otherwise the frames wait where they are and reading is paused.
An exchange that is not `pipelined` and not yet answered is *parked*: nothing is served behind it.

Answering. An exchange keeps its place in a queue; answers leave from the queue's head, all that are ready
in one write per turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import structlog

from streamkit.runtime.contracts.network import Transport

if TYPE_CHECKING:
    from streamkit.net.listener import Listener

log = structlog.get_logger(__name__)

Buffer: TypeAlias = bytes | bytearray | memoryview
SIZE = Struct(">i")
SMALL_FRAME_BYTES = 4096
JOIN_BYTES = 64 * 1024
OVER_BUDGET_BYTES = 4096
"""What a connection reads at a time while the budget is exceeded."""
SHARE_BYTES = 16 * 1024
"""What a connection may hold in any case."""


class Limits(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    max_frame_bytes: int = 100 * 1024 * 1024
    max_requests: int = 64
    max_request_bytes: int = 16 * 1024 * 1024
    max_unsent_bytes: int = 1024 * 1024
    frame_timeout_ms: int = 30_000
    idle_timeout_ms: int = 600_000
    """Negative is for ever."""
    max_connections: int = 2**31 - 1
    max_connections_per_host: int = 2**31 - 1


class FrameError(Exception):
    """The bytes of a frame are not what they must be; its connection is closed for `reason`."""

    def __init__(self, message: str, *, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class Exchange:
    """A request and the place that its answer has in the connection's order."""

    __slots__ = ("answer", "answer_bytes", "connection", "on_abandoned", "on_turn", "pipelined", "size")

    def __init__(self, connection: Connection, size: int) -> None:
        self.connection = connection
        self.size = size
        self.answer: Sequence[Buffer] | None = None
        self.answer_bytes = 0
        self.pipelined = False
        self.on_abandoned: Callable[[], None] | None = None
        self.on_turn: Callable[[], None] | None = None
        """To be called when everything before it is answered; only for one that `is_behind` something."""

    @property
    def is_behind(self) -> bool:
        """Whether its answer could not leave now; to be asked while it is being served."""
        return self.connection.has_unanswered

    def weigh(self, extra_bytes: int) -> None:
        """Count more than the frame's bytes, until it is answered; to be called while it is being served."""
        self.size += extra_bytes
        self.connection.count(extra_bytes)

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Answer with a whole frame, in buffers that nobody changes any more; none at all is no answer."""
        if self.answer is None:
            self.answer = buffers
            self.connection.answered(self)

    def abandon(self) -> None:
        """The client is gone before its answer was there."""
        self.answer = ()
        if self.on_abandoned is not None:
            self.on_abandoned()


class Connection(asyncio.BufferedProtocol):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._limits = listener.limits
        self._budget = listener.budget
        self._serve = listener.serve
        self._clock = listener.clock
        self._transport: Transport | None = None
        self.peer_host = ""
        self.peer_port = 0
        self.state: object | None = None
        """Whatever the one who serves the frames wants to remember about this connection."""
        self.likeness: Any = None
        """… and about how its requests begin."""
        self._when_lost: dict[str, Callable[[], None]] | None = None

        self._chunk = memoryview(b"")
        """Received and not yet served: `_chunk[_position:]`."""
        self._position = 0
        self._rest = b""
        """The beginning of a small frame, put before what the next read brings."""
        self._frame: bytearray | None = None
        """The buffer of a large frame, filled up to `_filled`, of `_frame_size` in the end."""
        self._filled = 0
        self._frame_size = 0
        self._frame_since_ms = 0
        """When the frame that is now incomplete began; 0 when there is none."""

        self._exchanges: deque[Exchange] = deque()
        self._request_bytes = 0
        self._unsent_bytes = 0
        """Answers that wait for their turn or for the loop to send them."""
        self._counted_bytes = 0
        """This connection's part of the budget's requests."""
        self._counted_unsent_bytes = 0
        """This connection's part of the budget's answers."""
        self._backlog_bytes = 0
        """Of these: answers in the transport's buffer while it is over its limit."""
        self._parked: Exchange | None = None
        self._flush_scheduled = False
        self._writing_paused = False
        self._budget_paused = False
        self._reading_paused = False
        self._is_held = not listener.is_serving
        self._closed_for: str | None = None
        self._active_ms = self._clock.monotonic_ms()

    # -- receiving -------------------------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.set_write_buffer_limits(high=self._limits.max_unsent_bytes)
        peer = transport.get_extra_info("peername")
        self.peer_host, self.peer_port = (str(peer[0]), int(peer[1])) if peer else ("", 0)
        if not self.listener.admit(self):
            self.close("too_many", "too many connections")

    def released(self) -> None:
        """The listener serves requests from now on; the first of them may be here already."""
        self._is_held = False
        if self._closed_for is None and (self._position < len(self._chunk) or self._reading_paused):
            self._pump()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._frame is not None:
            buffer = memoryview(self._frame)[self._filled :]
        else:
            buffer = self.listener.scratch
            if rest := len(self._rest):
                buffer[:rest] = self._rest
                buffer = buffer[rest:]
        if self._budget.is_exceeded_for(self):
            return buffer[:OVER_BUDGET_BYTES]
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._active_ms = self._clock.monotonic_ms()
        if self._closed_for is not None:
            return
        self.count(nbytes)
        if self._frame is None:
            end = len(self._rest) + nbytes
            self._rest = b""
            received = self.listener.scratch[:end]
            self._chunk = received if begins_large_frame(received) else copied(received)
            self._position = 0
        else:
            self._filled += nbytes
            if self._filled < len(self._frame):
                self._pause_for_budget()
                return
            if self._filled < self._frame_size:
                self._frame = grown(self._frame, self._frame_size)
                self._pause_for_budget()
                return
            self._chunk = memoryview(self._frame)
            self._position = 0
            self._frame = None
        self._budget.step_aside(self)
        self._pump()
        self._pause_for_budget()

    def _pump(self) -> None:
        """Serve the frames that are here, as far as the bounds allow; keep the rest, or its beginning."""
        begun = position = self._position
        chunk, end = self._chunk, len(self._chunk)
        limits, exchanges, unpack = self._limits, self._exchanges, SIZE.unpack_from
        try:
            while not (
                len(exchanges) >= limits.max_requests
                or self._request_bytes >= limits.max_request_bytes
                or self._unsent_bytes >= limits.max_unsent_bytes
                or self._parked is not None
                or self._writing_paused
                or self._is_held
                or self._closed_for is not None
            ):
                if end - position < SIZE.size:
                    break
                size = unpack(chunk, position)[0]
                if not 0 <= size <= limits.max_frame_bytes:
                    raise FrameError(f"a frame of {size} bytes", reason="frame_size")
                begin = position + SIZE.size
                if end - begin < size:
                    break
                position = begin + size
                exchange = self._serve(self, chunk[begin:position])
                exchanges.append(exchange)
                self._request_bytes += exchange.size
                if exchange.answer is None and not exchange.pipelined:
                    self._parked = exchange
            else:
                if position < end:
                    if chunk.obj is self.listener.scratch.obj:
                        self._chunk = copied(chunk)
                    self._position = position
                    self._frame_since_ms = 0
                    self._pause_reading()
                    return
        except FrameError as error:
            self._position = position
            self.close(error.reason, str(error))
            return
        if position > begun or not self._frame_since_ms:
            self._frame_since_ms = self._active_ms
        self._keep_incomplete(chunk[position:])
        self._resume_reading()

    def _keep_incomplete(self, tail: memoryview) -> None:
        """The chunk is served but for `tail`, the beginning of a frame (or nothing)."""
        if not len(tail):
            self._frame_since_ms = 0
        elif len(tail) < SIZE.size or SIZE.unpack_from(tail)[0] + SIZE.size <= SMALL_FRAME_BYTES:
            self._rest = bytes(tail)
        else:
            self._frame_size = SIZE.unpack_from(tail)[0] + SIZE.size
            self._frame = grown(tail, self._frame_size)
            self._filled = len(tail)
        self._chunk = memoryview(b"")
        self._position = 0

    # -- answering -------------------------------------------------------------------------------------------

    @property
    def has_unanswered(self) -> bool:
        return any(exchange.answer is None for exchange in self._exchanges)

    def answered(self, exchange: Exchange) -> None:
        """`exchange` has its answer; it leaves when all before it have left."""
        if self._closed_for is not None:
            return
        size = 0
        for buffer in exchange.answer or ():
            size += len(buffer)
        exchange.answer_bytes = size
        self._unsent_bytes += size
        self._counted_unsent_bytes += size
        self._budget.unsent += size
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._closed_for is not None:
            return
        self._write_ready()
        if self._position < len(self._chunk) or self._reading_paused:
            self._pump()

    def _write_ready(self) -> None:
        exchanges = self._exchanges
        buffers: list[Buffer] = []
        sent = freed = 0
        while exchanges and exchanges[0].answer is not None:
            exchange = exchanges.popleft()
            if exchange is self._parked:
                self._parked = None
            buffers += exchange.answer or ()
            sent += exchange.answer_bytes
            freed += exchange.size
        if not freed:
            return
        self._request_bytes -= freed
        self._unsent_bytes -= sent
        self._active_ms = self._clock.monotonic_ms()
        assert self._transport is not None
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        elif sent <= JOIN_BYTES:
            self._transport.write(b"".join(buffers))
        else:
            self._transport.writelines(buffers)
        if self._writing_paused:
            self._backlog_bytes += sent
            sent = 0
        self._uncount_unsent(sent)
        self._uncount(freed)
        if exchanges and exchanges[0].on_turn is not None:
            on_turn, exchanges[0].on_turn = exchanges[0].on_turn, None
            on_turn()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._active_ms = self._clock.monotonic_ms()
        self._uncount_unsent(self._backlog_bytes)
        self._backlog_bytes = 0
        if self._closed_for is None:
            self._pump()

    # -- bounds ----------------------------------------------------------------------------------------------

    def count(self, count: int) -> None:
        """Hold so many more bytes of requests."""
        self._counted_bytes += count
        self._budget.used += count

    def _uncount(self, count: int) -> None:
        self._counted_bytes -= count
        self._budget.release(count)

    def _uncount_unsent(self, count: int) -> None:
        self._counted_unsent_bytes -= count
        self._budget.unsent -= count

    def _pause_for_budget(self) -> None:
        if self._budget.used <= self._budget.limit or self._counted_bytes <= SHARE_BYTES:
            return
        if not self._budget_paused and self._closed_for is None:
            self._budget_paused = self._budget.must_wait(self)
            if self._budget_paused and not self._reading_paused and self._transport is not None:
                self._transport.pause_reading()

    def resume_after_budget(self) -> None:
        self._budget_paused = False
        if not self._reading_paused and self._closed_for is None and self._transport is not None:
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            if not self._budget_paused and self._transport is not None:
                self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            if not self._budget_paused and self._transport is not None:
                self._transport.resume_reading()

    def sweep(self, now_ms: int) -> None:
        """Close this connection when it has been idle, or its frame incomplete, for too long.

        A frame's time goes on while the budget is exceeded: its parts are what exceeds it.
        """
        timeout_ms = self._limits.frame_timeout_ms
        if self._closed_for is not None:
            if now_ms - self._active_ms > timeout_ms and self._transport is not None:
                self._transport.abort()
        elif self._frame_since_ms and now_ms - self._frame_since_ms > timeout_ms:
            self.close("slow_frame", "its frame took too long to arrive")
        elif self._backlog_bytes and not self._budget.answer_room and now_ms - self._active_ms > timeout_ms:
            self.close("slow_reader", "it takes none of its answers, which fill the broker's memory")
            if self._transport is not None:
                self._transport.abort()
        elif not self._exchanges and 0 <= self._limits.idle_timeout_ms < now_ms - self._active_ms:
            self.close("idle")

    # -- ending ----------------------------------------------------------------------------------------------

    def stop_serving(self) -> None:
        """Serve no further frame; what was served is still answered."""
        self._limits = msgspec.structs.replace(self._limits, max_requests=0)

    def close(self, reason: str, detail: str = "") -> None:
        """Send the answers that are ready, then close; `detail` is worth a line in the log."""
        if self._closed_for is not None:
            return
        if detail:
            log.warning("connection closed", peer=self.peer_host, reason=reason, detail=detail)
        if self._transport is not None:
            self._write_ready()
            self._closed_for = reason
            self._transport.close()

    def when_lost(self, who: str, call: Callable[[], None]) -> None:
        """Have `call` made once the connection is gone, whoever ended it; `who` has one call at a time."""
        if self._when_lost is None:
            self._when_lost = {}
        self._when_lost[who] = call

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._closed_for or ("error" if exc is not None else "client")
        self._closed_for = reason
        self._transport = None
        self._uncount_unsent(self._counted_unsent_bytes)
        self._uncount(self._counted_bytes)
        self._budget.step_aside(self)
        self._chunk = memoryview(b"")
        self._frame = None
        self.listener.disconnected(self, reason)
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            if exchange.answer is None:
                exchange.abandon()
        for call in (self._when_lost or {}).values():
            call()


def copied(received: memoryview) -> memoryview:
    return memoryview(bytearray(received))


def begins_large_frame(received: memoryview) -> bool:
    """Whether this is the beginning of a single frame, to be copied into a buffer of that frame's own."""
    return len(received) > SMALL_FRAME_BYTES and SIZE.unpack_from(received)[0] + SIZE.size > len(received)


def grown(received: bytearray | memoryview, size: int) -> bytearray:
    """A buffer that begins with `received` and has room for more, towards `size` bytes in all."""
    buffer = bytearray(min(size, max(4 * len(received), SMALL_FRAME_BYTES)))
    buffer[: len(received)] = received
    return buffer
