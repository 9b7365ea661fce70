"""The other end of a connection: one node calls another, and many calls may be under way at once.

`Peer` is one connection. Calls leave in the order in which they are made, each with a correlation id, and
each waits for the answer with that id for as long as it was given. Three things end a connection: the other
side, a frame that is not what it must be, and a call that got no answer in its time. The last is as in Kafka:
answers come in the order of the requests, so behind one that does not come no other will, and only a new
connection finds out whether anybody is still there. With the connection all calls under way fail, and what
became of them is unknown.

`Link` is an address, and a connection to it whenever somebody calls. It neither waits nor tries again by
itself: how soon to call again after a failure is for the caller to decide.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self, TypeVar

from streamkit.net.connection import SIZE, SMALL_FRAME_BYTES, grown
from streamkit.protocol.api import APIS
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.framing import decode_response, encode_request
from streamkit.protocol.schema import Message
from streamkit.runtime.contracts.network import Network, Transport

Result = TypeVar("Result")

SCRATCH_BYTES = 64 * 1024
MAX_FRAME_BYTES = 100 * 1024 * 1024


class PeerError(Exception):
    """A call has no answer."""


class PeerUnreachableError(PeerError):
    """There was no connection to send it on, so nobody has seen it."""


class PeerRefusedError(PeerUnreachableError):
    """Its machine says that nobody listens at the address: its process is gone."""


class PeerLostError(PeerError):
    """The connection ended first; whether the request was carried out is unknown."""


class PeerTimeoutError(PeerError):
    """No answer in the time it was given; whether the request was carried out is unknown."""


class Call:
    """A request that was sent, and who waits for its response."""

    __slots__ = ("api_key", "response", "timer", "version")

    def __init__(self, message: Message, version: int, response: asyncio.Future[Any]) -> None:
        self.api_key = message.KEY
        self.version = version
        self.response = response
        self.timer: asyncio.TimerHandle | None = None


class Peer(asyncio.BufferedProtocol):
    """One connection to another node; made by `connect`, of no more use once `is_lost`."""

    def __init__(self, address: str, client_id: str, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.address = address
        self.is_lost = False
        self._client_id = client_id
        self._max_frame_bytes = max_frame_bytes
        self._transport: Transport | None = None
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._why = ""

        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._rest = b""
        """The beginning of a small frame, put before what the next read brings."""
        self._frame: bytearray | None = None
        """The buffer of a large frame, filled up to `_filled`, of `_frame_size` in the end."""
        self._filled = 0
        self._frame_size = 0

    @classmethod
    async def connect(
        cls,
        network: Network,
        host: str,
        port: int,
        *,
        client_id: str,
        timeout_ms: float,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> Self:
        """A connection to whoever listens there; raises PeerUnreachableError."""
        peer = cls(f"{host}:{port}", client_id, max_frame_bytes)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await network.connect(host, port, lambda: peer)
        except TimeoutError:
            raise PeerUnreachableError(f"{peer.address} did not accept within {timeout_ms:.0f} ms") from None
        except ConnectionRefusedError:
            raise PeerRefusedError(f"{peer.address}: nobody listens there") from None
        except OSError as error:
            raise PeerUnreachableError(f"{peer.address}: {error.strerror or error}") from None
        return peer

    # -- calling ---------------------------------------------------------------------------------------------

    def call(self, message: Message, version: int, timeout_ms: float) -> asyncio.Future[Any]:
        """Send `message` now; the future is its response, or a PeerError.

        Cancelling the future gives up on the response, not on the request. Records in the message must not
        change until they have left.
        """
        loop = asyncio.get_running_loop()
        response: asyncio.Future[Any] = loop.create_future()
        if self.is_lost or self._transport is None:
            response.set_exception(PeerUnreachableError(f"{self.address}: {self._why}"))
            return response
        self._last_id = correlation_id = (self._last_id + 1) & 0x7FFFFFFF
        buffers = encode_request(message, version, correlation_id=correlation_id, client_id=self._client_id)
        self._calls[correlation_id] = call = Call(message, version, response)
        call.timer = loop.call_later(timeout_ms / 1000, self._timed_out, correlation_id, timeout_ms)
        self._transport.writelines(buffers)
        return response

    def _timed_out(self, correlation_id: int, timeout_ms: float) -> None:
        call = self._calls.pop(correlation_id)
        name = APIS[call.api_key].key.name
        reason = f"no answer to {name} from {self.address} within {timeout_ms:.0f} ms"
        if not call.response.done():
            call.response.set_exception(PeerTimeoutError(reason))
        self._end(reason)

    def close(self) -> None:
        """End the connection; calls under way fail with PeerLostError."""
        self._end("closed")

    def _end(self, why: str) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self._why = why
        if self._transport is not None:
            self._transport.abort()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if call.timer is not None:
                call.timer.cancel()
            if not call.response.done():
                call.response.set_exception(PeerLostError(f"{self.address}: {why}"))

    # -- what the network says -------------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc is not None else "the connection was closed")
        self._transport = None
        self._frame = None

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._frame is not None:
            return memoryview(self._frame)[self._filled :]
        rest = len(self._rest)
        self._scratch[:rest] = self._rest
        return self._scratch[rest:]

    def buffer_updated(self, nbytes: int) -> None:
        if self.is_lost:
            return
        if self._frame is None:
            end = len(self._rest) + nbytes
            self._rest = b""
            self._take(memoryview(bytes(self._scratch[:end])))
            return
        self._filled += nbytes
        if self._filled < len(self._frame):
            return
        if self._filled < self._frame_size:
            self._frame = grown(self._frame, self._frame_size)
            return
        chunk, self._frame = memoryview(self._frame), None
        self._take(chunk)

    def _take(self, chunk: memoryview) -> None:
        """Give the responses in `chunk` to those who wait for them; keep the beginning of the last one."""
        position, end = 0, len(chunk)
        while end - position >= SIZE.size:
            (size,) = SIZE.unpack_from(chunk, position)
            if not SIZE.size <= size <= self._max_frame_bytes:
                self._end(f"it sent a frame of {size} bytes")
                return
            begin = position + SIZE.size
            if end - begin < size:
                break
            position = begin + size
            self._answered(chunk[begin:position])
            if self.is_lost:
                return
        self._keep_incomplete(chunk[position:])

    def _keep_incomplete(self, tail: memoryview) -> None:
        if len(tail) < SIZE.size or SIZE.unpack_from(tail)[0] + SIZE.size <= SMALL_FRAME_BYTES:
            self._rest = bytes(tail)
            return
        self._frame_size = SIZE.unpack_from(tail)[0] + SIZE.size
        self._frame = grown(tail, self._frame_size)
        self._filled = len(tail)

    def _answered(self, frame: memoryview) -> None:
        (correlation_id,) = SIZE.unpack_from(frame)
        call = self._calls.pop(correlation_id, None)
        if call is None:
            self._end(f"it answered request {correlation_id}, which nobody asked")
            return
        if call.timer is not None:
            call.timer.cancel()
        if call.response.done():
            return
        try:
            _, message = decode_response(APIS[call.api_key].response, frame, call.version)
        except MalformedMessageError as error:
            call.response.set_exception(PeerLostError(f"{self.address}: {error.message}"))
            self._end(error.message)
        else:
            call.response.set_result(message)


class Link:
    """An address to call; connected by the first call, and by the next one after a loss."""

    def __init__(
        self,
        network: Network,
        host: str,
        port: int,
        *,
        client_id: str,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self.host = host
        self.port = port
        self._network = network
        self._client_id = client_id
        self._max_frame_bytes = max_frame_bytes
        self._peer: Peer | None = None
        self._connecting = asyncio.Lock()

    async def call(self, message: Message, version: int, timeout_ms: float) -> Any:
        """The response to `message`, connecting included in the time; raises PeerError."""
        deadline_s = asyncio.get_running_loop().time() + timeout_ms / 1000
        peer = self._peer
        if peer is None or peer.is_lost:
            peer = await self._connected(timeout_ms)
        left_ms = (deadline_s - asyncio.get_running_loop().time()) * 1000
        return await peer.call(message, version, left_ms)

    async def _connected(self, timeout_ms: float) -> Peer:
        """The connection, made by one of those who want it while the others wait."""
        try:
            async with asyncio.timeout(timeout_ms / 1000), self._connecting:
                if self._peer is None or self._peer.is_lost:
                    self._peer = await Peer.connect(
                        self._network,
                        self.host,
                        self.port,
                        client_id=self._client_id,
                        timeout_ms=timeout_ms,
                        max_frame_bytes=self._max_frame_bytes,
                    )
                return self._peer
        except TimeoutError:
            where = f"{self.host}:{self.port}"
            raise PeerUnreachableError(f"{where} did not accept within {timeout_ms:.0f} ms") from None

    def close(self) -> None:
        """End the connection if there is one; a later call makes another."""
        if self._peer is not None:
            self._peer.close()
