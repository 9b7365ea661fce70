"""What happens to a record whose processing raised.

    Fail        the task stops; nothing at or past the record is ever committed
    Skip        the record is counted and passed over
    Retry       the record is tried again after a pause, in order; then the policy that follows applies
    DeadLetter  the record goes, as it came, to another topic with its story in the headers

A policy stands on an agent or on a stream; `App(on_error=…)` is the default (Fail). The failed record's
partial outputs, and what it did to windows and `deduplicate`, are withdrawn before the policy acts. What user
code has done to tables stays; a Fail does not commit it.
"""

from __future__ import annotations

import hashlib
import traceback
from typing import Any, Literal

import msgspec

from streamkit.errors import UsageError
from streamkit.processing.record import Headers, RawRecord
from streamkit.processing.replies import without_request
from streamkit.processing.tasks.watermark import without_ours
from streamkit.processing.units import duration_ms

PREFIX = "streamkit.dlq."


class Fail(msgspec.Struct, frozen=True):
    """Stop the worker at this record: the default, since it loses nothing."""


class Skip(msgspec.Struct, frozen=True):
    """Count the record and go on."""


class DeadLetter(msgspec.Struct, frozen=True):
    """Send the record unchanged to `topic`, with where it came from and what went wrong in headers."""

    topic: str

    def __post_init__(self) -> None:
        if not isinstance(self.topic, str):
            raise UsageError(
                f"a dead letter goes to a topic that is named, got {self.topic!r}",
                hint='for example sk.DeadLetter("orders.dlq")',
            )


class Retry(msgspec.Struct, frozen=True):
    """`attempts` more tries. Pauses start at `initial` and, when exponential, double up to `maximum`."""

    attempts: int = 3
    backoff: Literal["exponential", "fixed"] = "exponential"
    initial: str | float = "100ms"
    maximum: str | float = "30s"

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise UsageError(
                f"Retry needs at least one attempt, got {self.attempts!r}", hint="for example sk.Retry(3)"
            )
        if self.backoff not in ("exponential", "fixed"):
            raise UsageError(f"Retry's backoff is 'exponential' or 'fixed', got {self.backoff!r}")
        duration_ms(self.initial)
        duration_ms(self.maximum)

    def pause_ms(self, attempt: int) -> int:
        """The pause before try number `attempt` (1 is the first retry)."""
        first = duration_ms(self.initial)
        pause = first << min(attempt - 1, 40) if self.backoff == "exponential" else first
        return min(pause, duration_ms(self.maximum))


LastResort = Fail | Skip | DeadLetter
OnError = Fail | Skip | DeadLetter | Retry


class ErrorPolicy(msgspec.Struct, frozen=True):
    """Retries first (may be none), then the last resort."""

    retry: Retry | None = None
    then: LastResort = Fail()

    @classmethod
    def given(cls, on_error: OnError | None, retry: Retry | None) -> ErrorPolicy | None:
        """What an operator says; None: nothing, so the policy of its stream holds."""
        return (
            None
            if on_error is None and retry is None
            else cls.of(Fail() if on_error is None else on_error, retry)
        )

    @classmethod
    def of(cls, on_error: OnError, retry: Retry | None = None) -> ErrorPolicy:
        if not isinstance(on_error, OnError):
            raise UsageError(
                f"on_error={_written(on_error)} is no error policy",
                hint='sk.Fail(), sk.Skip(), sk.DeadLetter("topic") or sk.Retry(3)',
            )
        if retry is not None and not isinstance(retry, Retry):
            raise UsageError(
                f"retry={_written(retry)} is no retry policy", hint="for example retry=sk.Retry(3)"
            )
        if not isinstance(on_error, Retry):
            return cls(retry, on_error)
        if retry is not None:
            raise UsageError("both retry= and on_error=Retry(...) are given", hint="keep retry=")
        return cls(on_error, Fail())


def _written(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else repr(given)


def dead_letter_headers(record: RawRecord | None, operator: str, error: BaseException) -> Headers:
    """The story of a dead letter: its own headers, then place, operator, error, and traceback digest."""
    theirs = [] if record is None else without_ours(record.headers() or [], 0)[0] or []
    theirs = without_request(theirs)[0] or []
    story: list[tuple[str, Any]] = [
        ("operator", operator),
        ("error", type(error).__qualname__),
        ("message", str(error)[:1000]),
        ("traceback", traceback_digest(error)),
    ]
    if record is not None:
        origin = ("topic", record.topic()), ("partition", record.partition()), ("offset", record.offset())
        story = [*origin, *story]
    return [*theirs, *((PREFIX + name, str(value).encode()) for name, value in story)]


def traceback_digest(error: BaseException) -> str:
    """Sixteen hex digits that are equal for errors raised through the same lines: what to group by."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = ((frame.filename.rpartition("/")[2], frame.name, frame.lineno) for frame in frames)
    return hashlib.sha256(repr((type(error).__qualname__, *lines)).encode()).hexdigest()[:16]
