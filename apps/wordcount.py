"""Counting words: the smallest job with state.

    streamkit worker apps.wordcount:app --embedded
    echo "to be or not to be" | streamkit topic produce lines
    streamkit topic consume word-counts

Each word moves to the partition that owns it (`group_by`), so its count has one owner. The table is restored
from its changelog after a crash or a move to another worker.
"""

from __future__ import annotations

import re

import streamkit as sk

app = sk.App("wordcount")

lines = app.topic("lines", value=str)
word_counts = app.topic("word-counts", key=str, value=int)
counts = app.table("counts", key=str, default=int)


def words(line: str) -> list[str]:
    return re.findall(r"\w+", line.lower())


def itself(word: str) -> str:
    return word


@app.agent(app.stream(lines).flat_map(words).group_by(itself), sink=word_counts)
def count(word: str) -> int:
    counts[word] += 1
    return counts[word]


if __name__ == "__main__":
    app.run()
