"""What the invariants of the quorum take for right, and what for wrong."""

from __future__ import annotations

from streamkit.broker.raft.messages import RemoveVoterRequest
from streamkit.broker.raft.roles import Role
from streamkit.simulation.quorum_invariants import may_have_its_role
from tests.broker.raft.simulated_quorum import SimulatedQuorum
from tests.broker.raft.test_voter_changes import formed


def with_a_leader_that_is_taken_out() -> SimulatedQuorum:
    """Nobody has heard of it yet."""
    quorum = formed(3)
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    quorum.cut |= {(one, other) for one in quorum.nodes for other in quorum.nodes}
    quorum.admin(RemoveVoterRequest(leader.key))
    assert leader.raft.role is Role.LEADER and not leader.raft.is_voter
    return quorum


def test_r10_who_is_taken_out_leads_until_that_is_committed() -> None:
    quorum = with_a_leader_that_is_taken_out()
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    assert may_have_its_role(leader.raft)
    leader.raft.high_watermark = leader.raft.log.end_offset
    assert not may_have_its_role(leader.raft)


def test_r10_who_is_no_voter_does_not_stand() -> None:
    quorum = with_a_leader_that_is_taken_out()
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    leader.raft.role = Role.CANDIDATE
    assert not may_have_its_role(leader.raft)
