"""How programs of other languages are built: once for each state of their sources and versions, into the
user's cache.

The key of a build is what it was made of, so a second run starts at once, and a changed version builds anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "streamkit-tests"
BUILD_S = 900


@dataclass(frozen=True)
class Toolchain:
    """`tools` must be on the PATH; `build` makes of a copy of the `sources` what `start` runs."""

    sources: Path
    tools: Sequence[str]
    build: Callable[[Path], None]
    start: Callable[[Path], Sequence[str]]

    def why_not(self) -> str | None:
        absent = [tool for tool in self.tools if shutil.which(tool) is None]
        return f"{self.sources.name} needs {', '.join(absent)} on the PATH" if absent else None

    def command(self) -> list[str]:
        """What starts the program, built if it is not yet."""
        digest = hashlib.sha256()
        for path in sorted(self.sources.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self.sources)}\n".encode() + path.read_bytes())
        home = CACHE / self.sources.name / digest.hexdigest()[:16]
        home.parent.mkdir(parents=True, exist_ok=True)
        with open(home.parent / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not home.exists():
                unfinished = home.with_suffix(".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(self.sources, unfinished)
                self.build(unfinished)
                unfinished.rename(home)
        return list(self.start(home))


def run(directory: Path, *words: str, **environment: str) -> None:
    done = subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **environment},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-3000:]}"


def build_java(home: Path) -> None:
    run(home, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib")
    run(home, "javac", "-cp", "lib/*", "-d", "classes", "Driver.java")


def start_java(home: Path) -> Sequence[str]:
    small = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return ("java", *small, "-cp", f"{home}/classes:{home}/lib/*", "Driver")


def build_node(home: Path) -> None:
    run(home, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def build_go(home: Path) -> None:
    run(home, "go", "build", "-o", "driver", ".", CGO_ENABLED="0", GOFLAGS="-mod=readonly")


def start_go(home: Path) -> Sequence[str]:
    return (str(home / "driver"),)


def java(sources: Path) -> Toolchain:
    return Toolchain(sources, ("java", "javac", "mvn"), build_java, start_java)


def node(sources: Path, program: str = "driver.mjs") -> Toolchain:
    return Toolchain(sources, ("node", "npm"), build_node, lambda home: ("node", str(home / program)))


def go(sources: Path) -> Toolchain:
    return Toolchain(sources, ("go",), build_go, start_go)
