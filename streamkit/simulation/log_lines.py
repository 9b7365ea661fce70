"""What the nodes log, as lines of the trace; and the lines that no fault of the world may cause.

A node logs an exception only where it met one that nobody expected: that is a defect, however well the node
went on. A node that is ending may fail whatever was asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any, NoReturn

import structlog

from streamkit.simulation.owner import OWNER, Owner
from streamkit.simulation.trace import Trace


class LogLines:
    """While this is entered, `structlog` writes into the trace."""

    def __init__(
        self, trace: Trace, on_defect: Callable[[str], None], is_ending: Callable[[Owner], bool]
    ) -> None:
        self._is_ending = is_ending
        self._trace = trace
        self._on_defect = on_defect
        self._before: dict[str, Any] = {}

    def __enter__(self) -> None:
        self._before = structlog.get_config()
        structlog.configure(
            processors=[self._line],
            wrapper_class=structlog.make_filtering_bound_logger(0 if self._trace.write else 30),
            cache_logger_on_first_use=False,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        structlog.configure(**self._before)

    def _line(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        owner = OWNER.get(None)
        who = owner.name if owner is not None else "?"
        facts = [f"{name}={value!r}" for name, value in event.items() if name not in ("event", "exc_info")]
        what = " ".join([f"{method}: {event.get('event')}", *facts])
        if "exc_info" in event:
            error = str(structlog.processors.format_exc_info(logger, method, event).get("exception", ""))
            if owner is None or not self._is_ending(owner):
                self._on_defect(f"exception logged by {who}: {what}: {error.strip().rpartition(chr(10))[2]}")
            what += f"\n{error}"
        if self._trace.write is not None:
            self._trace.write(f"{'':11}  {who:<10} {what}")
        raise structlog.DropEvent
