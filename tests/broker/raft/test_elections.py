"""Elections one by one: who stands when, and whom nobody disturbs."""

from __future__ import annotations

import pytest

from streamkit.broker.raft.ready import Resign
from streamkit.broker.raft.roles import Role
from tests.broker.raft.simulated_quorum import SimulatedNode, SimulatedQuorum
from tests.broker.raft.test_simulated_quorum import has_converged
from tests.broker.raft.test_voter_changes import formed


def the_leader(quorum: SimulatedQuorum) -> SimulatedNode:
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    return leader


def epoch_of(node: SimulatedNode) -> int:
    assert node.raft is not None
    return node.raft.epoch


def test_a_node_alone_leads_at_once() -> None:
    quorum = SimulatedQuorum(1, voters=1)
    quorum.start()
    assert quorum.run(5, lambda: quorum.leader is not None), "as soon as its first records are on disk"


@pytest.mark.parametrize("seed", range(20))
def test_three_nodes_elect_a_leader_in_less_than_an_election_timeout(seed: int) -> None:
    """They ask each other first; when a majority knows of no leader, nobody waits for the timeout."""
    quorum = SimulatedQuorum(seed)
    quorum.start()
    assert quorum.run(800, lambda: quorum.leader is not None)


def test_nodes_started_a_minute_apart_form_one_quorum() -> None:
    quorum = SimulatedQuorum(5)
    quorum.start(2)
    assert not quorum.run(60_000, lambda: quorum.leader is not None)
    assert epoch_of(quorum.nodes[2]) == 0
    quorum.start(3)
    assert quorum.run(2_000, lambda: quorum.leader is not None)
    quorum.run(60_000)
    quorum.start(1)
    assert quorum.run(2_000, lambda: has_converged(quorum))


def test_r9_an_isolated_follower_raises_no_epoch() -> None:
    quorum = formed(6)
    leader = the_leader(quorum)
    alone = next(node for node in quorum.nodes.values() if node is not leader)
    epoch = epoch_of(leader)
    quorum.isolate(alone.id)
    quorum.run(60_000)
    assert epoch_of(alone) == epoch
    quorum.cut.clear()
    assert quorum.run(5_000, lambda: has_converged(quorum))
    assert the_leader(quorum) is leader and epoch_of(leader) == epoch, "its return disturbs nobody"


def test_r9_an_isolated_leader_resigns_and_raises_no_epoch() -> None:
    quorum = formed(7)
    leader = the_leader(quorum)
    epoch = epoch_of(leader)
    quorum.isolate(leader.id)
    assert leader.raft is not None
    raft = leader.raft
    assert quorum.run(3_500, lambda: raft.role is not Role.LEADER), "check-quorum"
    quorum.run(60_000)
    assert epoch_of(leader) == epoch
    assert the_leader(quorum) is not leader


def test_an_asymmetric_cut_does_not_unseat_a_leader_that_most_reach() -> None:
    quorum = formed(8)
    leader = the_leader(quorum)
    epoch = epoch_of(leader)
    deaf = next(node for node in quorum.nodes.values() if node is not leader)
    quorum.cut = {(leader.id, deaf.id)}
    quorum.run(30_000)
    assert the_leader(quorum) is leader and epoch_of(leader) == epoch


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_that_resigns_is_followed_by_another_at_once(seed: int) -> None:
    quorum = formed(seed)
    leader = the_leader(quorum)
    epoch = epoch_of(leader)
    leader.step(Resign())
    assert quorum.run(500, lambda: quorum.leader is not None)
    assert epoch_of(the_leader(quorum)) == epoch + 1


@pytest.mark.parametrize("seed", range(30))
def test_a_killed_leader_is_replaced_long_before_the_fetch_timeout(seed: int) -> None:
    """Its closed door tells; and no vote is split for long."""
    quorum = formed(seed)
    the_leader(quorum).crash()
    assert quorum.run(quorum.timeouts.fetch_ms / 2, lambda: quorum.leader is not None)
