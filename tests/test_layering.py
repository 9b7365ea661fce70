"""Imports point down: what each package may know of the world and of the others.

Read with `ast`, so that nothing has to be importable and a lazy import inside a function counts too.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "streamkit"

PURE = (
    "streamkit.errors",
    "streamkit.protocol",
    "streamkit.runtime.contracts",
    "streamkit.telemetry.instruments",
    "streamkit.broker.broker_keys",
    "streamkit.broker.client_metrics",
    "streamkit.broker.client_metrics_config",
    "streamkit.broker.config",
    "streamkit.broker.config_key",
    "streamkit.broker.offset_reset",
    "streamkit.broker.config_description",
    "streamkit.broker.config_docs",
    "streamkit.broker.group_config",
    "streamkit.broker.listeners",
    "streamkit.broker.topic_config",
    "streamkit.broker.properties",
    "streamkit.broker.quorum_config",
    "streamkit.broker.regular_expression",
    "streamkit.broker.log",
    "streamkit.broker.raft",
    "streamkit.broker.replication",
    "streamkit.broker.coordination",
    "streamkit.broker.controller",
    "streamkit.broker.security",
    "streamkit.processing.accumulators",
    "streamkit.processing.agent",
    "streamkit.processing.aggregations",
    "streamkit.processing.ancestry",
    "streamkit.processing.app",
    "streamkit.processing.batch",
    "streamkit.processing.tasks",
    "streamkit.processing.topology",
    "streamkit.processing.stream",
    "streamkit.processing.operators",
    "streamkit.processing.windows",
    "streamkit.processing.sketches",
    "streamkit.processing.former_fingerprint",
    "streamkit.processing.function_fingerprint",
    "streamkit.processing.avro_schema",
    "streamkit.processing.frames",
    "streamkit.processing.schemas",
    "streamkit.processing.serde",
    "streamkit.processing.crontab",
    "streamkit.processing.dead_letters",
    "streamkit.processing.error_policy",
    "streamkit.processing.claims",
    "streamkit.processing.copartition",
    "streamkit.processing.draft",
    "streamkit.processing.joins",
    "streamkit.processing.leaving",
    "streamkit.processing.results",
    "streamkit.processing.sending",
    "streamkit.processing.topic",
    "streamkit.processing.windowed",
    "streamkit.processing.connectors.collected",
    "streamkit.processing.connectors.columns",
    "streamkit.processing.connectors.sinks",
    "streamkit.processing.connectors.sources",
    "streamkit.processing.connectors.upsert",
    "streamkit.processing.connectors.upsert_sink",
    "streamkit.processing.explain",
    "streamkit.processing.global_table",
    "streamkit.processing.succession",
    "streamkit.processing.partitioner",
    "streamkit.processing.importing",
    "streamkit.processing.patterns",
    "streamkit.processing.planning",
    "streamkit.processing.reading",
    "streamkit.processing.record",
    "streamkit.processing.replies",
    "streamkit.processing.rewiring",
    "streamkit.processing.state",
    "streamkit.processing.table",
    "streamkit.processing.table_stream",
    "streamkit.processing.timers",
    "streamkit.processing.units",
)
WORLD = {
    "asyncio", "uvloop", "threading", "multiprocessing", "subprocess", "concurrent", "socket", "selectors",
    "ssl", "select", "time", "random", "secrets", "os", "io", "pathlib", "shutil", "tempfile", "aiofiles",
    "logging", "structlog", "confluent_kafka", "prometheus_client", "streamkit.runtime.os",
}  # fmt: skip

# importer prefix -> prefixes it must never import
FORBIDDEN = {
    "streamkit.protocol": ("streamkit.broker", "streamkit.client", "streamkit.processing", "streamkit.cli"),
    "streamkit.runtime": ("streamkit.broker", "streamkit.client", "streamkit.processing", "streamkit.cli"),
    "streamkit.telemetry": ("streamkit.broker", "streamkit.client", "streamkit.processing", "streamkit.cli"),
    "streamkit.net": ("streamkit.broker", "streamkit.client", "streamkit.processing", "streamkit.cli"),
    "streamkit.client": ("streamkit.broker", "streamkit.processing", "streamkit.cli"),
    "streamkit.processing": ("streamkit.broker", "streamkit.cli"),
    "streamkit.broker": ("streamkit.processing", "streamkit.cli"),
    "streamkit.broker.log": (
        "streamkit.broker.raft", "streamkit.broker.replication", "streamkit.broker.coordination",
        "streamkit.broker.controller", "streamkit.broker.storage", "streamkit.broker.server",
    ),
    "streamkit.broker.raft": (
        "streamkit.broker.log", "streamkit.broker.replication", "streamkit.broker.coordination",
        "streamkit.broker.controller", "streamkit.broker.storage", "streamkit.broker.server",
    ),
    "streamkit.broker.replication": (
        "streamkit.broker.raft", "streamkit.broker.coordination", "streamkit.broker.controller",
        "streamkit.broker.storage", "streamkit.broker.server",
    ),
    "streamkit.broker.coordination": (
        "streamkit.broker.raft", "streamkit.broker.log", "streamkit.broker.replication",
        "streamkit.broker.controller", "streamkit.broker.storage", "streamkit.broker.server",
    ),
    "streamkit.broker.controller": (
        "streamkit.broker.raft", "streamkit.broker.log", "streamkit.broker.replication",
        "streamkit.broker.coordination", "streamkit.broker.storage", "streamkit.broker.server",
    ),
    "streamkit.broker.storage": (
        "streamkit.broker.server", "streamkit.broker.coordination", "streamkit.broker.controller",
    ),
}  # fmt: skip


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of everything that a module imports, `TYPE_CHECKING` blocks excepted."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            found += [(node.lineno, base)] + [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    name = module_name(path)
    wrong = []
    pure = any(under(name, prefix) for prefix in PURE)
    for line, target in imports(path):
        if pure and any(under(target, world) for world in WORLD):
            wrong.append(f"{name}:{line} is pure and imports {target}")
        for importer, banned in FORBIDDEN.items():
            if under(name, importer) and any(under(target, prefix) for prefix in banned):
                wrong.append(f"{name}:{line} imports {target}, which {importer} must not know")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=module_name)
def test_a_submodule_never_imports_its_own_root(path: Path) -> None:
    root = module_name(path)
    wrong = [
        f"{module_name(child)}:{line}"
        for child in path.parent.rglob("*.py")
        if child != path
        for line, target in imports(child)
        if target == root and root != "streamkit"
    ]
    assert not wrong, wrong
