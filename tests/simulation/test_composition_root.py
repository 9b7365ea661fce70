"""Production and simulation make the same node: they differ in its ports and in nothing else."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "streamkit"
PARTS = ("Broker", "Partitions", "GroupHost", "Dispatcher", "Timers", "FetchSessions")


@cache
def made_in(path: Path) -> dict[str, list[ast.Call]]:
    """Which of the node's parts a module makes."""
    made: dict[str, list[ast.Call]] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            made.setdefault(node.func.id, []).append(node)
    return made


def test_only_the_composition_root_makes_the_parts_of_a_node() -> None:
    for part in PARTS:
        makers = {path.name for path in PACKAGE.rglob("*.py") if part in made_in(path)}
        assert makers == ({"main.py", "machine.py"} if part == "Broker" else {"node.py"}), part


def test_both_hand_it_a_configuration_ports_metrics_and_who_hears_of_its_end() -> None:
    for path in (PACKAGE / "broker/server/main.py", PACKAGE / "simulation/machine.py"):
        (call,) = made_in(path)["Broker"]
        assert len(call.args) == 3
        assert [keyword.arg for keyword in call.keywords] == ["on_end"]


def test_the_simulator_touches_no_part_of_the_broker_to_make_it_work() -> None:
    """Nothing in the package is replaced at run time: no `setattr`, no patching."""
    for path in (PACKAGE / "simulation").rglob("*.py"):
        source = path.read_text()
        assert "setattr(" not in source and "mock" not in source, path
