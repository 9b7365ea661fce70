"""Voters come, go and lose their disks while everything else fails, too (KIP-853, R8, R10)."""

from __future__ import annotations

import pytest

from streamkit.broker.raft.messages import AddVoterRequest, RemoveVoterRequest, VoterChangeReply
from streamkit.broker.raft.voters import ReplicaKey, Voter
from streamkit.protocol.error_codes import ErrorCode
from tests.broker.raft.simulated_quorum import SimulatedQuorum
from tests.broker.raft.test_simulated_quorum import disturb, has_converged


def formed(seed: int, voters: int = 3, observers: int = 0) -> SimulatedQuorum:
    """A quorum whose log records the directory of each of its voters."""
    quorum = SimulatedQuorum(seed, voters, observers)
    quorum.start()
    assert quorum.run(10_000, lambda: are_recorded(quorum) and has_converged(quorum))
    return quorum


def are_recorded(quorum: SimulatedQuorum) -> bool:
    leader = quorum.leader
    if leader is None or leader.raft is None or leader.raft.log.voters is None:
        return False
    return all(voter.key.has_directory for voter in leader.raft.voters)


def lost_voters(quorum: SimulatedQuorum) -> list[ReplicaKey]:
    """Voters whose disk is gone."""
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    return [v.key for v in leader.raft.voters if v.key != quorum.nodes[v.key.id].key]


def are_all_intact(quorum: SimulatedQuorum) -> bool:
    """Whether a disk may be lost: every node runs, and none has voters in mind that lost theirs."""
    for node in quorum.nodes.values():
        recorded = None if node.raft is None else node.raft.log.voters
        if node.raft is None or recorded is None or recorded.offset >= node.raft.high_watermark:
            return False
        if any(voter.key != quorum.nodes[voter.key.id].key for voter in recorded.voters):
            return False
    return True


def change(quorum: SimulatedQuorum) -> None:
    """One random change of the voters, or a disk that is lost; a majority stays intact."""
    leader, rng = quorum.leader, quorum.random
    if leader is None or leader.raft is None or not are_recorded(quorum):
        return
    voters, lost = leader.raft.voters, lost_voters(quorum)
    outside = [n for n in quorum.nodes.values() if n.id not in voters]
    match rng.randrange(3):
        case 0 if outside:
            quorum.admin(AddVoterRequest(Voter(rng.choice(outside).key), 3_000))
        case 1 if len(voters) > 3:
            quorum.admin(RemoveVoterRequest(lost[0] if lost else rng.choice(list(voters)).key))
        case 2 if are_all_intact(quorum):
            node = quorum.nodes[rng.choice(list(quorum.nodes))]
            if node is not leader:
                if node.raft is not None:
                    node.crash()
                node.wipe()
                node.start()


@pytest.mark.parametrize("seed", range(10))
def test_voters_change_under_faults(seed: int) -> None:
    quorum = formed(seed, 3, 2)
    for _ in range(50):
        disturb(quorum)
        change(quorum)
        for _ in range(quorum.random.randint(1, 12)):
            quorum.run(quorum.random.uniform(5, 200))
            quorum.propose_everywhere()
    quorum.heal()
    for node in quorum.nodes.values():
        node.crash_in_ready = False
        if node.raft is None:
            node.start()
    assert quorum.run(30_000, lambda: has_converged(quorum)), f"seed {seed}: {list(quorum.nodes.values())}"
    quorum.check_acknowledged()


