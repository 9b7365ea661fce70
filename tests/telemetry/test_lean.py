"""A broker's start does not pay for drawing tracebacks."""

from __future__ import annotations

import subprocess
import sys

from tests.support.broker_process import environment

SCRIPT = """
import sys
from streamkit.telemetry.lean import import_structlog_without_rich
import_structlog_without_rich()
assert "structlog" in sys.modules and "rich" not in sys.modules
import rich, streamkit.broker.server.main
"""


def test_structlog_comes_without_rich_which_can_still_be_imported() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment(), check=True)
