"""Requests to agents and their replies, as records.

A request is a record of the agent's topic with three headers more: which agent is asked, where the reply
goes, and the number that it bears. They stop at the agent: what it makes leaves without them. A reply is a
record of the asker's own topic with that number; its value is the agent's result (null for None), or nothing,
and the class and message of the error stand in two headers more.

Anybody who may write to an agent's topic may ask it. A request that names another topic than a process of the
same app makes for its replies is none: no record can have a worker write where its author may not.
"""

from __future__ import annotations

import re

import msgspec

from streamkit.processing.record import Headers
from streamkit.processing.tasks.fuse import SinkRecord

PREFIX = "streamkit.ask."
AGENT = PREFIX + "agent"
REPLY_TO = PREFIX + "reply-to"
NUMBER = PREFIX + "number"
ERROR = PREFIX + "error"
MESSAGE = PREFIX + "message"
LONGEST_MESSAGE = 1000  # characters of an error's message
TOKEN_BYTES = 6  # of an asking process
REPLY_TOPIC = re.compile(rf"(.+)-replies-[0-9a-f]{{{2 * TOKEN_BYTES}}}")


class Asked(msgspec.Struct, frozen=True):
    """What a request says beside its value."""

    agent: str  # {app}/{agent}
    reply_to: str
    number: bytes


class Reply(msgspec.Struct, frozen=True):
    """On its way to `topic`."""

    topic: str
    record: SinkRecord


class Answer(msgspec.Struct, frozen=True):
    """A reply that arrived. `error`: class and message of what the agent raised."""

    number: bytes
    value: bytes | None
    error: tuple[str, str] | None


def address(app_id: str, agent: str) -> str:
    """How a request names an agent."""
    return f"{app_id}/{agent}"


def reply_topic(app_id: str, token: bytes) -> str:
    """Where a process of the app takes replies; `token`: random, `TOKEN_BYTES` long."""
    return f"{app_id}-replies-{token.hex()}"


def takes_replies(app_id: str, topic: str) -> bool:
    """Is this where a process of the app takes replies?"""
    named = REPLY_TOPIC.fullmatch(topic)
    return named is not None and named[1] == app_id


def request_headers(asked: Asked) -> Headers:
    return [(AGENT, asked.agent.encode()), (REPLY_TO, asked.reply_to.encode()), (NUMBER, asked.number)]


def without_request(headers: Headers | None) -> tuple[Headers | None, Asked | None]:
    """(the user's headers, what was asked, if the record is a request). Never raises: anybody may write a
    record with such headers, and errors are told by them, too.
    """
    if not headers or not any(name == AGENT for name, _ in headers):
        return headers, None
    ours = {name: value or b"" for name, value in headers if name.startswith(PREFIX)}
    theirs = [header for header in headers if not header[0].startswith(PREFIX)]
    asked = Asked(_text(ours[AGENT]), _text(ours.get(REPLY_TO, b"")), ours.get(NUMBER, b""))
    return theirs or None, asked if _among_its_own(asked) else None


def reply(asked: Asked, value: bytes | None, time_ms: int) -> Reply:
    """The agent's result. `time_ms`: when the request was made."""
    return Reply(asked.reply_to, (value, None, time_ms, [(NUMBER, asked.number)], 0))


def error_reply(asked: Asked, error: BaseException, time_ms: int) -> Reply:
    """The agent raised."""
    told = [(ERROR, type(error).__qualname__), (MESSAGE, str(error)[:LONGEST_MESSAGE])]
    headers: Headers = [(NUMBER, asked.number), *((name, text.encode()) for name, text in told)]
    return Reply(asked.reply_to, (None, None, time_ms, headers, 0))


def answer_of(headers: Headers | None, value: bytes | None) -> Answer | None:
    """The reply that a record is; None: it is none."""
    found = {name: content or b"" for name, content in headers or ()}
    if NUMBER not in found:
        return None
    error = (_text(found[ERROR]), _text(found.get(MESSAGE, b""))) if ERROR in found else None
    return Answer(found[NUMBER], value, error)


def _among_its_own(asked: Asked) -> bool:
    """The reply goes to a process of the app whose agent is asked."""
    form = REPLY_TOPIC.fullmatch(asked.reply_to)
    return form is not None and form[1] == asked.agent.partition("/")[0]


def _text(written: bytes) -> str:
    return written.decode(errors="replace")
