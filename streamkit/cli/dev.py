"""`streamkit dev`: an app file with a broker of its own, started again at each change.

The worker is a child process, so that a change is a fresh start and nothing of the old code survives. Its
group, offsets and tables live on in the broker, whose data directory outlives `dev` too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import click

from streamkit.cli.output import remark

LOOK_S = 0.3
STOP_S = 15.0
IGNORED = {"__pycache__", "node_modules", "venv", "env"}


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--http", metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz here.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".streamkit/dev"),
    show_default=True,
    help="Where the broker keeps its data.",
)
def dev(*, file: Path, http: str | None, data_dir: Path) -> int:
    """Run the app in FILE with a broker of its own, and start it again whenever a Python file changes."""
    from streamkit.cli.app_loader import load_app
    from streamkit.cli.broker import parse_address
    from streamkit.cli.embedding import embedded_broker
    from streamkit.cli.worker import worker_command

    address = None if http is None else parse_address(http, "--http")
    load_app(str(file)).topology()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with embedded_broker(data_dir) as broker:
        command = worker_command(str(file), broker.bootstrap, address)
        while not stopping.is_set():
            before = _snapshot(file.resolve().parent)
            process = subprocess.Popen(command, start_new_session=True)
            changed = _until_change(before, file.resolve().parent, stopping)
            _stop(process)
            if changed:
                remark(f"reload   {changed}")
    return 0


def _until_change(before: dict[Path, int], directory: Path, stopping: threading.Event) -> str:
    """Wait for the first change; its file, or "" when asked to stop."""
    while not stopping.wait(LOOK_S):
        now = _snapshot(directory)
        for path in now.keys() | before.keys():
            if now.get(path) != before.get(path):
                return str(path.relative_to(directory))
    return ""


def _snapshot(directory: Path) -> dict[Path, int]:
    """The modification times of the Python files below a directory."""
    found: dict[Path, int] = {}
    for root, directories, files in os.walk(directory):
        directories[:] = [d for d in directories if d not in IGNORED and not d.startswith(".")]
        for name in files:
            if name.endswith(".py"):
                path = Path(root, name)
                try:
                    found[path] = path.stat().st_mtime_ns
                except FileNotFoundError:  # an editor is replacing it
                    continue
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
