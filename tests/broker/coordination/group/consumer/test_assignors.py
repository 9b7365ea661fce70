"""What every division owes: all of it, evenly, to those who want it, with as little moved as can be."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.coordination.group.consumer.assignors.contract import Claimant, Division, Parts
from streamkit.broker.coordination.group.consumer.target import ASSIGNORS
from streamkit.broker.coordination.group.modern.partitions import Partition

UNIFORM, RANGE = ASSIGNORS["uniform"], ASSIGNORS["range"]


def topic(number: int) -> bytes:
    return number.to_bytes(16, "big")


def division(
    wants: dict[str, set[int]],
    sizes: dict[int, int],
    has: Parts | None = None,
    instances: dict[str, str] | None = None,
) -> Division:
    return Division(
        claimants=tuple(
            Claimant(
                member_id=member_id,
                instance_id=(instances or {}).get(member_id),
                topics=frozenset(topic(number) for number in wants[member_id] if number in sizes),
                has=(has or {}).get(member_id, frozenset()),
            )
            for member_id in sorted(wants)
        ),
        partitions={topic(number): size for number, size in sorted(sizes.items())},
    )


sizes = st.dictionaries(st.integers(0, 4), st.integers(1, 9), min_size=1)
members = st.sampled_from([f"m{n}" for n in range(7)])
subscriptions = st.dictionaries(members, st.sets(st.integers(0, 5)), min_size=1)


def check_complete(given_division: Division, parts: Parts) -> None:
    owned = [partition for part in parts.values() for partition in part]
    assert len(owned) == len(set(owned)), "one owner for a partition"
    wanted = {topic_id for claimant in given_division.claimants for topic_id in claimant.topics}
    everything = {
        Partition(topic_id, number)
        for topic_id, size in given_division.partitions.items()
        if topic_id in wanted
        for number in range(size)
    }
    assert set(owned) == everything, "everything that somebody wants"
    for claimant in given_division.claimants:
        assert {partition.topic_id for partition in parts[claimant.member_id]} <= claimant.topics


@pytest.mark.parametrize("assign", [UNIFORM, RANGE], ids=["uniform", "range"])
@given(wants=subscriptions, sizes=sizes)
def test_everything_has_one_owner_that_wants_it(assign, wants, sizes) -> None:  # type: ignore[no-untyped-def]
    work = division(wants, sizes)
    check_complete(work, assign(work))


@pytest.mark.parametrize("assign", [UNIFORM, RANGE], ids=["uniform", "range"])
@given(wants=subscriptions, sizes=sizes, data=st.data())
def test_the_order_in_memory_changes_nothing(assign, wants, sizes, data) -> None:  # type: ignore[no-untyped-def]
    shuffled = {member: wants[member] for member in data.draw(st.permutations(list(wants)))}
    assert assign(division(wants, sizes)) == assign(division(shuffled, sizes))


@given(count=st.integers(1, 8), sizes=sizes, before=st.integers(1, 8))
def test_uniform_is_even_to_one_where_all_want_the_same(
    count: int, sizes: dict[int, int], before: int
) -> None:
    had = UNIFORM(division({f"m{n}": set(sizes) for n in range(before)}, sizes))
    parts = UNIFORM(division({f"m{n}": set(sizes) for n in range(count)}, sizes, had))
    loads = [len(part) for part in parts.values()]
    assert max(loads) - min(loads) <= 1
    share, odd = divmod(sum(sizes.values()), count)
    allowed = sum(min(len(had[m]), share) for m in had if m in parts)
    allowed += min(odd, sum(len(had[m]) > share for m in had if m in parts))
    kept = sum(len(part & had.get(member, frozenset())) for member, part in parts.items())
    assert kept == allowed, "nothing moves that need not"


def best_loads(work: Division) -> list[int]:
    """By trying everything: the loads with the least sum of squares."""
    owners = [
        [claimant.member_id for claimant in work.claimants if topic_id in claimant.topics]
        for topic_id, size in work.partitions.items()
        for _ in range(size)
    ]
    names = [claimant.member_id for claimant in work.claimants]
    divisions = product(*[choices for choices in owners if choices])
    loads = ([division.count(name) for name in names] for division in divisions)
    return min(loads, key=lambda load: sum(one * one for one in load))


@given(
    wants=st.dictionaries(st.sampled_from("abcd"), st.sets(st.integers(0, 2)), min_size=1),
    sizes=st.dictionaries(st.integers(0, 2), st.integers(1, 2), min_size=1),
)
def test_uniform_is_as_even_as_subscriptions_allow(wants: dict[str, set[int]], sizes: dict[int, int]) -> None:
    work = division(wants, sizes)
    loads = [len(part) for part in UNIFORM(work).values()]
    assert sum(n * n for n in loads) == sum(n * n for n in best_loads(work))


def test_uniform_hands_down_through_others() -> None:
    """a shares a topic with b, b one with c: the load goes down the whole chain."""
    has = {
        "a": frozenset(Partition(topic(0), n) for n in range(5)),
        "b": frozenset(Partition(topic(1), n) for n in range(4)),
        "c": frozenset(Partition(topic(2), n) for n in range(3)),
    }
    parts = UNIFORM(division({"a": {0}, "b": {0, 1}, "c": {1, 2}}, {0: 5, 1: 4, 2: 3}, has))
    assert sorted(map(len, parts.values())) == [4, 4, 4]
    assert sum(len(parts[member] & has[member]) for member in has) == 10


@given(wants=subscriptions, sizes=sizes)
def test_uniform_moves_nothing_when_nothing_changed(
    wants: dict[str, set[int]], sizes: dict[int, int]
) -> None:
    before = UNIFORM(division(wants, sizes))
    assert UNIFORM(division(wants, sizes, before)) == before


@given(wants=subscriptions, sizes=sizes)
def test_range_gives_each_topic_in_runs(wants: dict[str, set[int]], sizes: dict[int, int]) -> None:
    work = division(wants, sizes)
    for part in RANGE(work).values():
        for topic_id in work.partitions:
            numbers = sorted(partition.number for partition in part if partition.topic_id == topic_id)
            assert all(after == before + 1 for before, after in pairwise(numbers))


def test_range_divides_like_topics_alike() -> None:
    parts = RANGE(division({m: {0, 1} for m in "abc"}, {0: 7, 1: 7}))
    for part in parts.values():
        by_topic = [{p.number for p in part if p.topic_id == topic(n)} for n in (0, 1)]
        assert by_topic[0] == by_topic[1]
    assert [len(parts[member]) for member in "abc"] == [6, 4, 4]


def test_range_puts_static_members_first_by_their_instances() -> None:
    parts = RANGE(division({m: {0} for m in "abc"}, {0: 3}, instances={"b": "z", "c": "y"}))
    numbers = {member: [p.number for p in part] for member, part in parts.items()}
    assert numbers == {"c": [0], "b": [1], "a": [2]}


def test_a_large_group_is_divided_in_no_time() -> None:
    """2,000 partitions, 200 members of five kinds, all of them new but one."""
    everything = frozenset(Partition(topic(n), p) for n in range(10) for p in range(200))
    wants = {f"m{n:03}": set(range(n % 5, 10)) for n in range(200)}
    work = division(wants, dict.fromkeys(range(10), 200), {"m000": everything})
    parts = UNIFORM(work)
    check_complete(work, parts)
    assert max(map(len, parts.values())) <= 12
