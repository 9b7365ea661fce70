"""Kafka Streams counts words over our broker: with both group protocols, both guarantees, and under kills.

Every count that the application comes to is written, so of each word exactly 1, 2, 3 … must be found, in this
order; a count that is lost, or made twice, shows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.streams_group_describe import (
    DescribedGroup,
    Member,
    StreamsGroupDescribeRequest,
)
from tests.compatibility.engines.book import COUNTED_S, Book
from tests.compatibility.engines.jobs import KafkaStreams
from tests.compatibility.java.kafka_tools import run
from tests.support.broker_cluster import BrokerCluster, Node
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat_engines

TOOL = "org.apache.kafka.tools.streams.StreamsGroupCommand"
DUMP = "org.apache.kafka.tools.DumpLogSegments"
STREAMS_GROUP_RECORDS = {"17", "19", "20", "21", "22", "23"}
LINES = 300
EXACTLY_ONCE, AT_LEAST_ONCE = "exactly_once_v2", "at_least_once"
# A group that notices quickly what happens to its members.
NIMBLE = tuple(
    word
    for setting in (
        "group.streams.min.session.timeout.ms=3000",
        "group.streams.session.timeout.ms=3000",
        "group.streams.min.heartbeat.interval.ms=300",
        "group.streams.heartbeat.interval.ms=300",
        "group.streams.initial.rebalance.delay.ms=0",
        "group.streams.num.standby.replicas=1",
    )
    for word in ("--set", setting)
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., KafkaStreams]]:
    """Start an instance; none outlives the test."""
    made: list[KafkaStreams] = []

    def make(bootstrap: str, application: str, book: Book, **settings: str) -> KafkaStreams:
        path = tmp_path / f"instance-{len(made)}"
        made.append(KafkaStreams(path, bootstrap, application, book.topics, **settings))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.mark.parametrize("guarantee", [EXACTLY_ONCE, AT_LEAST_ONCE])
@pytest.mark.parametrize("protocol", ["classic", "streams"])
def test_word_count(
    broker: BrokerProcess, name: str, start: Callable[..., KafkaStreams], protocol: str, guarantee: str
) -> None:
    """On a broker that was told nothing of it."""
    book = Book(broker.bootstrap, name)
    book.write(LINES)
    app = start(broker.bootstrap, name, book, group_protocol=protocol, processing_guarantee=guarantee)
    book.read()
    book.write(LINES)
    book.read()
    app.comes_to("RUNNING").close()
    assert book.is_complete()
    book.close()


def test_an_application_changes_its_protocol_between_two_runs(
    broker: BrokerProcess, name: str, start: Callable[..., KafkaStreams]
) -> None:
    """The offsets, the internal topics and the state of the one are those of the other."""
    book = Book(broker.bootstrap, name)
    for protocol in ("classic", "streams", "classic"):
        book.write(LINES)
        app = start(broker.bootstrap, name, book, group_protocol=protocol, processing_guarantee=EXACTLY_ONCE)
        book.read()
        app.close()
        assert book.is_complete(), protocol
    book.close()


def test_kafkas_tools_list_describe_read_and_delete(
    new_broker: Callable[..., BrokerProcess], name: str, start: Callable[..., KafkaStreams]
) -> None:
    broker = new_broker(*NIMBLE).start()
    book = Book(broker.bootstrap, name)
    book.write(LINES)
    app = start(broker.bootstrap, name, book, group_protocol="streams", num_stream_threads="2")
    book.read()
    server = ("--bootstrap-server", broker.bootstrap)
    assert re.search(rf"^{name}\s+Stable", run(TOOL, *server, "--list", "--state"), re.M)
    group = (*server, "--describe", "--group", name)
    state = run(TOOL, *group, "--state", "--verbose")
    assert re.search(rf"^{name}\s.*\sStable\s+(\d+)\s+\1\s+2\s*$", state, re.M), state
    members = run(TOOL, *group, "--members", "--verbose")
    assert len(re.findall(rf"^{name}\s.*ACTIVE: .*TARGET-ACTIVE: ", members, re.M)) == 2, members
    offsets = run(TOOL, *group, "--offsets")
    assert f"{name}-counts-repartition" in offsets and f"{name}-lines" in offsets, offsets
    logs = [str(log) for log in broker.data_dir.glob("__consumer_offsets-*/*.log") if log.stat().st_size]
    records = run(DUMP, "--offsets-decoder", "--files", ",".join(logs))
    types = re.findall(rf'key: {{"type":"(\d+)","data":{{"groupId":"{name}".* payload: {{', records)
    assert set(types) == STREAMS_GROUP_RECORDS
    app.close()
    run(TOOL, *server, "--delete", "--group", name, "--delete-all-internal-topics")
    assert name not in run(TOOL, *server, "--list").splitlines()
    left = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics
    assert not any("repartition" in topic or "changelog" in topic for topic in left)
    book.close()


def test_one_instance_ends_the_whole_application(
    new_broker: Callable[..., BrokerProcess], name: str, start: Callable[..., KafkaStreams]
) -> None:
    broker = new_broker(*NIMBLE).start()
    book = Book(broker.bootstrap, name)
    apps = [start(broker.bootstrap, name, book, group_protocol="streams") for _ in range(2)]
    for app in apps:
        app.comes_to("RUNNING")
    book.say("!")
    for app in apps:
        app.comes_to("ERROR")
    book.close()


async def test_an_instance_and_a_broker_are_killed(
    new_cluster: Callable[..., BrokerCluster], name: str, start: Callable[..., KafkaStreams]
) -> None:
    """Exactly once: of all that was counted when they died, nothing is lost and nothing made twice."""
    cluster = new_cluster(3, *NIMBLE).start()
    book = Book(cluster.bootstrap, name, replicas=3)
    settings = {"group_protocol": "streams", "processing_guarantee": EXACTLY_ONCE}
    apps = [start(cluster.bootstrap, name, book, **settings) for _ in range(2)]
    book.write(LINES)
    for app in apps:
        app.comes_to("RUNNING")
    coordinator = await both_have_tasks(cluster, name)
    book.write(LINES)
    apps[0].kill()
    book.write(LINES)
    coordinator.kill()
    book.write(LINES)
    book.read()
    apps[1].close()
    assert book.is_complete()
    book.close()


async def both_have_tasks(cluster: BrokerCluster, group: str) -> Node:
    """Wait until two members share the tasks; the group's coordinator."""
    async with asyncio.timeout(COUNTED_S):
        while True:
            coordinator, found = await described(cluster, group)
            if found.group_state == "Stable" and sum(map(has_tasks, found.members)) == 2:
                return coordinator
            await asyncio.sleep(0.1)


async def described(cluster: BrokerCluster, group: str) -> tuple[Node, DescribedGroup]:
    for node in cluster.running:
        answer = await node.ask(StreamsGroupDescribeRequest(group_ids=[group]), 0)
        if answer.groups[0].error_code == ErrorCode.NONE:
            return node, answer.groups[0]
    raise AssertionError(f"nobody coordinates {group}")


def has_tasks(member: Member) -> bool:
    return bool(member.assignment.active_tasks)
