"""The leader's side of a partition: what is committed, and which replies that releases."""

from __future__ import annotations

import random

import pytest

from streamkit.broker.replication.leader import FollowerFetch, PartitionLeader


def leader(isr: tuple[int, ...] = (1,), *, flushed: int = 0, high_watermark: int = 0) -> PartitionLeader[str]:
    return PartitionLeader(
        node_id=1, leader_epoch=0, isr=isr, flushed_offset=flushed, high_watermark=high_watermark
    )


def test_alone_the_high_watermark_is_the_flushed_offset() -> None:
    one = leader(flushed=5)
    assert one.high_watermark == 5
    one.flushed(8)
    assert one.high_watermark == 8


def test_it_never_goes_back() -> None:
    one = leader(flushed=5)
    assert one.flushed(3) == []
    assert one.high_watermark == 5


def test_a_reply_waits_until_everything_below_its_offset_is_flushed() -> None:
    one = leader()
    assert one.delay(1, 3, "a") and one.delay(-1, 5, "b") and one.delay(-1, 9, "c")
    assert one.flushed(2) == []
    assert one.flushed(5) == ["a", "b"]
    assert one.flushed(9) == ["c"]


def test_what_is_safe_already_is_not_delayed() -> None:
    one = leader(flushed=5)
    assert not one.delay(1, 5, "a")
    assert not one.delay(-1, 5, "b")


def test_a_duplicate_waits_for_the_original_and_for_no_more() -> None:
    one = leader()
    one.delay(-1, 4, "original")
    one.delay(-1, 8, "next")
    one.delay(-1, 4, "duplicate")
    assert one.flushed(4) == ["original", "duplicate"]


def test_acks_all_waits_for_every_in_sync_replica_and_acks_1_for_the_leader() -> None:
    both = leader((1, 2))
    both.delay(1, 4, "one")
    both.delay(-1, 4, "all")
    assert both.flushed(4) == ["one"]
    assert both.high_watermark == 0


def test_a_failure_gives_up_everything_that_waits() -> None:
    one = leader((1, 2))
    one.delay(1, 4, "a")
    one.delay(-1, 4, "b")
    assert one.failed() == ["a", "b"]
    assert one.flushed(9) == []


# -- three replicas: 1 leads, LAG_MS is replica.lag.time.max.ms

LAG_MS = 1000


class Three:
    """A leader of (1, 2, 3) at `start`, whose own log is always flushed to its end."""

    def __init__(
        self, isr: tuple[int, ...] = (1, 2, 3), *, start: int = 10, high_watermark: int = 10, min_isr: int = 2
    ) -> None:
        self.fit = {1, 2, 3}
        self.end = start
        self.now_ms = 0
        self.leader: PartitionLeader[str] = PartitionLeader(
            node_id=1, leader_epoch=5, partition_epoch=7, isr=isr, replicas=(1, 2, 3), start_offset=start,
            flushed_offset=start, high_watermark=high_watermark, min_insync_replicas=min_isr,
            lag_time_max_ms=LAG_MS, is_eligible=lambda broker, epoch: broker in self.fit, now_ms=0,
        )  # fmt: skip

    def append(self, count: int = 1) -> list[str]:
        self.end += count
        return self.leader.flushed(self.end)

    def fetch(self, broker: int, offset: int | None = None, *, after_ms: int = 1) -> list[str]:
        self.now_ms += after_ms
        at = self.end if offset is None else offset
        return self.leader.fetched(
            FollowerFetch(
                broker_id=broker, broker_epoch=100 + broker, offset=at, log_start_offset=0,
                leader_end_offset=self.end, now_ms=self.now_ms,
            )
        )  # fmt: skip

    def tick(self, after_ms: int) -> list[str]:
        self.now_ms += after_ms
        return self.leader.tick(self.now_ms, self.end)

    def accept(self) -> list[str]:
        assert self.leader.proposal is not None
        return self.leader.decided(
            isr=self.leader.proposal.brokers, partition_epoch=self.leader.partition_epoch + 1
        )

    @property
    def high_watermark(self) -> int:
        return self.leader.high_watermark

    @property
    def proposed(self) -> tuple[int, ...] | None:
        return None if self.leader.proposal is None else self.leader.proposal.brokers


