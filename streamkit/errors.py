"""One tree of errors. Each says what happened, whose fault it is, and what to do next.

The command line turns every `StreamkitError` into at most three lines and its `exit_code`; anything that
is not in this tree is a defect of ours and deserves a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

INTERRUPTED = 130  # the exit code of what Ctrl-C ended
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class StreamkitError(Exception):
    """What happened (`message`) and the next thing to try (`hint`, may be empty); tracebacks show both."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"next: {hint}")


class UsageError(StreamkitError):
    """The words of a command, a configuration key or an app definition are wrong."""

    exit_code = 2


class BrokerUnreachableError(StreamkitError):
    """Nothing answers at the bootstrap address."""

    exit_code = 3


class NotFoundError(StreamkitError):
    """A topic, group, app or file that was named does not exist."""

    exit_code = 4


class RefusedError(StreamkitError):
    """The request was understood and is not allowed in the present state."""

    exit_code = 5


class DeadlineError(StreamkitError):
    """Something did not happen in the time it was given."""

    exit_code = 6


class CheckFailedError(StreamkitError):
    """A verification ran and its answer is no."""

    exit_code = 7


def no_broker(bootstrap: str, reason: str = "") -> BrokerUnreachableError:
    """Nothing answers at `bootstrap` (HOST:PORT, by commas)."""
    first = bootstrap.partition(",")[0].strip()
    host, _, port = first.rpartition(":")
    if "://" in first:
        hint = f"an address is HOST:PORT, without {first.partition('://')[0]}://"
    elif not host or not port.isdecimal():
        hint = f"an address is HOST:PORT, for example {first.rstrip(':') or 'localhost'}:9092"
    elif host in LOOPBACK:
        hint = f"streamkit broker start --listen {first}"
    else:
        hint = "check the address, and whether a broker runs there"
    return BrokerUnreachableError(
        f"no broker answers at {bootstrap}" + (f": {reason}" if reason else ""), hint=hint
    )


def last_words(lines: Sequence[str]) -> str:
    """Why a child process of ours ended, out of what it wrote: its error, else its last line."""
    errors = (line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: "))
    return next(errors, lines[-1] if lines else "it said nothing")
