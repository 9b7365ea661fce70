"""`make sim-proof`: for each defect the first seed that catches it, and its tape, cut shorter."""

from __future__ import annotations

import sys
import time

from streamkit.simulation.corpus import save
from streamkit.simulation.run import play
from streamkit.simulation.shrink import cut
from streamkit.simulation.tape import Tape
from tests.simulation.mutations import TAPES, Mutation, all_mutations, mutated

SEEDS = 500
UNTIL_MS = 20_000
SHARES = (0.25, 0.5, 0.75)


def is_caught(name: str, tape: Tape) -> list[str]:
    """What is found with the defect, if nothing is found without it."""
    with mutated(name):
        violations = play(tape).violations
    return violations if violations and not play(tape).violations else []


def shortened(name: str, tape: Tape) -> Tape:
    """The first part of it, if that is enough."""
    for share in SHARES:
        shorter = cut(tape, int(tape.until_ms * share))
        if is_caught(name, shorter):
            return shorter
    return tape


def prove(name: str, mutation: Mutation) -> bool:
    began_s = time.monotonic()
    for seed in range(SEEDS):
        tape = mutation.tape(seed, UNTIL_MS)
        violations = is_caught(name, tape)
        if violations:
            path = save(TAPES, name, shortened(name, tape))
            print(
                f"{mutation.number:>2} {name}: seed {seed}, {time.monotonic() - began_s:.0f} s, {path.name}: "
                f"{violations[0]}",
                flush=True,
            )
            return True
    print(f"{mutation.number:>2} {name}: NOT CAUGHT in {SEEDS} seeds", flush=True)
    return False


def main(words: list[str]) -> int:
    chosen = {name: one for name, one in all_mutations().items() if not words or name in words}
    caught = [prove(name, one) for name, one in chosen.items()]
    return 0 if all(caught) else 1


sys.exit(main(sys.argv[1:]))
