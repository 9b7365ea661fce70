"""Keeps freed memory for the next request, where the C library would give it back to the kernel.

A buffer for a frame of a megabyte lives for a millisecond. By default glibc maps such a block anew each time,
or trims the heap behind it, and each time the kernel clears its 256 pages.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD = -1  # mallopt's names for its parameters, from malloc.h
MMAP_THRESHOLD = -3
KEEP_BYTES = 64 << 20  # free memory at the end of the heap that stays ours
MAP_ABOVE_BYTES = 32 << 20  # glibc's maximum


def keep_freed_memory() -> None:
    """At most `KEEP_BYTES` of freed memory stay with the process. Nothing happens outside of glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, KEEP_BYTES)
        mallopt(MMAP_THRESHOLD, MAP_ABOVE_BYTES)
