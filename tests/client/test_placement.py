"""Where replicas go when brokers are emptied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.client.cluster import Member, Partition, Place
from streamkit.client.placement import emptied
from streamkit.errors import RefusedError


def member(broker_id: int, rack: str | None = None, *, is_fenced: bool = False) -> Member:
    return Member(broker_id=broker_id, host="h", port=9092, rack=rack, is_fenced=is_fenced)


def partition(index: int, *replicas: int) -> Partition:
    return Partition(topic="t", partition=index, leader=None, replicas=list(replicas), isr=[])


def test_only_the_leaving_broker_is_replaced_at_its_place_in_the_list() -> None:
    plan = emptied(
        [partition(0, 4, 1, 2), partition(1, 1, 4, 3), partition(2, 1, 2, 3)],
        frozenset([4]),
        map(member, (1, 2, 3, 4)),
    )
    assert plan == {Place("t", 0): [3, 1, 2], Place("t", 1): [1, 2, 3]}


def test_a_rack_without_a_replica_goes_before_a_broker_with_less() -> None:
    brokers = [member(1, "a"), member(2, "a"), member(3, "b"), member(4, "b")]
    busy = [partition(n, 3) for n in range(1, 5)]
    plan = emptied([partition(0, 1, 4), *busy], frozenset([4]), brokers)
    assert plan == {Place("t", 0): [1, 3]}


def test_nobody_is_moved_to_a_fenced_broker_and_nowhere_to_go_is_refused() -> None:
    brokers = [member(1), member(2), member(3, is_fenced=True)]
    with pytest.raises(RefusedError, match="t:0 has 2 replicas, and only 1 brokers would stay"):
        emptied([partition(0, 1, 2)], frozenset([2]), brokers)
    assert emptied([partition(0, 1)], frozenset([2]), brokers) == {}


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True), max_size=30),
    st.sets(st.integers(1, 6), max_size=3),
)
def test_any_plan_keeps_who_may_stay_and_spreads_the_rest(
    assigned: list[list[int]], leaving: set[int]
) -> None:
    partitions = [partition(n, *replicas) for n, replicas in enumerate(assigned)]
    plan = emptied(partitions, frozenset(leaving), map(member, range(1, 7)))
    for one in partitions:
        after = plan.get(one.place, one.replicas)
        assert len(after) == len(set(after)) == len(one.replicas)
        assert leaving.isdisjoint(after)
        assert all(new == old or old in leaving for old, new in zip(one.replicas, after, strict=True))
    assert all(not leaving.isdisjoint(one.replicas) for one in partitions if one.place in plan)
