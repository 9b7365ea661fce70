"""Every Python block of docs/streams.md runs, and its assertions hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "streams.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_block_runs(number: int) -> None:
    exec(compile(BLOCKS[number], f"{PAGE.name} block {number + 1}", "exec"), {"__name__": "docs"})  # noqa: S102
