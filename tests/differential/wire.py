"""A connection that sends any bytes, and says what came back: a frame, an end, or nothing."""

from __future__ import annotations

import asyncio
from enum import Enum

ANSWER_S = 10.0
SIZE_BYTES = 4


class Missing(Enum):
    """Why there is no answer."""

    CLOSED = "the connection was closed"
    SILENT = f"nothing came in {ANSWER_S:.0f} s"


class Wire:
    """One connection to one server, opened with the first frame and again after each end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, frame: bytes, answer_s: float = ANSWER_S) -> bytes | Missing:
        """Send a whole frame, size included; the answer comes without its size."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(frame)
            async with asyncio.timeout(answer_s):
                size = int.from_bytes(await reader.readexactly(SIZE_BYTES))
                return await reader.readexactly(size)
        except TimeoutError:
            self.close()
            return Missing.SILENT
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return Missing.CLOSED

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
