"""Byte streams: whoever listens gets a receiver per connection and a transport to answer on, and whoever
connects gets one of each.

The two halves are shaped as asyncio's buffered protocol and transport, so that the operating system's binding
adds nothing to the hot path, while a simulator can hand the same receivers any bytes at any time, cut off
anywhere in a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Transport(Protocol):
    """Where a connection writes; `close` sends what is buffered first, `abort` does not."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername` is the (host, port, ...) of the other side."""
        ...


class Receiver(Protocol):
    """What a connection is told: bytes land in the buffer that it offers, no copy in between."""

    def connection_made(self, transport: Any) -> None: ...

    def get_buffer(self, sizehint: int) -> Any: ...

    def buffer_updated(self, nbytes: int) -> None: ...

    def eof_received(self) -> bool | None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class Listening(Protocol):
    """A bound port; `port` is the real one when port 0 was asked for."""

    @property
    def port(self) -> int: ...

    async def accept(self) -> None:
        """Let connections in from now on; OSError if somebody else does on this address."""
        ...

    def close(self) -> None:
        """Accept nothing more; open connections are not touched."""
        ...


class Network(Protocol):
    async def bind(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> Listening:
        """Take the address, without accepting yet; OSError when that is impossible."""
        ...

    async def connect(self, host: str, port: int, make_receiver: Callable[[], Receiver]) -> Transport:
        """A connection to somebody who listens there, once `connection_made` was called; OSError without.

        How long that may take is the caller's to bound; a cancelled attempt leaves nothing behind.
        """
        ...