def test_the_high_watermark_is_the_lowest_durable_offset_in_the_isr() -> None:
    three = Three()
    three.append(5)
    assert three.high_watermark == 10
    three.fetch(2)
    assert three.high_watermark == 10, "nothing is known of 3 in this epoch"
    three.fetch(3, 12)
    assert three.high_watermark == 12
    three.fetch(3)
    assert three.high_watermark == 15


def test_the_leaders_own_flush_counts_like_any_replica() -> None:
    three = Three()
    three.end = 20
    three.fetch(2)
    three.fetch(3)
    assert three.high_watermark == 10
    three.leader.flushed(17)
    assert three.high_watermark == 17


def test_l7_what_followers_told_in_an_earlier_epoch_counts_for_nothing() -> None:
    assert all(f.end_offset == -1 for f in Three().leader.followers.values())


def test_a_follower_that_falls_behind_is_proposed_out_and_still_holds_the_high_watermark() -> None:
    three = Three()
    three.append(5)
    three.fetch(2)
    three.tick(LAG_MS - 1)
    assert three.proposed is None
    three.tick(1)
    assert three.proposed == (1, 2)
    assert (three.leader.maximal_isr, three.high_watermark) == ((1, 2, 3), 10)
    three.leader.delay(-1, 15, "waiting")
    assert three.accept() == ["waiting"]
    assert (three.leader.isr, three.high_watermark) == ((1, 2), 15)


