"""R1-R10 over seeds: faults of all kinds at once, then heal, then everybody agrees and goes on."""

from __future__ import annotations

import pytest

from tests.broker.raft.simulated_quorum import Faults, SimulatedQuorum


def has_converged(quorum: SimulatedQuorum) -> bool:
    """One active leader, and every node has committed all of its log."""
    leader = quorum.leader
    if leader is None or leader.raft is None:
        return False
    end = leader.raft.log.end_offset
    return all(
        node.raft is not None
        and node.raft.epoch == leader.raft.epoch
        and node.raft.high_watermark == node.raft.log.end_offset == end
        for node in quorum.nodes.values()
    )


def disturb(quorum: SimulatedQuorum) -> None:
    """One random deed: a crash, a restart, a partition, a snapshot, another temper of the network."""
    rng = quorum.random
    node = quorum.nodes[rng.choice(list(quorum.nodes))]
    match rng.randrange(10):
        case 0 | 1:
            if node.raft is not None:
                if rng.random() < quorum.faults.torn_ready:
                    node.crash_in_ready = True
                else:
                    node.crash()
        case 2 | 3 | 9:
            for one in quorum.nodes.values():
                if one.raft is None and rng.random() < 0.9:
                    one.start()
        case 4:
            quorum.cut.clear()
            quorum.isolate(*rng.sample(list(quorum.nodes), rng.randint(1, len(quorum.nodes) // 2 + 1)))
        case 5:
            ids = list(quorum.nodes)
            quorum.cut = {(a, b) for a in ids for b in ids if a != b and rng.random() < 0.3}
        case 6:
            quorum.cut.clear()
        case 7:
            node.take_snapshot()
        case 8:
            quorum.faults = Faults(
                loss=rng.choice([0, 0.02, 0.3]),
                duplication=rng.choice([0, 0.2]),
                delay_ms=rng.choice([2, 20, 300]),
                flush_ms=rng.choice([1, 20, 200]),
            )


def survive(seed: int, voters: int, observers: int = 0, deeds: int = 60) -> SimulatedQuorum:
    quorum = SimulatedQuorum(seed, voters, observers)
    quorum.start()
    quorum.run(quorum.random.uniform(0, 3_000))
    for _ in range(deeds):
        disturb(quorum)
        for _ in range(quorum.random.randint(1, 12)):
            quorum.run(quorum.random.uniform(5, 300))
            quorum.propose_everywhere()
    quorum.heal()
    for node in quorum.nodes.values():
        node.crash_in_ready = False
        if node.raft is None:
            node.start()
    assert quorum.run(20_000, lambda: has_converged(quorum)), f"seed {seed}: {list(quorum.nodes.values())}"
    before = len(quorum.acknowledged)
    quorum.propose_everywhere()
    assert quorum.run(5_000, lambda: len(quorum.acknowledged) > before and has_converged(quorum))
    quorum.check_acknowledged()
    return quorum


@pytest.mark.parametrize("seed", range(20))
def test_three_voters_survive_faults(seed: int) -> None:
    survive(seed, 3)


@pytest.mark.parametrize("seed", range(6))
def test_five_voters_and_an_observer_survive_faults(seed: int) -> None:
    survive(1_000 + seed, 5, 1)


def test_the_seeds_do_meet_what_they_are_for() -> None:
    """Elections, acknowledgements and snapshots happen in these runs, or they would prove nothing."""
    runs = [survive(seed, 3) for seed in range(5)]
    assert sum(len(run.acknowledged) for run in runs) > 200
    assert max(len(run.leaders) for run in runs) > 3
    assert any(run.snapshots for run in runs)
