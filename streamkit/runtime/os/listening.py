"""A port for a child process: who chooses it, holds it.

To look for a free port and name it to a child is a race: somebody else may take it in between. So the parent
listens itself, at the first address that the system grants, and the child inherits the open socket. Clients
that connect before the child is ready wait in the kernel's queue.
"""

from __future__ import annotations

import errno
import socket

from streamkit.errors import RefusedError

PORTS_TRIED = 100
BACKLOG = 1024


def listen_from(host: str, first: int) -> socket.socket:
    """A listening socket at the first port from `first` on that is free (0: any). Hand its fd to a child."""
    for port in range(first, min(first + PORTS_TRIED, 65536)) if first else (0,):
        listening = socket.socket()
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise RefusedError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
        else:
            return listening
    raise RefusedError(f"no free port from {first} on", hint="stop what listens there")


def inherited(fd: int) -> socket.socket:
    """The child's side: the socket behind the descriptor that it was started with."""
    return socket.socket(fileno=fd)
