"""Defects of replication: a follower cuts its log at the wrong place or not at all, a leader counts on too
few."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamkit.broker.controller.image import PartitionRegistration
from streamkit.broker.replication.follower import FetchPosition, PartitionFollower, Truncate
from streamkit.broker.replication.leader import PartitionLeader
from streamkit.broker.server.replicas import partitions, replica_fetcher
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.server.replicas.partitions import Partitions
from streamkit.broker.server.replicas.replica_fetcher import ReplicaFetcher
from streamkit.broker.storage.partition_log import PartitionLog
from streamkit.protocol.error_codes import ErrorCode
from tests.simulation.mutations import mutation, wrapped
from tests.simulation.mutations.scenarios import clogged, flapping, forgetful

UNKNOWN_EPOCH = -1


class ComparedOnce(PartitionFollower):
    """A follower that compares logs in the first fetch of a leader epoch only."""

    is_compared = False

    def position(self, **log: Any) -> FetchPosition:
        position = super().position(**log)
        return (
            msgspec.structs.replace(position, last_fetched_epoch=UNKNOWN_EPOCH)
            if self.is_compared
            else position
        )


def compare_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(original: Any) -> Any:
        def judge(fetcher: ReplicaFetcher, followed: Any, data: Any) -> Any:
            follower = followed.actor.follower
            step = original(fetcher, followed, data)
            if data.error_code == ErrorCode.NONE and isinstance(follower, ComparedOnce):
                follower.is_compared = True
            return step

        return judge

    monkeypatch.setattr(partitions, "PartitionFollower", ComparedOnce)
    wrapped(ReplicaFetcher, "_judge", make, monkeypatch)


@mutation(1, nodes=3, scenario=forgetful)
def truncate_to_the_high_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new follower cuts its log at what it knows to be committed, and compares nothing (pre KIP-101)."""

    def make(original: Any) -> Any:
        async def follow(
            owner: Partitions, actor: PartitionActor, registration: PartitionRegistration
        ) -> None:
            before = actor.follower
            await original(owner, actor, registration)
            follower = actor.follower
            if isinstance(follower, ComparedOnce) and follower is not before:
                follower.is_compared = True
                await owner._fetchers.let_go(actor)
                await actor.log.truncate_to(actor.log.high_watermark)
                await owner._fetchers.follow(actor)

        return follow

    monkeypatch.setattr(partitions, "PartitionFollower", ComparedOnce)
    wrapped(Partitions, "_follow", make, monkeypatch)


@mutation(2, nodes=3, scenario=flapping)
def one_round_of_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower cuts its log where the leader's answer says, and asks no second time (pre KIP-279)."""

    def to_leaders_end(
        *, leaders_end: int, log_end_offset: int, high_watermark: int, **others: Any
    ) -> Truncate:
        return Truncate(high_watermark if leaders_end < 0 else min(leaders_end, log_end_offset))

    compare_once(monkeypatch)
    monkeypatch.setattr(replica_fetcher, "diverged", to_leaders_end)


@mutation(3, nodes=3, scenario=flapping)
def unfenced_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch of any leader epoch is answered, and does not say where its log comes from (pre KIP-320)."""

    def make(original: Any) -> Any:
        return lambda actor, current_leader_epoch: original(actor, UNKNOWN_EPOCH)

    compare_once(monkeypatch)
    wrapped(PartitionActor, "refusal", make, monkeypatch)


@mutation(4, nodes=3, scenario=clogged)
def high_watermark_from_the_isr(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader counts on the ISR that it knows, not on the one that may hold already (pre KIP-497)."""

    def committed_offset(leader: PartitionLeader[Any]) -> int:
        if leader.is_under_min_isr:
            return leader.high_watermark
        in_sync = (one.end_offset for one in leader.followers.values() if one.broker_id in leader.isr)
        return min(leader.flushed_offset, *in_sync, leader.flushed_offset)

    monkeypatch.setattr(PartitionLeader, "_committed_offset", committed_offset)


@mutation(11, nodes=3, scenario=flapping)
def epochs_kept_after_truncation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The epochs of what was cut off a log are still remembered."""
    monkeypatch.setattr(PartitionLog, "_forget_epochs_from", lambda log, end_offset: None)


@mutation(12, nodes=3, scenario=flapping)
def epoch_lost_on_an_empty_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an answer without records a follower does not say any more of which epoch its last record is."""
    forgotten: dict[PartitionLog, bool] = {}

    def make_judge(original: Any) -> Any:
        def judge(fetcher: ReplicaFetcher, followed: Any, data: Any) -> Any:
            step = original(fetcher, followed, data)
            if data.error_code == ErrorCode.NONE:
                forgotten[followed.actor.log] = not data.records
            return step

        return judge

    def make_position(original: Any) -> Any:
        def position(actor: PartitionActor) -> FetchPosition | None:
            found: FetchPosition | None = original(actor)
            if found is None or not forgotten.get(actor.log):
                return found
            return msgspec.structs.replace(found, last_fetched_epoch=UNKNOWN_EPOCH)

        return position

    wrapped(ReplicaFetcher, "_judge", make_judge, monkeypatch)
    wrapped(replica_fetcher, "_position", make_position, monkeypatch)
