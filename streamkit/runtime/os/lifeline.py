"""Children that never outlive their parent, however it ends.

The parent holds the only writing end of a pipe, the child its reading end. Nothing is ever written: the end
of the file *is* the message, and the kernel delivers it even after a kill -9.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Self

LIFELINE_VARIABLE = "STREAMKIT_LIFELINE"  # in a child's environment: its end of the pipe
GRACE_S = 30.0


class Lifeline:
    """The parent's side. Start the child with `pass_fds=(lifeline.child_fd,)`, then call `started()`."""

    def __init__(self) -> None:
        self.child_fd, self._parent_fd = os.pipe()
        self._open = {self.child_fd, self._parent_fd}

    def started(self) -> None:
        """The child has its end; ours of it is closed."""
        self._close(self.child_fd)

    def close(self) -> None:
        self._close(self.child_fd)
        self._close(self._parent_fd)

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def heed_lifeline() -> None:
    """The child's side, if the environment names one: SIGTERM to this process when the parent is gone, and
    the end by force after that.
    """
    child_fd = os.environ.pop(LIFELINE_VARIABLE, None)
    if child_fd is not None:
        _end_with(int(child_fd))


def _end_with(child_fd: int) -> None:
    threading.Thread(target=_watch, args=(child_fd,), name="lifeline", daemon=True).start()


def _watch(child_fd: int) -> None:
    os.read(child_fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