def test_one_that_keeps_up_with_where_the_leader_was_is_in_sync() -> None:
    """It is never at the end, but always has what the leader had when it last asked."""
    three = Three()
    for _ in range(10):
        behind = three.end
        three.append(100)
        three.fetch(2, behind, after_ms=LAG_MS // 2)
        three.fetch(3, behind, after_ms=LAG_MS // 4)
        three.tick(0)
        assert three.proposed is None


def test_one_that_has_everything_is_in_sync_however_long_ago_it_asked() -> None:
    three = Three()
    three.fetch(2)
    three.fetch(3)
    three.tick(100 * LAG_MS)
    assert three.proposed is None


def test_l7_a_follower_joins_only_after_the_epochs_start_and_the_high_watermark() -> None:
    three = Three(isr=(1, 2), start=10, high_watermark=4)
    three.append(10)
    three.fetch(3, 9)
    assert three.proposed is None, "below the epoch's start"
    three.fetch(2, 15)
    assert three.high_watermark == 15
    three.fetch(3, 14)
    assert three.proposed is None, "below the high watermark"
    three.fetch(3, 15)
    assert three.proposed == (1, 2, 3)
    assert three.leader.proposal is not None
    assert three.leader.proposal.isr == ((1, -1), (2, 102), (3, 103))
    assert (three.leader.proposal.leader_epoch, three.leader.proposal.partition_epoch) == (5, 7)


def test_l3_a_fenced_or_restarted_broker_does_not_join() -> None:
    three = Three(isr=(1, 2))
    three.fit = {1, 2}
    three.fetch(3)
    assert three.proposed is None
    three.fit = {1, 2, 3}
    three.fetch(3)
    assert three.proposed == (1, 2, 3)


def test_one_on_its_way_in_holds_the_high_watermark() -> None:
    three = Three(isr=(1, 2), high_watermark=10)
    three.fetch(3)
    assert three.proposed == (1, 2, 3)
    three.append(5)
    three.fetch(2)
    assert three.high_watermark == 10
    assert three.leader.waits_for(3)
    three.leader.refused()
    three.append(1)
    three.fetch(2)
    assert three.high_watermark == 10, "refused, but caught up a moment ago and fit to join"
    assert three.leader.waits_for(3)
    three.fit = {1, 2}
    three.fetch(2)
    assert three.high_watermark == 16
    assert three.leader.waits_for(2) and not three.leader.waits_for(3) and not three.leader.waits_for(9)


def test_there_is_one_proposal_at_a_time_and_a_refused_one_is_repeated_later() -> None:
    three = Three(isr=(1,), min_isr=1)
    three.fetch(2)
    three.fetch(3)
    assert three.proposed == (1, 2)
    three.leader.refused()
    three.fetch(3)
    assert three.proposed is None
    three.fetch(3, after_ms=300)
    assert three.proposed == (1, 3)
    assert three.leader.decided(isr=(1, 3), partition_epoch=8) == []
    three.fetch(2)
    assert three.proposed == (1, 3, 2)


def test_newer_metadata_settles_a_proposal_and_older_says_nothing() -> None:
    three = Three(isr=(1, 2))
    three.fetch(3)
    three.leader.decided(isr=(1,), partition_epoch=7)
    assert (three.leader.isr, three.proposed) == ((1, 2), (1, 2, 3))
    three.leader.decided(isr=(1, 2), partition_epoch=9)
    assert (three.leader.isr, three.proposed, three.leader.partition_epoch) == ((1, 2), None, 9)


def test_min_insync_replicas_bind_acks_all_only() -> None:
    alone = Three(isr=(1,))
    assert alone.leader.refuses(-1)
    assert not alone.leader.refuses(1)
    assert not Three(isr=(1, 2)).leader.refuses(-1)


def test_no_more_can_be_asked_to_be_in_sync_than_there_are_replicas() -> None:
    one = PartitionLeader[str](
        node_id=1, leader_epoch=0, isr=(1,), flushed_offset=0, high_watermark=0, min_insync_replicas=2
    )
    assert not one.refuses(-1)
    one.flushed(3)
    assert one.high_watermark == 3


def test_the_high_watermark_stands_still_with_too_few_in_sync() -> None:
    """KIP-966: whoever left then still has all that was ever committed."""
    three = Three()
    three.append(5)
    three.leader.delay(-1, 15, "a")
    three.leader.delay(-1, 12, "b")
    three.leader.delay(-1, 12, "c")
    assert three.leader.uncommittable() == []
    assert three.leader.decided(isr=(1,), partition_epoch=8) == []
    assert three.high_watermark == 10
    assert three.leader.uncommittable() == ["b", "c", "a"]
    three.fetch(2)
    assert three.proposed == (1, 2)
    three.accept()
    assert three.high_watermark == 15


def test_replicas_come_and_go_with_a_reassignment() -> None:
    three = Three(isr=(1, 2, 3))
    three.fetch(2)
    three.leader.decided(isr=(1, 2), partition_epoch=8, replicas=(1, 2, 4))
    assert list(three.leader.followers) == [2, 4]
    assert three.leader.followers[2].end_offset == 10
    three.append(2)
    three.fetch(2)
    assert three.high_watermark == 12


@pytest.mark.parametrize("seed", range(40))
def test_invariants_hold_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    three = Three(min_isr=rng.choice((1, 2)))
    truth, epoch, durable = (1, 2, 3), 7, {2: 0, 3: 0}
    high_watermark = 10
    for _ in range(400):
        leader = three.leader
        match rng.randrange(7):
            case 0:
                three.append(rng.randrange(1, 4))
            case 1 | 2:
                broker = rng.choice((2, 3))
                durable[broker] = rng.randint(durable[broker], three.end)
                three.fetch(broker, durable[broker], after_ms=rng.randrange(300))
            case 3:
                three.tick(rng.randrange(LAG_MS))
            case 4 if leader.proposal is not None:  # decided; the answer arrives, or is lost
                if leader.proposal.partition_epoch == epoch and set(leader.proposal.brokers) <= three.fit:
                    truth, epoch = leader.proposal.brokers, epoch + 1
                    if rng.random() < 0.5:
                        leader.decided(isr=truth, partition_epoch=epoch)
                else:
                    leader.refused()
            case 5:
                leader.decided(isr=truth, partition_epoch=epoch)  # metadata, late or early
            case 6:  # the controller fences a broker, or lets it back
                three.fit ^= {rng.choice((2, 3))}
                if not set(truth) <= three.fit:
                    truth, epoch = tuple(b for b in truth if b in three.fit), epoch + 1
        assert leader.isr[0] == 1 and set(leader.isr) <= set(leader.maximal_isr)
        assert leader.high_watermark >= high_watermark
        if leader.high_watermark > high_watermark:
            held = [durable[b] for b in leader.maximal_isr if b != 1]
            assert leader.high_watermark <= min([three.end, *held])
            assert len(leader.isr) >= leader.effective_min_isr
        high_watermark = leader.high_watermark
