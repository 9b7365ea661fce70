"""The demo from an installed wheel: an empty directory, no checkout in sight, no network but loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
IN_TIME_S = 30
HOLD_9092 = (
    "import socket, time; s = socket.create_server(('127.0.0.1', 9092)); print(flush=True); time.sleep(99)"
)


def run(words: list[str | Path], directory: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        words, cwd=directory, env=clean, capture_output=True, text=True, timeout=3 * IN_TIME_S, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `streamkit` of a fresh environment that holds our wheel and sees the dependencies of this one."""
    directory = tmp_path_factory.mktemp("wheel")
    source, environment = directory / "source", directory / "venv"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "streamkit", source / "streamkit", ignore=ignored)
    python = environment / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-index"]
    for words in (
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory / "dist"],
        [sys.executable, "-m", "venv", environment],
        [*pip, "--no-deps", "--find-links", directory / "dist", "streamkit-log"],
    ):
        done = run(words, source)
        assert done.returncode == 0, done.stdout + done.stderr
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "streamkit"


@pytest.mark.xdist_group("demo")
def test_it_verifies_without_network_twice_and_with_9092_taken(installed: Path, tmp_path: Path) -> None:
    demo = f"timeout {IN_TIME_S} {installed} demo --exit"
    hold = f'{sys.executable} -c "{HOLD_9092}" > held & while [ ! -s held ]; do sleep 0.05; done'
    script = f"ip link set lo up && {demo} && {{ {hold}; }} && {demo}; code=$?; kill $!; exit $code"
    done = run(["unshare", "-rn", "sh", "-c", script], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ✓ ") == 2
    assert done.stdout.count("(9092 is taken)") == 1
