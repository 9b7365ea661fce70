"""The follower's side: where logs part, and what each answer of the leader asks for."""

from __future__ import annotations

import itertools

import pytest

from streamkit.broker.log.epochs import EpochEntry, LeaderEpochs
from streamkit.broker.replication.follower import (
    AskBounds,
    FetchOn,
    RestartAt,
    Truncate,
    Wait,
    WaitForLeader,
    WaitForMetadata,
    diverged,
    failed,
    followed_high_watermark,
    out_of_range,
)
from streamkit.protocol.error_codes import ErrorCode

History = list[int]
"""A log as the leader epoch of each of its records."""


def epochs_of(history: History) -> LeaderEpochs:
    epochs = LeaderEpochs()
    for offset, epoch in enumerate(history):
        epochs.assign(epoch, offset)
    return epochs


def reconciled(follower: History, leader: History, leader_epoch: int) -> tuple[History, int]:
    """The follower's log once the leader sees no divergence, and how many rounds that took."""
    own, rounds = list(follower), 0
    known = epochs_of(leader)
    known.assign(leader_epoch, len(leader))
    while own:
        epochs = epochs_of(own)
        epoch, end = known.end_offset_for(epochs.latest, len(leader))
        if epoch == epochs.latest and end >= len(own):
            break
        step = diverged(
            leaders_epoch=epoch, leaders_end=end, epochs=epochs, log_end_offset=len(own), high_watermark=0
        )
        assert step.offset < len(own), "every round makes progress"
        own, rounds = own[: step.offset], rounds + 1
    return own, rounds


def histories(length: int, epochs: int) -> list[History]:
    """Every log up to this length whose epochs never decrease."""
    return [
        list(one)
        for n in range(length + 1)
        for one in itertools.combinations_with_replacement(range(epochs), n)
    ]


def test_whatever_two_logs_are_the_follower_ends_with_a_prefix_of_the_leaders() -> None:
    """Epochs identify what a leader wrote: two records of one offset and epoch are the same record, and so
    is all before them. Pairs that cannot come about under that rule are left out."""
    pairs = 0
    for follower, leader in itertools.product(histories(5, 4), repeat=2):
        if not can_both_exist(follower, leader):
            continue
        pairs += 1
        own, rounds = reconciled(follower, leader, leader_epoch=9)
        assert own == leader[: len(own)]
        assert len(own) == common_prefix(follower, leader)
        assert rounds <= 4
    assert pairs > 1000


def can_both_exist(one: History, other: History) -> bool:
    """Log matching: the same epoch at the same offset means the same records up to there, and the leader of
    an epoch began it at one offset."""
    for offset, (a, b) in enumerate(zip(one, other, strict=False)):
        if a == b and one[:offset] != other[:offset]:
            return False
    starts_one, starts_other = dict(first_offsets(one)), dict(first_offsets(other))
    return all(starts_other.get(epoch, start) == start for epoch, start in starts_one.items())


def first_offsets(history: History) -> list[tuple[int, int]]:
    return [(epoch, history.index(epoch)) for epoch in dict.fromkeys(history)]


def common_prefix(one: History, other: History) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def test_kip_279_a_follower_that_does_not_know_the_leaders_epoch_steps_back_to_one_it_knows() -> None:
    own = LeaderEpochs([EpochEntry(0, 0), EpochEntry(2, 10)])
    step = diverged(leaders_epoch=1, leaders_end=15, epochs=own, log_end_offset=20, high_watermark=5)
    assert step == Truncate(10)


def test_a_leader_that_knows_none_of_the_epochs_leaves_what_is_committed() -> None:
    own = LeaderEpochs([EpochEntry(4, 0)])
    step = diverged(leaders_epoch=-1, leaders_end=-1, epochs=own, log_end_offset=20, high_watermark=7)
    assert step == Truncate(7)


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (0, 15, Truncate(15)),
        (0, 20, FetchOn()),
        (18, 30, FetchOn()),
        (20, 20, FetchOn()),
        (25, 30, RestartAt(25)),
    ],
)
def test_bounds_of_the_leader(start: int, end: int, step: object) -> None:
    assert out_of_range(leaders_start=start, leaders_end=end, log_end_offset=20) == step


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (ErrorCode.NONE, FetchOn()),
        (ErrorCode.OFFSET_OUT_OF_RANGE, AskBounds()),
        (ErrorCode.FENCED_LEADER_EPOCH, WaitForMetadata()),
        (ErrorCode.UNKNOWN_LEADER_EPOCH, WaitForLeader()),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, WaitForLeader()),
        (ErrorCode.KAFKA_STORAGE_ERROR, Wait()),
        (ErrorCode.UNKNOWN_TOPIC_ID, WaitForLeader()),
    ],
)
def test_errors(error: ErrorCode, step: object) -> None:
    assert failed(error) == step


@pytest.mark.parametrize(
    ("leaders", "own", "end", "then"), [(5, 3, 9, 5), (12, 3, 9, 9), (2, 3, 9, 3), (0, 0, 0, 0)]
)
def test_the_high_watermark_follows_up_to_the_logs_end(leaders: int, own: int, end: int, then: int) -> None:
    assert followed_high_watermark(leaders=leaders, own=own, log_end_offset=end) == then
