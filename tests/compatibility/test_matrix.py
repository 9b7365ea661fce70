"""The same scenes with every client: a table client × feature, all filled."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from streamkit.protocol.records.batch import parse_header
from tests.compatibility.clients import CLIENTS, DEADLINE_S, Client, Confluent, Kcat, Member, Row
from tests.support.broker_process import BrokerProcess

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
RECORDS = [(b"k%d" % (n % 7), b"value-%05d" % n * 20, None) for n in range(200)]

pytestmark = pytest.mark.compat


def client_name(client: type[Client]) -> str:
    return client.name


def clients_with(feature: str) -> list[type[Client]]:
    """The clients that have `feature`; the table shows a dash for the others, and says why."""
    return [client for client in CLIENTS if feature not in client.lacks]


@pytest.fixture(params=CLIENTS, ids=client_name)
def client(request: pytest.FixtureRequest, broker: BrokerProcess) -> Client:
    if request.param is Kcat and shutil.which("kcat") is None:
        pytest.skip("kcat is not installed (Debian: apt-get install kcat)")
    return request.param(broker.bootstrap)


@pytest.fixture
def topic(broker: BrokerProcess, name: str) -> str:
    """A topic of three partitions."""
    Confluent(broker.bootstrap).create_topic(name, 3)
    return name


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.05)


def values(rows: list[Row]) -> list[bytes]:
    return sorted(row.value for row in rows)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_produce_and_consume(client: Client, broker: BrokerProcess, topic: str, compression: str) -> None:
    client.produce(topic, RECORDS, compression)
    rows = client.read(topic, len(RECORDS))
    assert values(rows) == sorted(value for _, value, _ in RECORDS)
    partition_of: dict[bytes | None, int] = {}
    for row in rows:
        assert partition_of.setdefault(row.key, row.partition) == row.partition, "a key keeps its partition"
    for key in partition_of:
        sent = [value for k, value, _ in RECORDS if k == key]
        got = [row.value for row in sorted(rows, key=lambda row: row.offset) if row.key == key]
        assert got == sent, "a key keeps its order"
    used = set()
    for partition in range(3):
        log = (broker.data_dir / f"{topic}-{partition}" / "00000000000000000000.log").read_bytes()
        if log:
            used.add(COMPRESSIONS[parse_header(log).attributes & 7])
    assert used == {compression}, "the batches are stored as the client compressed them"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_one_client_writes_every_other_reads(
    client: Client, broker: BrokerProcess, topic: str, compression: str
) -> None:
    client.produce(topic, RECORDS, compression)
    for other in CLIENTS:
        rows = other(broker.bootstrap).read(topic, len(RECORDS))
        assert values(rows) == sorted(value for _, value, _ in RECORDS), other.name


def test_a_group_resumes_from_its_commit(client: Client, topic: str, name: str) -> None:
    client.produce(topic, RECORDS, "none")
    first = client.read_in_group(topic, f"g-{name}", 80)
    second = client.read_in_group(topic, f"g-{name}", len(RECORDS) - 80)
    assert values(first + second) == sorted(value for _, value, _ in RECORDS)
    assert len({(row.partition, row.offset) for row in first + second}) == len(RECORDS)


def test_a_group_rebalances_when_a_member_joins_and_leaves(client: Client, topic: str, name: str) -> None:
    def share(members: list[Member]) -> bool:
        owned = [member.owned or frozenset() for member in members]
        return all(owned) and sum(map(len, owned)) == 3 and frozenset().union(*owned) == {0, 1, 2}

    with client.member(topic, name) as first:
        until(lambda: share([first]), "the only member owns all partitions")
        with client.member(topic, name) as second:
            until(lambda: share([first, second]), "two members share the partitions")
        until(lambda: share([first]), "the remaining member owns all again")


def test_seek_by_timestamp(client: Client, broker: BrokerProcess, topic: str) -> None:
    base = 1_700_000_000_000
    rows = [(b"k%d" % (n % 7), b"at-%04d" % n, base + n * 1000) for n in range(100)]
    Confluent(broker.bootstrap).produce(topic, rows, "none")
    found = client.read_from_time(topic, base + 60_000, 40)
    assert values(found) == [b"at-%04d" % n for n in range(60, 100)]


@pytest.mark.parametrize("client", clients_with("create topic"), indirect=True, ids=client_name)
def test_create_topic(client: Client, name: str) -> None:
    client.create_topic(name, 5)
    assert name in client.topics()


def test_describe_topic(client: Client, broker: BrokerProcess, name: str) -> None:
    Confluent(broker.bootstrap).create_topic(name, 5)
    assert name in client.topics()
    assert client.partitions_of(name) == 5


@pytest.mark.parametrize("client", clients_with("delete topic"), indirect=True, ids=client_name)
def test_delete_topic(client: Client, topic: str) -> None:
    client.delete_topic(topic)
    until(lambda: topic not in client.topics(), "the deleted topic is gone from the listing")
