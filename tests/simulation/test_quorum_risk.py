"""A lost disk and a removal together never leave voters of whom no majority is."""

from __future__ import annotations

from streamkit.broker.raft.voters import ReplicaKey, Voter, VoterSet
from streamkit.simulation.loop import virtual_loop
from streamkit.simulation.quorum_risk import LASTING_S, MISSED_S, QuorumRisk

KEYS = {node: ReplicaKey(node, bytes([node]) * 16) for node in range(1, 6)}


def voters(*nodes: int) -> VoterSet:
    return VoterSet(Voter(KEYS[node]) for node in nodes)


def test_a_majority_of_all_known_voters_keeps_its_disks() -> None:
    with virtual_loop() as loop:
        risk = QuorumRisk(loop)
        others = [KEYS[1], KEYS[3]]
        assert risk.may_lose(2, [voters(1, 2, 3)], others)
        assert risk.may_lose(2, [voters(1, 3)], others), "it is no voter"
        assert not risk.may_lose(2, [voters(1, 2, 3), voters(2, 3)], others), "a change that is under way"
        assert not risk.may_lose(2, [voters(1, 2, 3)], [KEYS[1], ReplicaKey(3, bytes(15) + b"x")])


def test_a_removal_that_was_asked_for_may_still_come() -> None:
    with virtual_loop() as loop:
        risk = QuorumRisk(loop)
        risk.removal_asked(1)
        others = [KEYS[1], KEYS[3]]
        assert not risk.may_lose(2, [voters(1, 2, 3)], others)
        assert risk.may_lose(1, [voters(1, 2, 3)], [KEYS[2], KEYS[3]]), "of the very voter that goes"
        assert risk.may_lose(2, [voters(1, 2, 3, 4, 5)], [KEYS[node] for node in (1, 3, 4, 5)])
        risk.removal_answered(1)
        assert risk.may_lose(2, [voters(1, 2, 3)], others)
        risk.removal_asked(1)
        loop.now_s += LASTING_S
        assert risk.may_lose(2, [voters(1, 2, 3)], others)


def test_nobody_is_taken_out_right_after_a_loss() -> None:
    with virtual_loop() as loop:
        risk = QuorumRisk(loop)
        assert risk.may_remove
        risk.disk_lost()
        assert not risk.may_remove
        loop.now_s += MISSED_S
        assert risk.may_remove
