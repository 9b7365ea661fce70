"""The table of configuration keys: parsing, layering, refusal, and the page written from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamkit.broker import config_docs
from streamkit.broker.broker_keys import BROKER_KEYS
from streamkit.broker.config import PROPERTY_NAMES, BrokerConfig, parse_assignments
from streamkit.broker.config_description import (
    BrokerLayers,
    ConfigEntry,
    ConfigSource,
    describe_all_brokers,
    describe_broker,
    describe_topic,
)
from streamkit.broker.config_key import LONG_MAX, InvalidValueError
from streamkit.broker.group_config import BOUNDS, GROUP_KEYS
from streamkit.broker.listeners import Listener
from streamkit.broker.properties import parse_properties
from streamkit.broker.quorum_config import internal_replication_factor
from streamkit.broker.topic_config import TOPIC_KEYS, TopicConfig
from streamkit.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def entries(found: object) -> dict[str, ConfigEntry]:
    return {entry.name: entry for entry in found}  # type: ignore[attr-defined]


# --- the table -----------------------------------------------------------------------------------


def test_defaults_are_values_that_their_own_keys_accept() -> None:
    for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values()):
        if key.default != ():
            assert key.parse(key.render(key.default)) == key.default, key.name


def test_every_key_has_a_sentence_of_documentation_and_its_kafka_attribute_name() -> None:
    for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values()):
        assert key.doc.endswith((".", ")."))
        assert key.attribute == key.name.removeprefix("streamkit.").replace(".", "_")


def test_kafkas_defaults_where_users_would_notice() -> None:
    config = BrokerConfig()
    assert config.auto_create_topics_enable is True
    assert config.num_partitions == 1
    assert config.topic_defaults.retention_ms == 604_800_000
    assert config.topic_defaults.max_message_bytes == 1_048_588
    assert config.topic_defaults.segment_bytes == 1_073_741_824


def test_configuration_page_is_current() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == config_docs.page(), "python -m streamkit.broker.config_docs > docs/configuration.md"


def test_every_key_is_read_by_some_code() -> None:
    """No dead options: somebody outside of the tables reads each attribute."""
    tables = {"broker_keys.py", "topic_config.py", "group_config.py", "config.py"}
    tables |= {"config_key.py", "config_description.py", "config_docs.py"}
    broker = ROOT / "streamkit" / "broker"
    code = "\n".join(path.read_text() for path in broker.rglob("*.py") if path.name not in tables)
    read_by = {
        "listeners": "endpoints()",
        "advertised_listeners": "advertised_endpoints()",
        "controller_listener_names": "is_for_controllers",
        "controller_quorum_voters": "voters()",
    }
    bounds = {name for one in BOUNDS for name in (one.low, one.high) if name}
    unread = [
        key.name
        for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values())
        if not re.search(rf"\.{re.escape(read_by.get(key.attribute, key.attribute))}(?!\w)", code)
    ]
    assert set(unread) == bounds, "`GroupConfig.check` and `within` read the bounds, by their names"


# --- from properties -----------------------------------------------------------------------------


def test_properties_become_typed_attributes() -> None:
    config = BrokerConfig.from_properties(
        {
            "num.partitions": " 3 ",
            "auto.create.topics.enable": "FALSE",
            "log.cleanup.policy": "compact, delete",
            "streamkit.flush.mode": "relaxed",
        }
    )
    assert config.num_partitions == 3
    assert config.auto_create_topics_enable is False
    assert config.topic_defaults.cleanup_policy == ("compact", "delete")
    assert config.flush_mode == "relaxed"


@pytest.mark.parametrize(
    ("given", "expected_ms"),
    [
        ({"log.retention.hours": "2"}, 7_200_000),
        ({"log.retention.minutes": "5", "log.retention.hours": "2"}, 300_000),
        ({"log.retention.ms": "7", "log.retention.minutes": "5", "log.retention.hours": "2"}, 7),
        ({"log.retention.hours": "-1"}, -1),
    ],
)
def test_the_finest_unit_of_retention_wins_as_in_kafka(given: dict[str, str], expected_ms: int) -> None:
    assert BrokerConfig.from_properties(given).topic_defaults.retention_ms == expected_ms


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        BrokerConfig.from_properties({"num.partition": "3"})
    assert raised.value.message == "unknown configuration key num.partition"
    assert raised.value.hint == "did you mean num.partitions?"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("num.partitions", "0"),
        ("num.partitions", "three"),
        ("num.partitions", "2147483648"),
        ("auto.create.topics.enable", "yes"),
        ("log.cleanup.policy", "shrink"),
        ("log.cleanup.policy", ""),
        ("compression.type", "brotli"),
        ("log.retention.hours", "2562047788016"),
        ("log.retention.ms", "-2"),
    ],
)
def test_a_bad_value_says_what_is_expected(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=r"Invalid value .* for configuration .*: it (must|may)"):
        BrokerConfig.from_properties({name: text})


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(UsageError, match=r"group\.min\.session\.timeout\.ms is above"):
        BrokerConfig.from_properties(
            {"group.min.session.timeout.ms": "7", "group.max.session.timeout.ms": "6"}
        )


def test_several_log_directories_are_refused() -> None:
    with pytest.raises(UsageError, match="several directories"):
        BrokerConfig.from_properties({"log.dirs": "/a,/b"})
    assert BrokerConfig.from_properties({"log.dirs": "/a"}).log_dir == "/a"


def test_set_words() -> None:
    assert parse_assignments(["num.partitions=3", "log.dir = /a=b"]) == {
        "num.partitions": "3",
        "log.dir": "/a=b",
    }
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        parse_assignments(["num.partitions"])
    with pytest.raises(UsageError, match="unknown configuration key"):
        parse_assignments(["x=1"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("", ()), ("*", ("*",)), ("0:1", ("0:1",)), ("0:1, 12:3", ("0:1", "12:3"))],
)
def test_throttled_replicas(text: str, value: tuple[str, ...]) -> None:
    config = TopicConfig().altered({"leader.replication.throttled.replicas": text})
    assert config.leader_replication_throttled_replicas == value


@pytest.mark.parametrize("text", ["0", "*,0:1", "0:1:2", "a:1", "0:-1"])
def test_what_names_no_replicas(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"must be \* or \[partitionId\]"):
        TopicConfig().altered({"follower.replication.throttled.replicas": text})


def test_throttled_replicas_are_of_topics_and_have_no_default_at_the_broker() -> None:
    with pytest.raises(UsageError, match="unknown configuration key"):
        BrokerConfig.from_properties({"leader.replication.throttled.replicas": "0:1"})
    described = {entry.name for entry in describe_broker(BrokerConfig(), BrokerLayers())}
    assert "leader.replication.throttled.replicas" not in described
    (entry,) = (
        entry
        for entry in describe_topic(BrokerConfig(), BrokerLayers(), {})
        if entry.name == "leader.replication.throttled.replicas"
    )
    assert (entry.value, entry.source) == ("", ConfigSource.DEFAULT)


def test_a_broker_heeds_its_throttles_while_it_runs() -> None:
    config = BrokerConfig.from_properties({"leader.replication.throttled.rate": "7"})
    assert config.leader_replication_throttled_rate == 7
    assert config.follower_replication_throttled_rate == LONG_MAX
    altered = config.altered({"leader.replication.throttled.rate": "8"})
    assert altered.leader_replication_throttled_rate == 8
    read_only = {entry.name: entry.read_only for entry in describe_broker(config, BrokerLayers())}
    assert not read_only["follower.replication.throttled.rate"]
    assert read_only["replication.quota.window.num"]


# --- listeners -----------------------------------------------------------------------------------


def test_listeners_are_parsed_and_advertised() -> None:
    config = BrokerConfig.from_properties(
        {
            "listeners": "INTERNAL://[::1]:9092,external://0.0.0.0:9094",
            "advertised.listeners": "EXTERNAL://broker.example:19094",
        }
    )
    internal = Listener(name="INTERNAL", host="::1", port=9092)
    assert config.endpoints() == (internal, Listener(name="EXTERNAL", host="0.0.0.0", port=9094))
    assert config.advertised_endpoints()[0] == internal
    assert str(internal) == "INTERNAL://[::1]:9092"
    assert config.advertised_endpoints()[1].host == "broker.example"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"listeners": "PLAINTEXT://0.0.0.0:9092"}, "no address that a client could connect to"),
        ({"listeners": "PLAINTEXT://:9092"}, "no address that a client could connect to"),
        ({"listeners": "9092"}, "is not NAME://host:port"),
        ({"listeners": "A://h:99999"}, "is not NAME://host:port"),
        ({"listeners": "A://h:1,A://h:2"}, "a listener name twice"),
        ({"listeners": "SSL://h:1"}, "SSL is not supported"),
        ({"listeners": ""}, "listeners is empty"),
        ({"advertised.listeners": "OTHER://h:1"}, "not among listeners"),
    ],
)
def test_listeners_that_nobody_could_reach_are_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        BrokerConfig.from_properties(given)


# --- a node of a cluster -------------------------------------------------------------------------

THREE = "1@127.0.0.1:9193,2@127.0.0.1:9293,3@[::1]:9393"


def in_cluster(**given: str) -> BrokerConfig:
    properties = {
        "node.id": "1",
        "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://0.0.0.0:9193",
        "controller.quorum.voters": THREE,
        **given,
    }
    return BrokerConfig.from_properties(properties)


def test_the_controller_listener_is_not_for_clients() -> None:
    config = in_cluster()
    assert [one.name for one in config.endpoints()] == ["PLAINTEXT", "CONTROLLER"]
    assert [one.name for one in config.advertised_endpoints()] == ["PLAINTEXT"]
    assert config.controller_endpoint() == Listener(name="CONTROLLER", host="0.0.0.0", port=9193)
    assert BrokerConfig.from_properties({}).controller_endpoint() is None


def test_voters_are_parsed() -> None:
    assert [(voter.node_id, voter.host, voter.port) for voter in in_cluster().voters()] == [
        (1, "127.0.0.1", 9193),
        (2, "127.0.0.1", 9293),
        (3, "::1", 9393),
    ]
    assert ",".join(map(str, in_cluster().voters())) == THREE
    assert BrokerConfig.from_properties({}).voters() == ()


@pytest.mark.parametrize(
    ("voters", "words"),
    [
        ("1", "'1' is not ID@HOST:PORT"),
        ("1@h", "'1@h' is not ID@HOST:PORT"),
        ("1@h:0", "is not ID@HOST:PORT"),
        ("1@h:65536", "is not ID@HOST:PORT"),
        ("one@h:9193", "is not ID@HOST:PORT"),
        ("1@:9193", "is not ID@HOST:PORT"),
        ("1@a:1,1@b:1", "node 1 stands in it twice"),
        ("1@a:1,2@a:1", "a:1 stands in it twice"),
    ],
)
def test_malformed_voters_are_refused_with_an_example(voters: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        in_cluster(**{"controller.quorum.voters": voters})
    assert "--voters 1@" in raised.value.hint


def test_a_voter_must_listen_for_the_others_and_a_broker_need_not() -> None:
    with pytest.raises(UsageError, match="no listener for the other controllers") as raised:
        in_cluster(listeners="PLAINTEXT://127.0.0.1:9092")
    assert raised.value.hint == "--controller-listen 127.0.0.1:9193"
    with pytest.raises(UsageError, match="takes any free one"):
        in_cluster(listeners="PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:0")
    in_cluster(**{"node.id": "4", "listeners": "PLAINTEXT://127.0.0.1:9092"})
    with pytest.raises(UsageError, match="none for clients"):
        in_cluster(listeners="CONTROLLER://127.0.0.1:9193")


def test_three_voters_replicate_by_default_and_fewer_do_not() -> None:
    three = in_cluster()
    assert (three.default_replication_factor, three.topic_defaults.min_insync_replicas) == (3, 2)
    two = in_cluster(**{"controller.quorum.voters": "1@127.0.0.1:9193,2@127.0.0.1:9293"})
    assert (two.default_replication_factor, two.topic_defaults.min_insync_replicas) == (1, 1)
    own = in_cluster(**{"default.replication.factor": "2", "min.insync.replicas": "1"})
    assert (own.default_replication_factor, own.topic_defaults.min_insync_replicas) == (2, 1)
    assert three.altered({"min.insync.replicas": "1"}).topic_defaults.min_insync_replicas == 1


@pytest.mark.parametrize(
    ("wanted", "voters", "brokers", "expected"),
    [
        (3, 0, 1, 1),
        (3, 1, 0, None),
        (3, 1, 2, 2),
        (3, 3, 1, None),
        (3, 3, 2, None),
        (3, 3, 3, 3),
        (3, 3, 5, 3),
        (3, 5, 3, 3),
        (1, 3, 1, 1),
        (3, 2, 1, None),
    ],
)
def test_internal_topics_wait_for_as_many_brokers_as_there_are_voters(
    wanted: int, voters: int, brokers: int, expected: int | None
) -> None:
    assert internal_replication_factor(wanted, voters=voters, brokers=brokers) == expected


# --- layers --------------------------------------------------------------------------------------


def test_a_topics_overrides_win_over_the_brokers_defaults() -> None:
    defaults = BrokerConfig.from_properties({"log.retention.hours": "1", "log.segment.bytes": "2048"})
    topic = defaults.topic_defaults.altered({"retention.ms": "-1"})
    assert (topic.retention_ms, topic.segment_bytes) == (-1, 2048)
    assert defaults.topic_defaults.altered({}) is defaults.topic_defaults
    with pytest.raises(InvalidValueError):
        TopicConfig().altered({"retention.ms": "soon"})


def test_what_is_altered_at_run_time_hides_every_spelling_given_at_start() -> None:
    config = BrokerConfig.from_properties({"log.retention.ms": "5", "num.partitions": "2"})
    altered = config.altered({"log.retention.hours": "1"})
    assert altered.topic_defaults.retention_ms == 3_600_000
    assert altered.num_partitions == 2
    assert config.topic_defaults.retention_ms == 5


def test_describing_a_topic_names_the_winning_layer_and_those_below() -> None:
    config = BrokerConfig.from_properties({"log.retention.hours": "1"})
    layers = BrokerLayers(this_broker={"log.segment.bytes": "4096"}, all_brokers={"log.retention.ms": "9"})
    found = entries(describe_topic(config, layers, {"retention.ms": "5"}))
    retention = found["retention.ms"]
    assert (retention.value, retention.source, retention.read_only) == ("5", ConfigSource.TOPIC, False)
    assert [(one.name, one.value, one.source) for one in retention.synonyms] == [
        ("retention.ms", "5", ConfigSource.TOPIC),
        ("log.retention.ms", "9", ConfigSource.DYNAMIC_DEFAULT_BROKER),
        ("log.retention.hours", "3600000", ConfigSource.STATIC_BROKER),
        ("log.retention.ms", "604800000", ConfigSource.DEFAULT),
    ]
    assert found["segment.bytes"].source is ConfigSource.DYNAMIC_BROKER
    assert found["cleanup.policy"].source is ConfigSource.DEFAULT
    assert found["cleanup.policy"].value == "delete"


def test_describing_a_broker_uses_the_brokers_names() -> None:
    config = BrokerConfig.from_properties({"num.partitions": "3"})
    found = entries(describe_broker(config, BrokerLayers(all_brokers={"message.max.bytes": "7"})))
    assert (found["num.partitions"].value, found["num.partitions"].source) == (
        "3",
        ConfigSource.STATIC_BROKER,
    )
    assert found["num.partitions"].read_only is True
    assert found["message.max.bytes"].source is ConfigSource.DYNAMIC_DEFAULT_BROKER
    assert found["message.max.bytes"].read_only is False
    assert "max.message.bytes" not in found
    assert found.keys() <= PROPERTY_NAMES.keys()
    assert set(entries(describe_all_brokers(BrokerLayers(all_brokers={"message.max.bytes": "7"})))) == {
        "message.max.bytes"
    }


# --- groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            {"consumer.session.timeout.ms": "44999"},
            "consumer.session.timeout.ms must be greater than or equal to "
            "group.consumer.min.session.timeout.ms",
        ),
        (
            {"consumer.heartbeat.interval.ms": "15001"},
            "consumer.heartbeat.interval.ms must be less than or equal to "
            "group.consumer.max.heartbeat.interval.ms",
        ),
    ],
)
def test_a_groups_values_must_lie_within_the_brokers_bounds(overrides: dict[str, str], reason: str) -> None:
    config = BrokerConfig()
    with pytest.raises(InvalidValueError, match=f"^{re.escape(reason)}$"):
        config.group_defaults.altered(overrides).check(config)


def test_a_groups_heartbeats_must_be_shorter_than_its_session() -> None:
    with pytest.raises(UsageError, match=r"must be greater than consumer\.heartbeat\.interval\.ms"):
        BrokerConfig.from_properties(
            {
                "group.consumer.min.session.timeout.ms": "1",
                "group.consumer.session.timeout.ms": "5000",
            }
        )


def test_what_a_group_was_given_is_drawn_into_the_bounds_of_the_broker_that_uses_it() -> None:
    """KIP-848: the bounds of another broker may be closer than those it was judged by."""
    closer = BrokerConfig.from_properties({"group.consumer.max.session.timeout.ms": "50000"})
    group = closer.group_config({"consumer.session.timeout.ms": "60000"})
    assert group.consumer_session_timeout_ms == 50_000
    assert closer.group_config({}) is closer.group_defaults


# --- the syntax of server.properties ----------------------------------------------------------------


def test_properties_syntax() -> None:
    text = (
        "# a comment\n! another\n\nnum.partitions=3\nlog.dir = /var/a b\nnode.id: 7\nlisteners PLAINTEXT\\\n"
        "    ://h:1\nspace\\ key=\\u0041\\tB\\\\\nempty=\nnum.partitions=4\r\nlast=no newline"
    )
    assert parse_properties(text) == {
        "num.partitions": "4",
        "log.dir": "/var/a b",
        "node.id": "7",
        "listeners": "PLAINTEXT://h:1",
        "space key": "A\tB\\",
        "empty": "",
        "last": "no newline",
    }
