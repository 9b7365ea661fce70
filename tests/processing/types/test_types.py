"""The types flow: mypy and pyright know what comes out of each operator, and object where it does not fit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

from tests.support import toolchains

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
JOB = HERE / "typed_job.py"
PYRIGHT = toolchains.node(HERE / "pyright", "node_modules/pyright/index.js")
WRONG = (
    "stream.map(lambda order: order.missing)",
    'totals["pump"] = "a lot"',
    "in_record_style.cast(1)",
    "users.join(users, lambda a, b: a.nmae)",
)


@pytest.fixture
def wrong_job(tmp_path: Path) -> tuple[Path, list[int]]:
    """The job with lines that do not fit, and their numbers."""
    lines = JOB.read_text().splitlines()
    path = tmp_path / "wrong_job.py"
    path.write_text("\n".join([*lines, *WRONG, ""]))
    return path, list(range(len(lines) + 1, len(lines) + len(WRONG) + 1))


def mypy(path: Path, cache: Path) -> tuple[str, set[int]]:
    out, problems, _ = api.run(
        ["--strict", "--follow-imports=silent", "--cache-dir", str(cache), "--no-error-summary", str(path)]
    )
    assert not problems
    return out, {int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line}


def pyright(directory: Path) -> dict[str, set[int]]:
    """The lines with errors of each file in the directory."""
    project = directory / "pyrightconfig.json"
    project.write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}))
    done = subprocess.run(
        [*PYRIGHT.command(), "--project", str(project), "--pythonpath", sys.executable, "--outputjson"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    found: dict[str, set[int]] = {path.name: set() for path in directory.glob("*.py")}
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(found), done.stdout
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            found[Path(one["file"]).name].add(one["range"]["start"]["line"] + 1)
    return found


def test_mypy_agrees_with_what_the_job_says(tmp_path: Path, wrong_job: tuple[Path, list[int]]) -> None:
    out, lines = mypy(JOB, tmp_path)
    assert not lines, out
    path, wrong = wrong_job
    out, lines = mypy(path, tmp_path)
    assert lines == set(wrong), out


@pytest.mark.skipif(PYRIGHT.why_not() is not None, reason=PYRIGHT.why_not() or "")
@pytest.mark.timeout(300)  # it is fetched once
def test_pyright_agrees_with_what_the_job_says(wrong_job: tuple[Path, list[int]]) -> None:
    path, wrong = wrong_job
    shutil.copy(JOB, path.parent)
    assert pyright(path.parent) == {JOB.name: set(), path.name: set(wrong)}
