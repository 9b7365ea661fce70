"""Dead letters read back: where each came from, why it is here, and which have gone home.

A letter is the failed record itself with its story in the last headers (`error_policy`). Taking the story off
gives the record back as it was: to *redrive* is to write it to the partition that it came from.

What was redriven is noted for each partition. Redriving by choice leaves gaps: a note has the offset of the
first letter that stays, and the stretches behind it that went home ("120-123,130").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from streamkit.errors import RefusedError
from streamkit.processing.error_policy import PREFIX
from streamkit.processing.record import Headers, RawRecord

TOPIC = PREFIX + "topic"
OPERATOR = PREFIX + "operator"
Span = tuple[int, int]
NOTE_LIMIT = 100_000  # characters: a note is written with every thousand letters


class Letter(msgspec.Struct, frozen=True):
    """A dead letter. `topic` is None for what came from no record, the result of a window for one."""

    operator: str
    error: str
    message: str
    traceback: str
    headers: Headers  # the record's own
    topic: str | None = None
    partition: int = -1
    offset: int = -1


def letter_of(record: RawRecord) -> Letter | None:
    """The letter that a record of a dead-letter topic is; None: it has no story."""
    headers = record.headers() or []
    start = _story(headers)
    if start == len(headers):
        return None
    told = {name.removeprefix(PREFIX): value or b"" for name, value in headers[start:]}
    story = {name: value.decode(errors="replace") for name, value in told.items()}
    return Letter(
        operator=story.get("operator", ""),
        error=story.get("error", ""),
        message=story.get("message", ""),
        traceback=story.get("traceback", ""),
        headers=headers[:start],
        topic=story.get("topic"),
        partition=_number(story.get("partition", "")),
        offset=_number(story.get("offset", "")),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else -1


def _story(headers: Headers) -> int:
    """Where the last story begins: a letter whose processing failed in turn has an older one before it."""
    start = len(headers)
    while start > 0 and headers[start - 1][0].startswith(PREFIX):
        start -= 1
        name = headers[start][0]
        if name == TOPIC or (name == OPERATOR and headers[start - 1][0] != PREFIX + "offset"):
            break
    return start


def redriven_topic(topic: str) -> str:
    """The topic that holds what was redriven."""
    return f"{topic}-redriven"


class Redriven:
    """What of one partition has gone home. Offsets are asked for, settled and left in ascending order, and so
    cost the same however many there were.
    """

    def __init__(self, offset: int = 0, done: str = "") -> None:
        self.offset = offset  # below it nothing is left
        self._ahead = deque(sorted(_parse(done)))  # stretches (from, to) done by former runs, not reached
        self._spans: list[Span] = []  # those that are, and ours, in order; the last may touch the first ahead
        self._left: int | None = None  # the first that stays

    def done(self, offset: int) -> bool:
        """Has this one gone home?"""
        while self._ahead and self._ahead[0][0] <= offset:
            _add(self._spans, self._ahead.popleft())
        return offset < self.offset or (bool(self._spans) and offset <= self._spans[-1][1])

    def settle(self, offset: int) -> None:
        """This one has."""
        if self.done(offset):
            return
        if self._left is None:  # a note will be past all of them
            self._spans.clear()
        _add(self._spans, (offset, offset))

    def leave(self, offset: int) -> None:
        """This one stays."""
        if self._left is None:
            self._left = offset

    def note(self, reached: int) -> tuple[int, str]:
        """The offset and the stretches to note when everything below `reached` was looked at."""
        offset = reached if self._left is None else self._left
        spans: list[Span] = []
        for span in (*self._spans, *self._ahead):
            if span[1] >= offset:
                _add(spans, span)
        text = ",".join(_format(first, last) for first, last in spans)
        if len(text) > NOTE_LIMIT:
            raise RefusedError(
                "the letters chosen lie too scattered: a note cannot hold which they are",
                hint="choose fewer of them, or redrive all",
            )
        return offset, text


def _add(spans: list[Span], span: Span) -> None:
    """At the end; stretches that touch become one."""
    if spans and span[0] <= spans[-1][1] + 1:
        spans[-1] = spans[-1][0], max(spans[-1][1], span[1])
    else:
        spans.append(span)


def _format(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _parse(text: str) -> Iterator[Span]:
    """The stretches of a note."""
    for span in text.split(","):
        first, _, last = span.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            yield int(first), int(last or first)
