"""One bound on the bytes of requests that all connections together hold, and one on those of answers.

Above the first, a connection that holds more than its share stops reading, except the one that has waited
longest: half-received frames could otherwise hold the whole budget and wait for each other for ever. Small
requests are always read, so those who send them never wait for those who do not finish theirs.

Answers wait for clients to read them, so they stop nobody else: above the second bound whoever makes large
answers (fetches) makes them small, and connections whose clients take nothing are closed.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Reader(Protocol):
    def resume_after_budget(self) -> None: ...


class Budget:
    """Invariant: somebody waits only while `used > limit`, and then exactly one connection is excepted."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.used = 0
        """Bytes of requests."""
        self.unsent = 0
        """Bytes of answers."""
        self._waiting: deque[Reader] = deque()
        self._excepted: Reader | None = None

    @property
    def answer_room(self) -> int:
        """How many more bytes of answers there is room for."""
        return max(0, self.limit - self.unsent)

    def is_exceeded_for(self, reader: Reader) -> bool:
        return self.used > self.limit and self._excepted is not reader

    def must_wait(self, reader: Reader) -> bool:
        """Called after `used` grew: whether this connection has to stop reading until it is resumed."""
        if self.used <= self.limit or self._excepted is reader:
            return False
        if self._excepted is None:
            self._excepted = reader
            return False
        self._waiting.append(reader)
        return True

    def release(self, count: int) -> None:
        self.used -= count
        if self.used <= self.limit and (self._waiting or self._excepted):
            self._excepted = None
            waiting, self._waiting = self._waiting, deque()
            for reader in waiting:
                reader.resume_after_budget()

    def step_aside(self, reader: Reader) -> None:
        """`reader` has its frame whole, or is gone: the next in line may go on."""
        if self._excepted is reader:
            self._excepted = None
            if self._waiting:
                self._excepted = self._waiting.popleft()
                self._excepted.resume_after_budget()
        elif reader in self._waiting:
            self._waiting.remove(reader)
