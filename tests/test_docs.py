"""Every Python block of the pages about jobs runs, and nothing that is public is left out of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import streamkit
import streamkit as sk
from streamkit.processing.testing import TopologyDriver

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCKS = [
    pytest.param(block, f"{page} block {number}", id=f"{page}-{number}")
    for page in ("jobs.md", "streams.md", "connectors.md")
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL), 1
    )
]


@pytest.mark.parametrize(("block", "place"), BLOCKS)
def test_the_block_runs(block: str, place: str) -> None:
    exec(compile(block, place, "exec"), {"__name__": "docs"})  # noqa: S102


SAID = "".join((DOCS / page).read_text() for page in ("jobs.md", "streams.md", "connectors.md"))


@pytest.mark.parametrize("name", list(streamkit.public_names()))
def test_every_public_name_is_on_a_page(name: str) -> None:
    assert re.search(rf"\bsk\.{name}\b|`{name}\b", SAID)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind.__name__, name)
        for kind in (sk.Stream, sk.TableStream, sk.Context, TopologyDriver)
        for name in vars(kind)
        if not name.startswith("_") and name not in ("name", "node")
    ],
)
def test_every_method_is_on_a_page(kind: str, name: str) -> None:
    assert re.search(rf"\.{name}\b|`{name}\b", SAID), f"what does {kind}.{name} do?"
