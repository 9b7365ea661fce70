"""Words are counted, each by its one owner, across a restart."""

from __future__ import annotations

from apps.wordcount import app, lines, word_counts


def test_words_are_counted_across_a_restart() -> None:
    with app.test() as driver:
        driver.send(lines, "To be, or not to be")
        assert sorted((r.key, r.value) for r in driver.records(word_counts)) == [
            ("be", 1), ("be", 2), ("not", 1), ("or", 1), ("to", 1), ("to", 2),
        ]  # fmt: skip
        driver.read(word_counts)
        driver.restart()
        driver.send(lines, "be")
        assert driver.read(word_counts) == [3]
