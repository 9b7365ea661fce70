"""The tester is tested: each known defect is caught by the tape that is kept for it, and only with the
defect."""

from __future__ import annotations

import pytest

from streamkit.simulation.corpus import SUFFIX, load, tapes
from streamkit.simulation.run import play
from tests.simulation.mutations import TAPES, all_mutations, mutated


NAMES = [path.name.removesuffix(SUFFIX) for path in tapes(TAPES)]


@pytest.mark.parametrize("name", NAMES)
def test_a_known_defect_is_caught(name: str) -> None:
    tape = load(TAPES / f"{name}{SUFFIX}")
    with mutated(name):
        found = play(tape).violations
    assert found, f"{all_mutations()[name].meaning} And nobody noticed."
    assert not found[0].startswith("boot"), "a node that does not even start proves nothing"
    assert play(tape).violations == []
