"""Producer ids out of blocks that the controller allocates (KIP-730), so that most requests ask nobody.

What is left of a block when the broker stops is never used: an id is given out once in a cluster's life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator


class ProducerIds:
    """`allocate` brings the next block of ids."""

    def __init__(self, allocate: Callable[[], Awaitable[range]]) -> None:
        self._allocate = allocate
        self._ids: Iterator[int] = iter(())
        self._refill = asyncio.Lock()

    async def take(self) -> int:
        async with self._refill:
            for producer_id in self._ids:
                return producer_id
            self._ids = iter(await self._allocate())
            return next(self._ids)