def test_r10_a_wiped_voter_observes_until_it_is_admitted() -> None:
    quorum = formed(1)
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    wiped = next(node for node in quorum.nodes.values() if node is not leader)
    old = wiped.key
    wiped.crash()
    wiped.wipe()
    wiped.start()
    quorum.run(5_000)
    assert wiped.raft is not None and not wiped.raft.is_voter
    assert wiped.raft.log.end_offset == leader.raft.log.end_offset, "it has all, and no say"
    assert not any(epoch > leader.raft.epoch for key, epoch in quorum.votes if key == wiped.key)
    removed = quorum.admin(RemoveVoterRequest(old))
    assert quorum.run(5_000, lambda: removed in quorum.admin_replies)
    added = quorum.admin(AddVoterRequest(Voter(wiped.key), 5_000))
    assert quorum.run(5_000, lambda: added in quorum.admin_replies)
    assert [error_of(quorum, token) for token in (removed, added)] == [ErrorCode.NONE, ErrorCode.NONE]
    assert quorum.run(5_000, lambda: wiped.raft is not None and wiped.raft.is_voter)


def error_of(quorum: SimulatedQuorum, token: int) -> ErrorCode:
    reply = quorum.admin_replies[token]
    assert isinstance(reply, VoterChangeReply)
    return reply.error


def test_r8_a_second_change_waits_for_the_first() -> None:
    quorum = formed(2, 3, 2)
    quorum.isolate(1, 2, 3)
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    others = [n for n in (1, 2, 3) if n != leader.id]
    quorum.cut |= {(leader.id, n) for n in others}
    first = quorum.admin(RemoveVoterRequest(quorum.nodes[others[0]].key))
    second = quorum.admin(RemoveVoterRequest(quorum.nodes[others[1]].key))
    assert first not in quorum.admin_replies, "it waits for its commit"
    assert error_of(quorum, second) is ErrorCode.REQUEST_TIMED_OUT


def test_a_leader_that_is_removed_commits_that_and_goes() -> None:
    quorum = formed(3)
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    removed = quorum.admin(RemoveVoterRequest(leader.key))
    assert quorum.run(5_000, lambda: removed in quorum.admin_replies)
    assert error_of(quorum, removed) is ErrorCode.NONE
    assert quorum.run(5_000, lambda: quorum.leader not in (None, leader) and has_converged(quorum))
    assert not leader.raft.is_voter


@pytest.mark.parametrize("takes_out_itself", [True, False])
def test_nobody_is_taken_out_if_too_few_of_the_others_are_alive(takes_out_itself: bool) -> None:
    quorum = formed(5)
    leader = quorum.leader
    assert leader is not None and leader.raft is not None
    follower, lost = (node for node in quorum.nodes.values() if node is not leader)
    old = lost.key
    lost.crash()
    lost.wipe()
    quorum.run(quorum.timeouts.fetch_ms + 500)
    refused = quorum.admin(RemoveVoterRequest((leader if takes_out_itself else follower).key))
    assert error_of(quorum, refused) is ErrorCode.REQUEST_TIMED_OUT, "it could never be committed"
    assert leader.raft.log.voters is not None and len(leader.raft.voters) == 3
    removed = quorum.admin(RemoveVoterRequest(old))
    assert quorum.run(5_000, lambda: removed in quorum.admin_replies)
    assert error_of(quorum, removed) is ErrorCode.NONE, "those who remain are all alive"


def test_what_cannot_be_changed_is_refused() -> None:
    quorum = formed(4, 1, 1)
    own, other = quorum.nodes[1].key, quorum.nodes[2].key
    for request, error in (
        (AddVoterRequest(Voter(own), 1_000), ErrorCode.DUPLICATE_VOTER),
        (AddVoterRequest(Voter(ReplicaKey(7)), 1_000), ErrorCode.INVALID_REQUEST),
        (RemoveVoterRequest(other), ErrorCode.VOTER_NOT_FOUND),
        (RemoveVoterRequest(own), ErrorCode.INVALID_REQUEST),
    ):
        assert error_of(quorum, quorum.admin(request)) is error
    absent = quorum.admin(AddVoterRequest(Voter(ReplicaKey(9, bytes([9] * 16))), 500))
    assert quorum.run(2_000, lambda: absent in quorum.admin_replies)
    assert error_of(quorum, absent) is ErrorCode.REQUEST_TIMED_OUT, "it never caught up"
    assert 9 not in [replica.key.id for replica in quorum.nodes[1].raft.replicas], "nor was it ever heard of"
