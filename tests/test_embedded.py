"""An embedded broker answers, takes the next free port, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamkit.embedded import EmbeddedBroker
from streamkit.errors import StreamkitError
from tests.support.broker_process import environment
from tests.support.worker_process import Outside, eventually

PARENT = """
import sys
from pathlib import Path
from streamkit.embedded import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
print(broker.pid, broker.bootstrap, flush=True)
input()
"""


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "data")]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, bootstrap = parent.stdout.readline().split()
        Outside(bootstrap).create("topic")
        os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: _has_ended(int(pid)), lambda: f"the broker {pid} lives on")


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_taken_port_gives_way_to_the_next(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with EmbeddedBroker(tmp_path / "data", port=port) as broker:
            assert broker.port > port
            Outside(broker.bootstrap).create("topic")


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    with (
        EmbeddedBroker(tmp_path / "data"),
        pytest.raises(StreamkitError, match="not start: another process uses"),
    ):
        EmbeddedBroker(tmp_path / "data")
