"""Administration: topics, partitions, settings, and the errors that wrong requests are answered with."""

from __future__ import annotations

from streamkit.protocol.error_codes import ErrorCode
from tests.compatibility.book.scenes import needs, numbered, refused, write
from tests.compatibility.clients import Confluent
from tests.compatibility.contract import Client, until


def test_topics_are_listed_and_described(client: Client, judge: Confluent, name: str) -> None:
    judge.create_topic(name, 5)
    assert name in client.topics()
    assert client.partitions_of(name) == 5


@needs("create topic")
def test_a_topic_is_created(client: Client, judge: Confluent, name: str) -> None:
    client.create_topic(name, 4, settings={"retention.ms": "1000000", "cleanup.policy": "compact,delete"})
    until(lambda: name in client.topics(), "the new topic is listed")
    assert judge.partitions_of(name) == 4
    settings = judge.settings_of(name)
    assert settings["retention.ms"] == "1000000"
    assert set(settings["cleanup.policy"].split(",")) == {"compact", "delete"}


@needs("create topic")
def test_what_cannot_be_created(client: Client, topic: str, name: str) -> None:
    with refused(ErrorCode.TOPIC_ALREADY_EXISTS):
        client.create_topic(topic, 1)
    with refused(ErrorCode.INVALID_REPLICATION_FACTOR):
        client.create_topic(f"{name}-replicas", 1, replicas=7)
    with refused(ErrorCode.INVALID_TOPIC_EXCEPTION):
        client.create_topic("no/such/name", 1)
    with refused(ErrorCode.INVALID_CONFIG):
        client.create_topic(f"{name}-setting", 1, settings={"retention.ms": "soon"})
    assert not {f"{name}-replicas", "no/such/name", f"{name}-setting"} & client.topics()


@needs("delete topic")
def test_a_topic_is_deleted(client: Client, topic: str) -> None:
    client.delete_topic(topic)
    until(lambda: topic not in client.topics(), "the deleted topic is listed no more")
    with refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
        client.delete_topic(topic)


@needs("add partitions")
def test_partitions_are_added(client: Client, topic: str) -> None:
    client.add_partitions(topic, 5)
    until(lambda: client.partitions_of(topic) == 5, "the topic has grown")
    with refused(ErrorCode.INVALID_PARTITIONS):
        client.add_partitions(topic, 2)


@needs("topic settings")
def test_settings_are_read_and_changed(client: Client, topic: str) -> None:
    assert client.settings_of(topic)["cleanup.policy"] == "delete"
    client.change_settings(topic, {"retention.ms": "1234567", "max.message.bytes": "20000"})
    found = client.settings_of(topic)
    assert (found["retention.ms"], found["max.message.bytes"]) == ("1234567", "20000")
    with refused(ErrorCode.INVALID_CONFIG):
        client.change_settings(topic, {"retention.ms": "soon"})


@needs("delete records")
def test_records_are_deleted(client: Client, judge: Confluent, line: str) -> None:
    write(judge, line, numbered(20))
    client.delete_records(line, 0, 15)
    assert judge.offsets_of(line) == {0: (15, 20)}
    with refused(ErrorCode.OFFSET_OUT_OF_RANGE):
        client.delete_records(line, 0, 999)
