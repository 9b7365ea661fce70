"""The same seed is the same run, in another process with other hashes of strings too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from tests.simulation.test_single_node import lives_through_power_cuts, simulate
print([simulate(seed, lives_through_power_cuts) for seed in range(3)])
"""


def run_with_hash_seed(number: int) -> str:
    environment = {"PYTHONHASHSEED": str(number), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout


def test_the_trace_does_not_depend_on_the_hashes_of_strings() -> None:
    assert run_with_hash_seed(1) == run_with_hash_seed(2) != ""
