"""A task's failure as its worker ends with it: which operator, at which record, in which line of whose."""

from __future__ import annotations

from streamkit.errors import StreamkitError
from streamkit.processing.tasks.settlement import TaskFailure
from streamkit.users_code import users_line

MEND = "fix it and start again: nothing past that record is committed (or declare on_error=)"


def explained(failure: TaskFailure) -> StreamkitError:
    """What a user reads; the error itself is its cause, for `--debug`."""
    error = failure.error
    at = f" at {failure.place[0]}-{failure.place[1]}, offset {failure.offset}" if failure.place else ""
    line = users_line(error)
    said = error.message if isinstance(error, StreamkitError) else f"{type(error).__name__}: {error}"
    explained = StreamkitError(
        f"{failure.operator} failed{at}: {said}" + (f" ({line})" if line else ""),
        hint=error.hint if isinstance(error, StreamkitError) and error.hint else MEND,
    )
    explained.__cause__ = error
    return explained
