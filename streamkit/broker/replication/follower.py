"""A partition as a follower sees it: from where it fetches, and what each answer asks of its log.

The idea. A follower's log is a prefix of its leader's, or on its way to become one. Each fetch carries the
offset it is to continue at and the leader epoch of the last batch below it. The leader compares that pair
with its own history; if they part, it answers with the *diverging epoch*: the largest epoch not above the
follower's that it knows, and where that ended. The follower cuts its log at the lower of the two ends and
asks again, until the pair is part of the leader's history. No high watermark is involved, which is what lost
data before (KIP-101, KIP-279, KIP-595).

    a diverging epoch          truncate to where both logs agree at most
    records                    append them as they are, then flush, then fetch on
    OFFSET_OUT_OF_RANGE        ask the leader for its bounds: its log ends before ours (only after an unclean
                               election): truncate to its end; it starts behind ours: start again there
    another epoch              FENCED: wait for metadata; UNKNOWN: the leader has not heard of it, try again

Invariants:
    nothing is appended or truncated for an answer of another leader epoch than the present one
    the high watermark is at most the leader's and at most the log's end
"""

from __future__ import annotations

from typing import Final

import msgspec

from streamkit.broker.log.epochs import LeaderEpochs
from streamkit.protocol.error_codes import ErrorCode

UNKNOWN: Final = -1


class FetchPosition(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a follower says of itself in a fetch."""

    offset: int
    last_fetched_epoch: int
    leader_epoch: int
    log_start_offset: int
    high_watermark: int


class Truncate(msgspec.Struct, frozen=True):
    """Cut the log there, then fetch on."""

    offset: int


class RestartAt(msgspec.Struct, frozen=True):
    """Drop the log and begin an empty one there, then fetch on."""

    offset: int


class FetchOn(msgspec.Struct, frozen=True):
    """Nothing to change: fetch from the log's end."""


class AskBounds(msgspec.Struct, frozen=True):
    """Ask the leader where its log starts and ends."""


class Wait(msgspec.Struct, frozen=True):
    """Fetch nothing of this partition for a while."""


class WaitForLeader(msgspec.Struct, frozen=True):
    """Ask again soon: the leader has yet to hear what we know already, and commits nothing without us."""


class WaitForMetadata(msgspec.Struct, frozen=True):
    """Fetch nothing of this partition until its metadata has changed."""


Step = Truncate | RestartAt | FetchOn | AskBounds | Wait | WaitForLeader | WaitForMetadata


NOT_HEARD_YET = (
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.UNKNOWN_TOPIC_ID,
)


class PartitionFollower:
    """The follower's state of one partition, for one leader epoch. `leader_id` is -1 while nobody leads."""

    __slots__ = ("leader_epoch", "leader_id")

    def __init__(self, *, leader_id: int, leader_epoch: int) -> None:
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch

    def position(
        self, *, log_start_offset: int, log_end_offset: int, epochs: LeaderEpochs, high_watermark: int
    ) -> FetchPosition:
        """Where to fetch next; everything below is durable here, or nobody asks for this yet."""
        return FetchPosition(
            offset=log_end_offset,
            last_fetched_epoch=epochs.latest,
            leader_epoch=self.leader_epoch,
            log_start_offset=log_start_offset,
            high_watermark=high_watermark,
        )


def diverged(
    *, leaders_epoch: int, leaders_end: int, epochs: LeaderEpochs, log_end_offset: int, high_watermark: int
) -> Truncate:
    """The largest epoch not above ours that the leader knows is `leaders_epoch`; it ends at `leaders_end`."""
    if leaders_end == UNKNOWN:
        return Truncate(high_watermark)  # it knows none of our epochs; what is committed it must have
    epoch, end_offset = epochs.end_offset_for(leaders_epoch, log_end_offset)
    if end_offset == UNKNOWN:
        return Truncate(min(leaders_end, log_end_offset))
    if epoch != leaders_epoch:
        return Truncate(min(end_offset, log_end_offset))  # the next fetch compares what is left then
    return Truncate(min(end_offset, leaders_end, log_end_offset))


def out_of_range(*, leaders_start: int, leaders_end: int, log_end_offset: int) -> Step:
    """What to do once the leader has said where its log starts and ends."""
    if leaders_end < log_end_offset:
        return Truncate(leaders_end)
    if leaders_start > log_end_offset:
        return RestartAt(leaders_start)
    return FetchOn()


def failed(error: ErrorCode) -> Step:
    """What an error in a fetch's answer asks for."""
    if error is ErrorCode.NONE:
        return FetchOn()
    if error is ErrorCode.OFFSET_OUT_OF_RANGE:
        return AskBounds()
    if error is ErrorCode.FENCED_LEADER_EPOCH:
        return WaitForMetadata()
    return WaitForLeader() if error in NOT_HEARD_YET else Wait()


def followed_high_watermark(*, leaders: int, own: int, log_end_offset: int) -> int:
    """Within a leader epoch it never goes back; a leader that has just begun may know less than we do."""
    return max(own, min(leaders, log_end_offset))
