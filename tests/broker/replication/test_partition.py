"""The leader's side of a partition: what is committed, and which replies that releases."""

from __future__ import annotations

from streamkit.broker.replication.partition import PartitionLeader


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


def test_min_insync_replicas_bind_acks_all_only() -> None:
    one = leader()
    assert one.refuses(-1, 2)
    assert not one.refuses(-1, 1)
    assert not one.refuses(1, 2)


def test_a_failure_gives_up_everything_that_waits() -> None:
    one = leader((1, 2))
    one.delay(1, 4, "a")
    one.delay(-1, 4, "b")
    assert sorted(one.failed()) == ["a", "b"]
    assert one.flushed(9) == []
