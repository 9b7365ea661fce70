"""Replicas: spread over brokers, apart in racks, never led by the fenced."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.controller.decision import Refusal
from streamkit.broker.controller.image import BrokerRegistration
from streamkit.broker.controller.placement import place
from streamkit.protocol.error_codes import ErrorCode


def broker(broker_id: int, rack: str | None = None, *, fenced: bool = False) -> BrokerRegistration:
    return BrokerRegistration(
        broker_id=broker_id,
        incarnation_id=bytes(16),
        epoch=0,
        endpoints=(),
        rack=rack,
        fenced=fenced,
        log_dirs=(),
    )


@given(
    brokers=st.integers(1, 9),
    racks=st.integers(1, 4),
    partitions=st.integers(1, 40),
    start=st.integers(0, 100),
    data=st.data(),
)
def test_leaders_are_spread_and_replicas_distinct(
    brokers: int, racks: int, partitions: int, start: int, data: st.DataObject
) -> None:
    replication_factor = data.draw(st.integers(1, brokers))
    registered = [broker(number, f"rack-{number % racks}") for number in range(brokers)]
    placed = place(registered, partitions=partitions, replication_factor=replication_factor, start=start)
    assert len(placed) == partitions
    assert all(len(set(replicas)) == replication_factor for replicas in placed)
    leaders = Counter(replicas[0] for replicas in placed)
    assert max(leaders.values()) - min(leaders.get(number, 0) for number in range(brokers)) <= 1
    reachable_racks = min(replication_factor, racks, brokers)
    assert all(len({number % racks for number in replicas}) == reachable_racks for replicas in placed)


def test_the_partitions_of_one_leader_have_different_followers() -> None:
    placed = place([broker(number) for number in range(4)], partitions=12, replication_factor=2, start=0)
    assert {replicas[1] for replicas in placed if replicas[0] == 0} == {1, 2, 3}


def test_a_fenced_broker_follows_at_most_and_only_in_need() -> None:
    registered = [broker(1), broker(2, fenced=True), broker(3)]
    assert {1, 3} == {
        one for replicas in place(registered, partitions=4, replication_factor=2, start=0) for one in replicas
    }
    for replicas in place(registered, partitions=4, replication_factor=3, start=0):
        assert replicas[0] != 2 and replicas[2] == 2


@pytest.mark.parametrize("registered", [[], [broker(1, fenced=True)]])
def test_without_a_live_broker_nothing_is_placed(registered: list[BrokerRegistration]) -> None:
    with pytest.raises(Refusal) as raised:
        place(registered, partitions=1, replication_factor=1, start=0)
    assert raised.value.code == ErrorCode.INVALID_REPLICATION_FACTOR
