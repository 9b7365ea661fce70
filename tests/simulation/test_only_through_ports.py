"""What runs in the simulation reaches time, chance, files and threads through its ports, or the lint says
where not.

A name may be used in the rooms that own it: the bindings to the operating system, and the process around a
node. `asyncio.sleep` and the loop's timers are virtual there, and `uuid.UUID` only writes sixteen bytes.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "streamkit"
SIMULATED = ("broker", "net", "protocol", "runtime/contracts", "telemetry/instruments.py", "simulation")
BANNED_MODULES = {
    "time", "random", "secrets", "socket", "threading", "select", "selectors", "subprocess",
    "multiprocessing", "concurrent", "datetime", "tempfile", "shutil", "aiofiles",
}  # fmt: skip
BANNED_CALLS = {
    "uuid.uuid1", "uuid.uuid4", "uuid4",
    "open", "id", "input", "asyncio.to_thread", "asyncio.create_task", "asyncio.ensure_future",
    "asyncio.start_server", "asyncio.open_connection", "asyncio.run", "os.open", "os.urandom", "os.getpid",
    "os.listdir", "os.scandir", "os.walk", "os.stat", "os.remove", "os.rename", "os.replace", "os.mkdir",
    "os.makedirs", "os.path.exists", "os.path.isfile", "os.path.isdir", "os.environ.get", "os.getenv",
    "os.times", "loop.run_in_executor",
}  # fmt: skip
THE_PROCESS = {"broker/server/main.py"}
"""The process around a node: its signals, its loop, its limits."""
THE_MACHINERY = {
    "simulation/rng.py": {"random"},
    "simulation/network.py": {"random"},
    "simulation/disk.py": {"random"},
    "simulation/cluster.py": {"random"},
    "simulation/faults.py": {"random"},
    "simulation/draw.py": {"random"},
    "simulation/variety.py": {"random"},
    "simulation/workload/client.py": {"random"},
    "simulation/workload/participant.py": {"random"},
    "simulation/runner.py": {"concurrent", "multiprocessing"},
}
"""The simulator: seeded generators are handed around as `Random`; the runner is outside of any run."""
TASKS = {"asyncio.create_task", "asyncio.ensure_future"}
"""`Spawn` owns tasks, so that none outlives its node and no failure is lost."""
AWAIT_WHAT_THEY_START = {
    "broker/server/cluster/controller_channel.py",
    "broker/server/node.py",
    "broker/server/controller/quorum.py",
}


def modules() -> list[Path]:
    found: list[Path] = []
    for room in SIMULATED:
        place = PACKAGE / room
        found += [place] if place.is_file() else sorted(place.rglob("*.py"))
    return [path for path in found if name_of(path) not in THE_PROCESS]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def called(tree: ast.AST) -> list[tuple[int, str]]:
    return [(node.lineno, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_goes_around_the_ports(path: Path) -> None:
    tree, name = ast.parse(path.read_text()), name_of(path)
    modules_used = (imported(tree) & BANNED_MODULES) - THE_MACHINERY.get(name, set())
    assert not modules_used, f"{name} imports {sorted(modules_used)}"
    banned = BANNED_CALLS - (TASKS if name in AWAIT_WHAT_THEY_START else set())
    calls = [(line, call) for line, call in called(tree) if call in banned]
    assert not calls, f"{name} calls {calls}"


def test_the_lint_sees_what_it_must() -> None:
    tree = ast.parse("import time\nfrom random import Random\nasyncio.create_task(x())\nopen('f')")
    assert imported(tree) & BANNED_MODULES == {"time", "random"}
    assert {call for _, call in called(tree)} & BANNED_CALLS == {"asyncio.create_task", "open"}
