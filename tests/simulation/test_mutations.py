"""The tester is tested: each known defect is caught by the tape that is kept for it, and only with the
defect."""

from __future__ import annotations

import pytest

from streamkit.simulation.corpus import SUFFIX, load
from streamkit.simulation.run import play
from tests.simulation.mutations import TAPES, all_mutations, mutated, variations


@pytest.mark.parametrize("name", all_mutations())
def test_a_known_defect_is_caught(name: str) -> None:
    meaning = all_mutations()[name].meaning
    for tape in variations(load(TAPES / f"{name}{SUFFIX}")):
        with mutated(name):
            found = play(tape).violations
        if found:
            assert not found[0].startswith("boot"), "a node that does not even start proves nothing"
            assert play(tape).violations == []
            return
    pytest.fail(f"{meaning} And nobody noticed.")
