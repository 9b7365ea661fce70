"""What the README shows is run: its job and its test, on the driver."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_readmes_job_passes_the_readmes_test() -> None:
    job, test = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[:2]
    module: dict[str, object] = {"__name__": "shop"}
    exec(compile(job + test, str(README), "exec"), module)  # noqa: S102
    run = module["test_revenue"]
    assert callable(run)
    run()
