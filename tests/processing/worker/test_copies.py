"""Where standby copies go: to whoever inherits the task, as librdkafka's sticky assignor deals it out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.processing.worker.roster import Peer, address_in, client_id, copies
from streamkit.processing.worker.source import Partition


def peer(member: str, *partitions: Partition) -> Peer:
    return Peer(member, None, frozenset(partitions))


def a(*numbers: int) -> list[Partition]:
    return [("a", number) for number in numbers]


def test_two_workers_keep_each_others() -> None:
    peers = [peer("m1", *a(0, 2)), peer("m2", *a(1, 3))]
    assert copies(peers, 1, lambda _: True) == {"m1": {*a(1, 3)}, "m2": {*a(0, 2)}}


def test_heirs_are_those_that_a_real_group_chose() -> None:
    """Seen on librdkafka 2.x: m2 left, then m4."""
    peers = [
        peer("m1", *a(2, 5), ("b", 1)),
        peer("m2", *a(1, 4), ("b", 0)),
        peer("m3", ("b", 2), ("b", 3), ("b", 4)),
        peer("m4", *a(0, 3, 6)),
    ]
    kept = copies(peers, 1, lambda _: True)
    assert ("b", 0) in kept["m1"] and ("a", 4) in kept["m3"] and ("a", 1) in kept["m4"]
    peers = [
        peer("m1", *a(2, 5), ("b", 0), ("b", 1)),
        peer("m3", ("b", 2), ("b", 3), ("b", 4), ("a", 4)),
        peer("m4", *a(0, 1, 3, 6)),
    ]
    kept = copies(peers, 1, lambda _: True)
    assert {*a(1, 6)} <= kept["m1"] and {*a(0, 3)} <= kept["m3"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 4))
def test_nobody_copies_its_own_and_each_is_kept_as_often_as_can_be(owners: list[int], replicas: int) -> None:
    members = ["w", "x", "y", "z"]
    owned = {m: frozenset(("a", n) for n, o in enumerate(owners) if members[o] == m) for m in members}
    peers = [Peer(member, None, places) for member, places in owned.items()]
    kept = copies(peers, replicas, lambda place: place[1] % 5 != 4)
    for member in members:
        assert not kept[member] & owned[member]
    for number in range(len(owners)):
        holders = [member for member in members if ("a", number) in kept[member]]
        assert len(holders) == (min(replicas, 3) if number % 5 != 4 else 0)


def test_addresses_travel_in_client_ids() -> None:
    assert address_in(client_id("streamkit", "10.0.0.7:8080")) == "10.0.0.7:8080"
    assert address_in(client_id("me@home", "[::1]:80")) == "[::1]:80"
    assert address_in(client_id("streamkit", None)) is None
    assert address_in("me@home") is None


@pytest.mark.parametrize(
    "address",
    [
        "h:0",
        "h:65536",
        "h:٣",
        "h:",
        ":80",
        "h",
        "a b:80",
        "h:80/x",
        "u:p@h:80:",
        "[h]:80",
        "h\r\nX: y:80",
        "-h:80",
    ],
)
def test_addresses_of_no_worker_are_not_followed(address: str) -> None:
    assert address_in(f"streamkit@{address}") is None
