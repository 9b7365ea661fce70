"""Whole runs: tapes are the runs, seeds draw tapes, and what goes wrong in them is found."""

from __future__ import annotations

import gc
from pathlib import Path

import msgspec
import pytest

from streamkit.simulation import corpus
from streamkit.simulation.draw import draw_tape
from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.run import play
from streamkit.simulation.runner import play_seeds, sum_up
from streamkit.simulation.shrink import ddmin, fails_alike, shrink
from streamkit.simulation.tape import Fault, Tape, decode_tape, encode_tape
from tests.simulation.mutations import mutated

SHORT_MS = 12_000
CORPUS = Path(__file__).parent / "corpus"


def test_a_few_seeds_of_one_node() -> None:
    summary = sum_up(play_seeds(range(8), until_ms=SHORT_MS, nodes=1, jobs=1))
    assert summary.violations == {}
    assert summary.repeated == 1
    assert summary.acknowledged > 8 * 100
    assert all(summary.evaluations.values())
    assert {"committed", "aborted", "positions", "take-overs"} <= set(summary.transactions)


def test_a_tape_is_the_run() -> None:
    tape = draw_tape(3, SHORT_MS, nodes=1)
    assert decode_tape(encode_tape(tape)) == tape
    assert play(tape).hash == play(decode_tape(encode_tape(tape))).hash
    assert play(tape).hash != play(draw_tape(4, SHORT_MS, nodes=1)).hash


def test_a_trace_tells_what_happened() -> None:
    lines: list[str] = []
    traced = play(draw_tape(3, SHORT_MS, nodes=1), lines.append)
    assert traced.hash == play(draw_tape(3, SHORT_MS, nodes=1)).hash, "looking must not change anything"
    assert any("is ready" in line for line in lines)
    assert any(line.split()[1] == "fault" for line in lines)


def test_a_run_leaves_nothing_behind() -> None:
    def loops() -> int:
        gc.collect()
        return sum(type(one) is VirtualLoop for one in gc.get_objects())

    before = loops()
    assert play(draw_tape(3, 3000, nodes=3)).violations == []
    assert loops() == before


def with_a_loss_of_power() -> Tape:
    faults = [
        Fault(at_ms=at_ms, kind=kind, lasts_ms=600, target="node:1", amount=0.5)
        for at_ms, kind in ((1000, "reset"), (2000, "stall"), (2500, "power"), (3000, "reset"))
    ]
    tape = draw_tape(5, 4500, nodes=1)
    return msgspec.structs.replace(tape, faults=tuple(faults), operations=tape.operations[:60])


def test_a_lost_write_is_found_and_shrunk() -> None:
    tape = with_a_loss_of_power()
    with mutated("acknowledge-before-fsync"):
        assert any(violation.startswith("lost-write") for violation in play(tape).violations)
        short = shrink(tape, fails_alike(["lost-write: of any value"]))
        assert any(violation.startswith("lost-write") for violation in play(short).violations)
    assert [fault.kind for fault in short.faults] == ["stall", "power"]
    assert len(short.operations) <= 5
    assert play(short).violations == []


def test_what_rotted_is_fetched_anew() -> None:
    rot = Fault(at_ms=6000, kind="bit-rot", lasts_ms=500, target="node:2", amount=0.5)
    tape = draw_tape(5, 9000, nodes=3)
    small = {**tape.shape.topic, "segment.bytes": "4096"}
    shape = msgspec.structs.replace(tape.shape, topic=small, min_insync_replicas=2)
    sends = tuple(one for one in tape.operations if one.kind in ("send", "burst"))
    report = play(msgspec.structs.replace(tape, shape=shape, faults=(rot,), operations=sends))
    assert report.faults == {"bit-rot": 1}
    assert report.violations == []


def test_ddmin_keeps_what_it_takes() -> None:
    kept = ddmin(tuple(range(40)), lambda items: 7 in items and 31 in items)
    assert kept == (7, 31)


@pytest.mark.parametrize("path", corpus.tapes(CORPUS), ids=lambda path: path.name)
def test_what_once_failed_does_not_fail_again(path: Path) -> None:
    assert play(corpus.load(path)).violations == []


def test_a_few_seeds_of_three_nodes() -> None:
    summary = sum_up(play_seeds(range(100, 102), until_ms=SHORT_MS, nodes=3, jobs=1))
    assert summary.violations == {}
    assert summary.elections >= 2 * 3
    assert not {"R1", "R4", "R5", "R6", "L1", "L2", "L3", "L4", "L7"} - set(summary.evaluations)
