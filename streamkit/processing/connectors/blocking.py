"""Calls that block, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def blocking(call: Callable[..., T], *args: Any) -> T:
    """`call(*args)` in a thread. When cancelled, not before it has returned: nobody's work is done behind the
    back of whoever has it next.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
