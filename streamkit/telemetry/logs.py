"""Logs: for people on a terminal, one JSON object a line otherwise; always on stderr.

Whatever a client sent may end up in a log line, so control characters are escaped in both forms: a topic
name can neither forge a second line nor move the cursor. The standard library's loggers (asyncio, our
dependencies) go the same way.

    log = structlog.get_logger("broker")
    log.info("connection closed", peer=peer, reason=reason)     # a constant event, facts as keywords
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from os import environ
from typing import Any, TextIO

import orjson
import structlog

from streamkit.telemetry.log_levels import ROOT, drop_below_level, log_levels
from streamkit.telemetry.printable import printable


def configure(*, debug: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for this process. Call it once, in the command that starts the process."""
    stream = stream or sys.stderr
    log_levels.set(ROOT, "DEBUG" if debug else "INFO")
    renderers = _for_people(stream) if stream.isatty() else _for_machines()
    structlog.configure(
        processors=[
            drop_below_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *names: _StreamLogger(stream, *names),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


def to_stderr() -> None:
    """In somebody else's program: structlog as it is by default, but not into that program's output."""
    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _for_people(stream: TextIO) -> list[structlog.typing.Processor]:
    return [
        structlog.processors.format_exc_info,
        _escape_controls,
        structlog.dev.ConsoleRenderer(
            colors=not environ.get("NO_COLOR"), exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _for_machines() -> list[structlog.typing.Processor]:
    return [structlog.processors.format_exc_info, _escape_controls, _to_json]


def _add_logger_name(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if logger.name:
        event.setdefault("logger", logger.name)
    return event


def _escape_controls(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Every text of the event made printable; a traceback keeps its line ends."""
    return {
        key: "\n".join(map(printable, value.splitlines())) if key == "exception" else _made_printable(value)
        for key, value in event.items()
    }


def _made_printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return printable(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return {printable(str(key)): _made_printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_made_printable(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return printable(str(value))


def _to_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    first = {key: event.pop(key) for key in ("timestamp", "level", "logger", "event") if key in event}
    return orjson.dumps({**first, **event}, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _StreamLogger:
    """Writes one finished line; the end of structlog's chain."""

    def __init__(self, stream: TextIO, name: str = "") -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = error = critical = exception = fatal = msg


class _ToStructlog(logging.Handler):
    """The standard library's records, through the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
