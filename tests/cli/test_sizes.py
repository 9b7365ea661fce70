"""Sizes as people write them."""

from __future__ import annotations

import pytest

from streamkit.cli.sizes import parse_size, shown_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500000", 500_000),
        ("500kB", 500_000),
        ("20MB", 20_000_000),
        ("1.5 GB", 1_500_000_000),
        ("64KiB", 65_536),
        ("2mib", 2_097_152),
        ("7b", 7),
    ],
)
def test_what_is_understood(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 apple", "1e6", "20MB/s"])
def test_what_is_not(text: str) -> None:
    assert parse_size(text) is None


@pytest.mark.parametrize(
    ("size", "text"), [(7, "7 B"), (1_500, "1.5 kB"), (20_000_000, "20 MB"), (3 * 10**12, "3 TB")]
)
def test_how_they_are_shown(size: int, text: str) -> None:
    assert shown_size(size) == text
