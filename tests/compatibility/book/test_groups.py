"""Groups: members join, leave, share, move as little as they can, and go on where they committed."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.compatibility.book.scenes import needs, next_offsets, numbered, reading, values, write
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import Client, Consumer, Record, Row, read, until

PROTOCOLS = ("classic", pytest.param("consumer", marks=needs("consumer protocol")))


def is_shared(*members: Consumer) -> bool:
    """Three partitions, each in one pair of hands, and nobody without. Members live while they are polled."""
    for one in members:
        one.poll()
    owned = [one.owned() for one in members]
    return all(owned) and sorted(p for part in owned for p in part) == [0, 1, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_group_goes_on_where_it_committed(client: Client, topic: str, name: str, protocol: str) -> None:
    records = numbered(200)
    write(client, topic, records)
    with reading(client, topic, group=name, protocol=protocol, limit=80) as consumer:
        first = read(consumer, 80)[:80]
        consumer.commit(next_offsets(first))
    with reading(client, topic, group=name, protocol=protocol, limit=120) as consumer:
        second = read(consumer, 120)
    assert values(first + second) == values(records)


@needs("commit")
def test_offsets_are_committed_as_they_are_named(
    client: Client, judge: Confluent, topic: str, name: str
) -> None:
    write(judge, topic, [Record(None, b"v", partition=n % 3) for n in range(30)])
    with reading(client, topic, group=name) as consumer:
        read(consumer, 30)
        consumer.commit({0: 4, 2: 7})
        assert consumer.committed() == {0: 4, 2: 7}
    assert judge.committed(name, topic) == {0: 4, 2: 7}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_share_and_take_over(client: Client, topic: str, name: str, protocol: str) -> None:
    settings = {"group": name, "protocol": protocol}
    with reading(client, topic, **settings) as first:
        until(lambda: is_shared(first), "the only member owns everything")
        with reading(client, topic, **settings) as second:
            until(lambda: is_shared(first, second), "two members share")
        until(lambda: is_shared(first), "the one that stays owns everything again")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_record_goes_to_one_member(
    client: Client, judge: Confluent, topic: str, name: str, protocol: str
) -> None:
    settings = {"group": name, "protocol": protocol}
    with reading(client, topic, **settings) as first, ExitStack() as stack:
        until(lambda: is_shared(first), "the only member owns everything")
        second = stack.enter_context(reading(client, topic, **settings))
        until(lambda: is_shared(first, second), "two members share")
        records = [Record(None, b"%d" % n, partition=n % 3) for n in range(90)]
        write(judge, topic, records)
        rows: list[Row] = []
        got: dict[int, int] = {}

        def all_came() -> bool:
            for number, one in enumerate((first, second)):
                came = one.poll()
                rows.extend(came)
                got[number] = got.get(number, 0) + len(came)
            return len(rows) >= 90

        until(all_came, "all is read")
        assert values(rows) == values(records)
        assert sorted(got.values()) == [30, 60], "one reads one partition, the other two"


def test_two_groups_each_see_everything(client: Client, topic: str, name: str) -> None:
    write(client, topic, numbered(30))
    for group in (f"{name}-billing", f"{name}-shipping"):
        with reading(client, topic, group=group) as consumer:
            assert values(read(consumer, 30)) == values(numbered(30))


@needs("cooperative")
def test_a_cooperative_rebalance_takes_away_only_what_moves(client: Client, topic: str, name: str) -> None:
    """KIP-429: two of three partitions stay where they are, all the time."""
    settings = {"group": name, "assignor": "cooperative"}
    with reading(client, topic, **settings) as first:
        until(lambda: is_shared(first), "the only member owns everything")
        with reading(client, topic, **settings) as second:
            held: list[frozenset[int]] = []

            def settled() -> bool:
                done = is_shared(first, second)
                held.append(first.owned())
                return done

            until(settled, "two members share")
            assert len(frozenset.intersection(*held)) == 2


@needs("static")
def test_a_static_member_comes_back_to_what_it_had(client: Client, topic: str, name: str) -> None:
    """KIP-345: the other member notices nothing."""
    with reading(client, topic, group=name, instance="one") as stays, ExitStack() as stack:
        before = stack.enter_context(reading(client, topic, group=name, instance="two"))
        until(lambda: is_shared(stays, before), "two members share")
        kept, moved = stays.owned(), before.owned()
        stack.close()
        stays.poll()
        with reading(client, topic, group=name, instance="two") as after:
            held: list[frozenset[int]] = []

            def settled() -> bool:
                stays.poll(), after.poll()
                held.append(stays.owned())
                return after.owned() == moved

            until(settled, "the member that came back owns what it had")
            assert set(held) == {kept}


@needs("list groups", "delete group")
def test_groups_are_listed_and_deleted(client: Client, topic: str, name: str) -> None:
    write(client, topic, numbered(10))
    with reading(client, topic, group=name) as consumer:
        consumer.commit(next_offsets(read(consumer, 10)))
        assert name in client.groups()
    client.delete_group(name)
    assert name not in client.groups()
