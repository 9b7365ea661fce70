"""Java artifacts for tests, in pinned versions: installed by Maven once, and again when these change."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

INSTALL_S = 900


def is_installable() -> bool:
    return shutil.which("java") is not None and shutil.which("mvn") is not None


def classpath(pom: Path, name: str) -> str:
    """The directory of the jars that a pom asks for; `name` is theirs among all that tests install."""
    home = Path.home() / ".cache" / "streamkit-tests" / name
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = home / "installed.xml"
        if not installed.exists() or installed.read_bytes() != pom.read_bytes():
            shutil.rmtree(home / "lib", ignore_errors=True)
            install = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies"]
            subprocess.run([*install, f"-DoutputDirectory={home / 'lib'}"], check=True, timeout=INSTALL_S)
            shutil.copy(pom, installed)
    return f"{home / 'lib'}/*"


def unpacked(artifact: str, name: str, unpack: Callable[[Path, Path], None]) -> Path:
    """What is in an archive (group:name:version:type:classifier), unpacked once for each version."""
    home = Path.home() / ".cache" / "streamkit-tests" / name / artifact.split(":")[2]
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            unfinished = home.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            fetch = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}"]
            subprocess.run([*fetch, f"-DoutputDirectory={unfinished}"], check=True, timeout=INSTALL_S)
            (archive,) = unfinished.iterdir()
            unpack(archive, unfinished)
            archive.unlink()
            unfinished.rename(home)
    return home


def java(classpath: str, *, heap: str = "256m") -> list[str]:
    """The command of a small virtual machine that is there quickly and does not live long."""
    return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath]
