"""How much each logger says, and how to change that while the process runs.

A logger is named after its module; one without a level of its own has that of the package above it, up to
`root`. The names of the levels are those that Kafka's tools know.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

ROOT: Final = "root"
PACKAGE: Final = "streamkit"
TRACE: Final = 5
LEVELS: Final = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
_NAMES: Final = {level: name for name, level in LEVELS.items()}
_BY_METHOD: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
}


class LogLevels:
    """The levels of one process."""

    def __init__(self) -> None:
        self._own = {ROOT: logging.INFO}

    def known(self) -> dict[str, str]:
        """The loggers of what is imported, and the packages that they are in, with the level of each."""
        names = {ROOT}
        for name, module in tuple(sys.modules.items()):
            if name.partition(".")[0] == PACKAGE and hasattr(module, "structlog"):
                parts = name.split(".")
                names.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
        return {name: _NAMES[self._of(name)] for name in sorted(names)}

    def set(self, name: str, level: str | None) -> None:
        """`level` is a key of LEVELS; None is that of the package above."""
        if level is None:
            self._own.pop(name, None)
        else:
            self._own[name] = LEVELS[level]

    def allows(self, name: str, method: str) -> bool:
        return _BY_METHOD.get(method, logging.CRITICAL) >= self._of(name)

    def _of(self, name: str) -> int:
        while name:
            if name in self._own:
                return self._own[name]
            name = name.rpartition(".")[0]
        return self._own[ROOT]


log_levels: Final = LogLevels()


def drop_below_level(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The first of structlog's processors."""
    if not log_levels.allows(logger.name, method):
        raise structlog.DropEvent
    return event
