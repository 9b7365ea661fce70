"""Apache Kafka's own command line tools, from its published artifacts: installed once, run as processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import maven

POM = Path(__file__).with_name("pom.xml")
TOOL_S = 120

is_installable = maven.is_installable


def classpath() -> str:
    return maven.classpath(POM, "kafka-tools")


def run(tool: str, *words: str | Path, succeeds: bool = True) -> str:
    """What the tool (a class name) says, errors included."""
    done = subprocess.run(
        [*maven.java(classpath()), tool, *map(str, words)],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=TOOL_S, check=False,
    )  # fmt: skip
    assert not succeeds or done.returncode == 0, done.stdout
    return done.stdout
