"""The simple assignor: whoever divides what among whom, these things hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.broker.coordination.group.modern.partitions import Partition
from streamkit.broker.coordination.group.share.assignor import Claimant, Parts, assign

A, B = b"a" * 16, b"b" * 16


def parts(members: int, partitions: int, before: Parts | None = None) -> Parts:
    claimants = [
        Claimant(f"m{i:02}", frozenset([A]), (before or {}).get(f"m{i:02}", frozenset()))
        for i in range(members)
    ]
    return assign(claimants, [Partition(A, number) for number in range(partitions)])


def test_fewer_members_than_partitions_share_none() -> None:
    made = parts(3, 7)
    assert sorted(map(len, made.values())) == [2, 2, 3]
    assert len(frozenset().union(*made.values())) == sum(map(len, made.values())) == 7


def test_more_members_than_partitions_share_them_evenly() -> None:
    made = parts(6, 2)
    assert all(len(part) == 1 for part in made.values())
    assert [sum(Partition(A, number) in part for part in made.values()) for number in (0, 1)] == [3, 3]


def test_every_partition_gets_as_many_members_as_the_others() -> None:
    made = parts(3, 2)
    assert [sum(Partition(A, number) in part for part in made.values()) for number in (0, 1)] == [2, 2]
    assert sorted(map(len, made.values())) == [1, 1, 2]


def test_nobody_moves_more_than_it_must() -> None:
    before = parts(2, 6)
    after = parts(3, 6, before)
    assert all(after[member_id] < before[member_id] for member_id in before)
    assert [len(part) for part in after.values()] == [2, 2, 2]
    assert parts(3, 6, after) == after


def test_a_member_that_goes_leaves_the_others_what_they_had() -> None:
    before = parts(3, 6)
    after = parts(2, 6, before)
    assert all(after[member_id] > before[member_id] for member_id in after)


def test_a_topic_that_only_one_wants_does_not_burden_the_others() -> None:
    claimants = [
        Claimant("both", frozenset([A, B]), frozenset()),
        Claimant("one", frozenset([A]), frozenset()),
    ]
    made = assign(claimants, [Partition(A, 0), Partition(A, 1), Partition(B, 0), Partition(B, 1)])
    assert made == {
        "both": frozenset([Partition(B, 0), Partition(B, 1)]),
        "one": frozenset([Partition(A, 0), Partition(A, 1)]),
    }


TOPICS = [bytes([number]) * 16 for number in range(3)]


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=3, max_size=3),
    wants=st.lists(st.sets(st.sampled_from(TOPICS)), max_size=8),
    data=st.data(),
)
def test_whatever_is_divided(sizes: list[int], wants: list[set[bytes]], data: st.DataObject) -> None:
    partitions = [
        Partition(topic_id, number)
        for topic_id, size in zip(TOPICS, sizes, strict=True)
        for number in range(size)
    ]
    some = st.sets(st.sampled_from(partitions)) if partitions else st.just(set[Partition]())
    claimants = [
        Claimant(f"m{i}", frozenset(topics), frozenset(data.draw(some))) for i, topics in enumerate(wants)
    ]
    made = assign(claimants, partitions)
    assert made == assign(reversed(claimants), reversed(partitions)), "whatever the order"
    for claimant in claimants:
        part = made[claimant.member_id]
        possible = {one for one in partitions if one.topic_id in claimant.topics}
        assert part <= possible, "only what it wants and what exists"
        assert bool(part) == bool(possible), "everybody has something to look into"
    wanted = {one for one in partitions if any(one.topic_id in topics for topics in wants)}
    assert frozenset[Partition]().union(*made.values()) == wanted, "everything is looked into"
    if len({frozenset(topics) for topics in wants}) == 1:
        loads = [len(part) for part in made.values()]
        assert max(loads) - min(loads) <= 1, "everybody as much as everybody else"
    again = assign([one._replace(has=made[one.member_id]) for one in claimants], partitions)
    assert again == made, "nothing moves without a reason"
