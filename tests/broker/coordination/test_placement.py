"""Groups live where Java says that they live."""

from __future__ import annotations

import pytest

from streamkit.broker.coordination.placement import java_hash, partition_for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("java.lang.String", 1195259493),
        ("polygenelubricants", -(1 << 31)),
        ("é", 233),
        ("😀", 1772899),
    ],
)
def test_the_hash_is_javas_string_hash_code(text: str, expected: int) -> None:
    assert java_hash(text) == expected


def test_the_smallest_integer_has_no_absolute_value_and_means_zero() -> None:
    assert partition_for("polygenelubricants", 50) == 0


def test_a_negative_hash_counts_by_its_absolute_value() -> None:
    assert java_hash("zzzzzz") == sum(122 * 31**power for power in range(6)) - (1 << 32)
    assert partition_for("zzzzzz", 50) == -java_hash("zzzzzz") % 50
