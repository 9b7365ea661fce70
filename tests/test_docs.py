"""Every Python block of the pages about streams and connectors runs, and its assertions hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCKS = [
    pytest.param(block, f"{page} block {number}", id=f"{page}-{number}")
    for page in ("streams.md", "connectors.md")
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL), 1
    )
]


@pytest.mark.parametrize(("block", "place"), BLOCKS)
def test_the_block_runs(block: str, place: str) -> None:
    exec(compile(block, place, "exec"), {"__name__": "docs"})  # noqa: S102
