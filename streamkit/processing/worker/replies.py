"""What a worker needs to reply to those who asked agents.

Replies are for whoever waits right now: they leave as soon as they are there, and a commit waits a little
until they are acknowledged, so that a crash loses none that could have arrived. They belong to no commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamkit.processing.replies import Reply


class Replies(Protocol):
    """Where replies to those who asked agents go out. An asker who is gone is nobody's failure."""

    def send(self, replies: Sequence[Reply]) -> None:
        """Take them; never blocks and never raises."""
        ...

    async def flush(self) -> None:
        """Return when those sent before are acknowledged, or after a while: a commit waits no longer."""
        ...

    async def close(self) -> None:
        """Drop what was not acknowledged."""
        ...


class NoReplies:
    """Nobody asks."""

    def send(self, replies: Sequence[Reply]) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        pass


class RepliesAfterCommit:
    """Under exactly-once: nobody hears of what was not committed. A reply that a crash overtakes is lost.

    send … send ─► seal (what is sent from now on is the next transaction's) ─► release
                                                                drop ◄──┘ aborted
    """

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._open: list[Reply] = []
        self._sealed: list[Reply] = []

    def send(self, replies: Sequence[Reply]) -> None:
        self._open += replies

    def seal(self) -> None:
        self._sealed, self._open = self._sealed + self._open, []

    def release(self) -> None:
        """The transaction is committed."""
        sealed, self._sealed = self._sealed, []
        self._replies.send(sealed)

    def drop(self) -> None:
        """It is aborted."""
        self._open, self._sealed = [], []

    async def flush(self) -> None:
        await self._replies.flush()

    async def close(self) -> None:
        await self._replies.close()
