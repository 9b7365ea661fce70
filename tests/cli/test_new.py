"""`streamkit new`: what it makes works at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.broker_process import environment, streamkit


def run(words: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=directory, env=environment(), capture_output=True, text=True, check=False
    )


def test_the_tests_of_a_new_app_pass_at_once(tmp_path: Path) -> None:
    made = run(streamkit("new", "my-app"), tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.splitlines()[1] == "next: cd my-app && pytest -q"
    tested = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "streamkit.pytest_plugin"],
        tmp_path / "my-app",
    )
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout


def test_json_names_the_directory_and_its_files(tmp_path: Path) -> None:
    made = run(streamkit("new", "x", "--json"), tmp_path)
    assert json.loads(made.stdout) == {
        "path": str(tmp_path / "x"),
        "files": [".gitignore", "README.md", "app.py", "test_app.py"],
    }


@pytest.mark.parametrize(("name", "code"), [("taken", 5), ("a b", 2), ("a/\x1b", 2)])
def test_a_bad_name_or_a_full_directory_is_refused(name: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    refused = run(streamkit("new", name), tmp_path)
    assert refused.returncode == code
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
