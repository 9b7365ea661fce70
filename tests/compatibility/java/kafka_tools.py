"""Apache Kafka's own command line tools, from its published artifacts: installed once, run as processes."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
TOOL_S = 120
INSTALL_S = 600


def is_installable() -> bool:
    return shutil.which("java") is not None and shutil.which("mvn") is not None


def classpath() -> str:
    """The directory of the tools' jars, filled by Maven the first time and after a change of the versions."""
    home = Path.home() / ".cache" / "streamkit-tests" / "kafka-tools"
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = home / "installed.xml"
        if not installed.exists() or installed.read_bytes() != POM.read_bytes():
            shutil.rmtree(home / "lib", ignore_errors=True)
            install = ["mvn", "-q", "-B", "-f", POM, "dependency:copy-dependencies"]
            subprocess.run([*install, f"-DoutputDirectory={home / 'lib'}"], check=True, timeout=INSTALL_S)
            shutil.copy(POM, installed)
    return f"{home / 'lib'}/*"


def run(tool: str, *words: str | Path, succeeds: bool = True) -> str:
    """What the tool (a class name) says, errors included."""
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath(), tool]
    done = subprocess.run(
        [*command, *map(str, words)],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=TOOL_S, check=False,
    )  # fmt: skip
    assert not succeeds or done.returncode == 0, done.stdout
    return done.stdout
