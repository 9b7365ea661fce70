"""Nexmark: every query on the same events, judged by DuckDB, and how fast it takes them.

    python -m tests.benchmarks.nexmark [QUERY ...] [--events 1000000] [--json]

In one process, in memory: the worker's tasks, with encoding, repartition topics, changelogs and commits, but
without a broker. The rate is that of the records of a query's own input topics. The exit code is 1 where an
answer differs, and the row that does is shown.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from apps.nexmark.generator import events
from streamkit.processing.worker.worker import GC_THRESHOLDS
from tests.apps.nexmark.judge import SQL, Judge
from tests.apps.nexmark.running import SIDE, Moment, moments, run

COUNT = 1_000_000
MOMENTS = 5
"""How many come at a time: a commit every fifty thousand events, about as often as a worker's."""


class Result(msgspec.Struct, frozen=True):
    query: str
    read: int
    written: int
    per_second: float
    per_cpu_second: float
    difference: str | None
    """The first, or None."""


def measured(queries: list[str], count: int) -> Iterator[Result]:
    judge = Judge(events(count), SIDE)
    happened = moments(events(count))
    with _memory_as_in_a_worker():
        for query in queries:
            yield _judged(query, happened, judge)
            gc.collect()  # an app is a web of references, and its log holds every record


def _judged(query: str, happened: list[Moment], judge: Judge) -> Result:
    done = run(query, happened, together=MOMENTS)
    return Result(
        query=query,
        read=done.read,
        written=len(done.written),
        per_second=done.read / done.wall_s,
        per_cpu_second=done.read / done.cpu_s,
        difference=judge.difference(query, done.written),
    )


@contextmanager
def _memory_as_in_a_worker() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.unfreeze()  # or DuckDB complains at exit of what is left


def _heading() -> str:
    return f"{'query':6} {'read':>9} {'written':>9} {'events/s':>10} {'/CPU second':>12}  answer"


def _line(result: Result) -> str:
    return (
        f"{result.query:6} {result.read:9,} {result.written:9,} {result.per_second:10,.0f} "
        f"{result.per_cpu_second:12,.0f}  {result.difference or 'equal'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.nexmark", description=__doc__)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help=f"of {', '.join(SQL)}; all of them")
    parser.add_argument("--events", type=int, default=COUNT, help="how many; a million")
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    options = parser.parse_args()
    if unknown := set(options.queries) - set(SQL):
        parser.error(f"no query {', '.join(sorted(unknown))}; there are {', '.join(SQL)}")
    table = sys.stderr if options.json else sys.stdout
    began, results = time.monotonic(), list[Result]()
    print(_heading(), file=table, flush=True)
    for result in measured(options.queries or list(SQL), options.events):
        results.append(result)
        print(_line(result), file=table, flush=True)
    equal = sum(result.difference is None for result in results)
    print(f"{equal} of {len(results)} equal, {time.monotonic() - began:.0f} s in all", file=table)
    if options.json:
        print(msgspec.json.encode(results).decode())
    return 0 if equal == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
