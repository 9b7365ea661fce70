"""Nexmark: every query on the same events, checked, and how many of its input records a second it takes.

    python -m tests.benchmarks.nexmark [events]

In one process, in memory, encoding and repartition topics included, without a broker.
"""

from __future__ import annotations

import sys

from apps.nexmark.generator import events
from tests.apps.nexmark.answers import SQL, answer, answers, rows_of
from tests.apps.nexmark.running import SIDE, run

COUNT = 1_000_000


def main(count: int) -> int:
    database = answers(events(count), SIDE)
    wrong = 0
    print(f"{'query':6} {'records':>10} {'rows':>10} {'seconds':>8} {'records/s':>11}  as SQL says")
    for query in SQL:
        written, read, took_s = run(query, events(count))
        is_right = rows_of(query, written) == answer(database, query)
        wrong += not is_right
        print(
            f"{query:6} {read:10,} {len(written):10,} {took_s:8.1f} {read / took_s:11,.0f}  "
            f"{'yes' if is_right else 'NO'}",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT))
