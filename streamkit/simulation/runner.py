"""Many seeds on several processes, and what they add up to.

A run proves something only if enough happened in it, and all of them together only if every kind of fault
and every invariant had its turn. Of each twenty seeds one is played twice: the same tape must leave the
same trace.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import msgspec

from streamkit.simulation.draw import draw_tape
from streamkit.simulation.faults import MENU
from streamkit.simulation.run import Report, play
from streamkit.simulation.variety import VARIANTS

REPEATED_EVERY = 20
EVALUATED = (
    "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10",
    "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10",
    "G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9",
)  # fmt: skip
"""What every whole run must have evaluated."""
BETWEEN_NODES = ("R2", "R4", "R9", "L4", "L8", "L9")
TRANSACTIONS = ("committed", "aborted", "unknown", "positions", "take-overs", "invalid_producer_epoch")
"""What must have become of transactions in every whole run."""
EFFECTS = {
    "bursts": 1, "compactions": 1, "snapshots fetched": 3, "voters removed": 3, "voters added": 3,
}  # fmt: skip
"""What must have happened in every whole run, with so many nodes at least."""
MOST_NODES = 5
LEAST_FOR_ZEROES = 50
"""With fewer seeds than this it may be chance that something never happened."""


class Assignment(msgspec.Struct, frozen=True):
    seed: int
    until_ms: int
    nodes: int | None
    repeat: bool


class Summary(msgspec.Struct, kw_only=True):
    seeds: int = 0
    thin: int = 0
    """Seeds in which not enough happened."""
    repeated: int = 0
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    elections: int = 0
    virtual_s: float = 0.0
    transactions: dict[str, int] = {}
    variants: dict[str, int] = {}
    """In how many seeds each was drawn."""
    effects: dict[str, int] = {}
    faults: dict[str, int] = {}
    evaluations: dict[str, int] = {}
    violations: dict[int, list[str]] = {}
    """Seed → what was found."""
    never: list[str] = []
    """What should have happened in so many seeds, and never did."""

    @property
    def is_good(self) -> bool:
        return not self.violations and not self.never


def play_seed(assignment: Assignment) -> Report:
    tape = draw_tape(assignment.seed, assignment.until_ms, nodes=assignment.nodes)
    report = play(tape)
    if assignment.repeat:
        again = play(tape)
        if again.hash != report.hash:
            report.violations.append(f"nondeterminism: trace {report.hash}, and {again.hash} the second time")
    gc.collect()  # a run leaves cycles, and none of it while it goes on
    return report


def play_seeds(
    seeds: Iterable[int], *, until_ms: int, nodes: int | None = None, jobs: int = 2
) -> Iterator[Report]:
    """A report for each seed, in their order."""
    assignments = [
        Assignment(seed, until_ms, nodes, number % REPEATED_EVERY == 0) for number, seed in enumerate(seeds)
    ]
    with _mapper(min(jobs, len(assignments))) as mapped:
        yield from mapped(play_seed, assignments)


@contextmanager
def _mapper(jobs: int) -> Iterator[Callable[..., Iterable[Report]]]:
    if jobs <= 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def sum_up(reports: Iterable[Report], *, nodes: int | None = None) -> Summary:
    summary = Summary()
    transactions: Counter[str] = Counter()
    variants: Counter[str] = Counter()
    effects: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    evaluations: Counter[str] = Counter()
    for number, report in enumerate(reports):
        summary.seeds += 1
        summary.repeated += number % REPEATED_EVERY == 0
        summary.thin += not report.counts
        summary.acknowledged += report.acknowledged
        summary.failed += report.failed
        summary.unknown += report.unknown
        summary.elections += report.elections
        summary.virtual_s += report.virtual_s
        transactions.update(report.transactions)
        variants.update(report.variants)
        effects.update(report.effects)
        faults.update(report.faults)
        evaluations.update(report.evaluations)
        if report.violations:
            summary.violations[report.seed] = report.violations
    summary.transactions = dict(sorted(transactions.items()))
    summary.effects = dict(sorted(effects.items()))
    summary.variants = dict(sorted(variants.items()))
    summary.faults = dict(sorted(faults.items()))
    summary.evaluations = dict(sorted(evaluations.items()))
    if summary.seeds >= LEAST_FOR_ZEROES:
        possible = [kind for kind, entry in MENU.items() if entry.nodes <= (nodes or MOST_NODES)]
        summary.never = [f"fault {kind}" for kind in possible if not faults[kind]]
        summary.never += [
            f"variant {name}"
            for name, variant in VARIANTS.items()
            if not variants[name] and variant.nodes <= (nodes or MOST_NODES)
        ]
        summary.never += [
            name for name, least in EFFECTS.items() if not effects[name] and least <= (nodes or MOST_NODES)
        ]
        summary.never += [f"transactions {name}" for name in TRANSACTIONS if not transactions[name]]
        summary.never += [
            f"invariant {name}"
            for name in EVALUATED
            if not evaluations[name] and not (nodes == 1 and name in BETWEEN_NODES)
        ]
    return summary
