"""Kafka's own administration tools on three brokers, and its reader of files on what they leave behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_cluster import BrokerCluster

pytestmark = pytest.mark.compat_java

TOPICS = "org.apache.kafka.tools.TopicCommand"
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
ELECT = "org.apache.kafka.tools.LeaderElectionCommand"
CONFIGS = "kafka.admin.ConfigCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
CLUSTER = "org.apache.kafka.tools.ClusterTool"
DUMP = "org.apache.kafka.tools.DumpLogSegments"
FAST = ("--set", "broker.heartbeat.interval.ms=200", "--set", "broker.session.timeout.ms=1000")


def tool(cluster: BrokerCluster, which: str, *words: str | Path) -> str:
    return run(which, "--bootstrap-server", cluster.bootstrap, *words)


@pytest.fixture
def topic(cluster: BrokerCluster, name: str) -> str:
    tool(cluster, TOPICS, "--create", "--topic", name, "--replica-assignment", "1:2:3,2:3:1")
    return name


def replicas(cluster: BrokerCluster, topic: str) -> list[str]:
    said = tool(cluster, TOPICS, "--describe", "--topic", topic)
    return re.findall(r"Leader: (\d)\tReplicas: (\S+)", said)


def plan(path: Path, topic: str, **wanted: list[int]) -> Path:
    moves = [{"topic": topic, "partition": int(key[1:]), "replicas": to} for key, to in wanted.items()]
    file = path / "plan.json"
    file.write_text(json.dumps({"version": 1, "partitions": moves}))
    return file


def test_topics(cluster: BrokerCluster, topic: str) -> None:
    assert replicas(cluster, topic) == [("1", "1,2,3"), ("2", "2,3,1")]
    tool(cluster, TOPICS, "--alter", "--topic", topic, "--partitions", "4")
    assert len(replicas(cluster, topic)) == 4
    assert topic not in tool(cluster, TOPICS, "--describe", "--under-replicated-partitions")
    tool(cluster, TOPICS, "--delete", "--topic", topic)
    assert topic not in tool(cluster, TOPICS, "--list").splitlines()


def test_a_broker_that_is_gone_leaves_partitions_under_replicated(
    new_cluster: Callable[..., BrokerCluster],
) -> None:
    cluster = new_cluster(3, *FAST).start()
    tool(cluster, TOPICS, "--create", "--topic", "t", "--replica-assignment", "1:2:3,2:3:1")
    tool(cluster, TOPICS, "--create", "--topic", "u", "--replica-assignment", "1:2")
    assert cluster[3].stop() == 0
    said = tool(cluster, TOPICS, "--describe", "--under-replicated-partitions")
    assert re.findall(r"Topic: (\w)\t+Partition: (\d)", said) == [("t", "0"), ("t", "1")]


def test_reassignment(cluster: BrokerCluster, topic: str, tmp_path: Path) -> None:
    of_topic = tmp_path / "topics.json"
    of_topic.write_text(json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    words = ("--topics-to-move-json-file", of_topic, "--broker-list", "2,3", "--generate")
    said = run(REASSIGN, "--bootstrap-server", cluster.bootstrap, *words, succeeds=False)
    assert "only 2 broker(s) are registered" in said
    words = ("--topics-to-move-json-file", of_topic, "--broker-list", "1,2,3", "--generate")
    assert "Proposed partition reassignment" in tool(cluster, REASSIGN, *words)

    by = ("--reassignment-json-file", plan(tmp_path, topic, p0=[3, 1], p1=[1, 2]))
    assert "Successfully started" in tool(cluster, REASSIGN, *by, "--execute")
    for _ in range(20):
        said = tool(cluster, REASSIGN, *by, "--verify")
        if "still in progress" not in said:
            break
    assert said.count("is completed") == 2, said
    assert [one for _, one in replicas(cluster, topic)] == ["3,1", "1,2"]
    assert "No partition reassignments found" in tool(cluster, REASSIGN, "--list")
    assert "None of the specified partition reassignments are active" in tool(
        cluster, REASSIGN, *by, "--cancel"
    )


RATES = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
LISTS = ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas")


def of(kind: str, name: str) -> tuple[str, ...]:
    return ("--entity-type", kind, "--entity-name", name)


def throttles(cluster: BrokerCluster, topic: str) -> dict[str, list[str]]:
    """What kafka-configs shows of them: of the topic, and of each broker."""
    found = {"topic": tool(cluster, CONFIGS, *of("topics", topic), "--describe")}
    for node in ("1", "2", "3"):
        found[node] = tool(cluster, CONFIGS, *of("brokers", node), "--describe")
    return {
        which: re.findall(r"^ +((?:leader|follower)\.replication\.throttled\S+)", said, re.MULTILINE)
        for which, said in found.items()
    }


def fill(cluster: BrokerCluster, topic: str, megabytes: int) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 5})
    for _ in range(megabytes * 10):
        producer.produce(topic, b"x" * 100_000, partition=0)
    assert producer.flush(60) == 0


def test_a_throttled_reassignment(cluster: BrokerCluster, name: str, tmp_path: Path) -> None:
    """--execute sets the throttle, again with --additional another one, and --verify lifts it at the end."""
    tool(cluster, TOPICS, "--create", "--topic", name, "--replica-assignment", "1:2")
    fill(cluster, name, 8)
    by = ("--reassignment-json-file", plan(tmp_path, name, p0=[1, 3]))
    said = tool(cluster, REASSIGN, *by, "--execute", "--throttle", "1000")
    assert "The inter-broker throttle limit was set to 1000 B/s" in said
    rates = [f"{rate}=1000" for rate in sorted(RATES)]
    shown = throttles(cluster, name)
    assert sorted(shown.pop("topic")) == [f"{LISTS[1]}=0:3", f"{LISTS[0]}=0:1,0:2"]
    assert {which: sorted(found) for which, found in shown.items()} == dict.fromkeys("123", rates)
    said = tool(cluster, REASSIGN, *by, "--verify")
    assert "still in progress" in said and "Clearing" not in said
    assert replicas(cluster, name) == [("1", "1,3,2")]

    said = tool(cluster, REASSIGN, *by, "--execute", "--additional", "--throttle", "50000000")
    assert "The inter-broker throttle limit was set to 50000000 B/s" in said
    for _ in range(20):
        said = tool(cluster, REASSIGN, *by, "--verify")
        if "still in progress" not in said:
            break
    assert "Clearing broker-level throttles" in said and "Clearing topic-level throttles" in said
    assert replicas(cluster, name) == [("1", "1,3")]
    assert throttles(cluster, name) == {"topic": [], "1": [], "2": [], "3": []}


def test_a_throttled_reassignment_is_cancelled(cluster: BrokerCluster, name: str, tmp_path: Path) -> None:
    tool(cluster, TOPICS, "--create", "--topic", name, "--replica-assignment", "1:2")
    fill(cluster, name, 8)
    by = ("--reassignment-json-file", plan(tmp_path, name, p0=[1, 3]))
    tool(cluster, REASSIGN, *by, "--execute", "--throttle", "1000")
    said = tool(cluster, REASSIGN, *by, "--cancel")
    assert f"Successfully cancelled partition reassignment for: {name}-0" in said
    assert "Clearing broker-level throttles" in said
    assert replicas(cluster, name) == [("1", "1,2")]
    assert throttles(cluster, name) == {"topic": [], "1": [], "2": [], "3": []}


@pytest.mark.parametrize(
    ("whose", "added"),
    [
        ("topic", {LISTS[0]: "*", LISTS[1]: "[0:1,1:2]"}),
        ("a broker", dict.fromkeys(RATES, "12345")),
        ("all brokers", dict.fromkeys(RATES, "12345")),
    ],
)
def test_throttles_as_settings(cluster: BrokerCluster, topic: str, whose: str, added: dict[str, str]) -> None:
    who = {
        "topic": of("topics", topic),
        "a broker": of("brokers", "2"),
        "all brokers": ("--entity-type", "brokers", "--entity-default"),
    }[whose]
    tool(
        cluster, CONFIGS, *who, "--alter",
        "--add-config", ",".join(f"{key}={value}" for key, value in added.items()),
    )  # fmt: skip
    said = tool(cluster, CONFIGS, *who, "--describe")
    assert all(f"{key}={value.strip('[]')} " in said for key, value in added.items()), said
    tool(cluster, CONFIGS, *who, "--alter", "--delete-config", ",".join(added))
    assert "throttled" not in tool(cluster, CONFIGS, *who, "--describe")


def test_a_throttle_that_names_no_replica_is_refused(cluster: BrokerCluster, topic: str) -> None:
    wrong = (*of("topics", topic), "--alter", "--add-config", f"{LISTS[0]}=0")
    said = run(CONFIGS, "--bootstrap-server", cluster.bootstrap, *wrong, succeeds=False)
    assert "InvalidConfigurationException" in said


def test_a_preferred_leader_is_elected(cluster: BrokerCluster, topic: str, tmp_path: Path) -> None:
    by = ("--reassignment-json-file", plan(tmp_path, topic, p0=[2, 1, 3]))
    tool(cluster, REASSIGN, *by, "--execute")
    of_partition = ("--election-type", "PREFERRED", "--topic", topic, "--partition", "0")
    assert "Successfully completed leader election (PREFERRED)" in tool(cluster, ELECT, *of_partition)
    assert "Valid replica already elected" in tool(cluster, ELECT, *of_partition)


def test_settings(cluster: BrokerCluster, topic: str) -> None:
    of_topic = ("--entity-type", "topics", "--entity-name", topic)
    tool(cluster, CONFIGS, *of_topic, "--alter", "--add-config", "retention.ms=1000000")
    assert "retention.ms=1000000" in tool(cluster, CONFIGS, *of_topic, "--describe")
    tool(cluster, CONFIGS, *of_topic, "--alter", "--delete-config", "retention.ms")
    assert "retention.ms" not in tool(cluster, CONFIGS, *of_topic, "--describe")
    for node in ("1", "2", "3"):
        of_broker = ("--entity-type", "brokers", "--entity-name", node, "--describe", "--all")
        assert f"node.id={node} " in tool(cluster, CONFIGS, *of_broker)


def test_the_tools_that_only_look(cluster: BrokerCluster, topic: str) -> None:
    said = tool(cluster, LOG_DIRS, "--describe", "--topic-list", topic)
    found = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    for one in found["brokers"]:
        (held,) = one["logDirs"]
        assert held["error"] is None
        assert sorted(part["partition"] for part in held["partitions"]) == [f"{topic}-0", f"{topic}-1"]
    assert sorted(one["broker"] for one in found["brokers"]) == [1, 2, 3]
    assert len(re.findall(r"\(id: \d rack: null.*\) -> \(", tool(cluster, VERSIONS))) == 3
    said = run(CLUSTER, "list-endpoints", "--bootstrap-server", cluster.bootstrap)
    assert len(re.findall(r"^\d\s.*\sunfenced\s+broker", said, re.MULTILINE)) == 3


@pytest.mark.parametrize("way", ["--bootstrap-server", "--bootstrap-controller"])
def test_the_quorum(cluster: BrokerCluster, way: str) -> None:
    at = cluster.bootstrap if way == "--bootstrap-server" else cluster.voters.replace("1@", "").split(",")[0]
    said = run(QUORUM, way, at, "describe", "--status")
    voters = json.loads(re.findall(r"CurrentVoters: +(.*)", said)[0])
    assert [one["id"] for one in voters] == [1, 2, 3]
    assert [one["endpoints"] for one in voters] == [
        [f"CONTROLLER://127.0.0.1:{cluster[node].controller_port}"] for node in (1, 2, 3)
    ]
    said = run(QUORUM, way, at, "describe", "--replication")
    assert (said.count("Leader"), said.count("Follower")) == (1, 2)


def test_a_voter_is_removed(new_cluster: Callable[..., BrokerCluster]) -> None:
    cluster = new_cluster(3).start()
    lines = (cluster[3].data_dir / "meta.properties").read_text().splitlines()
    directory = dict(line.split("=", 1) for line in lines)["directory.id"]
    which = ("--controller-id", "3", "--controller-directory-id", directory)
    assert re.search(r"Removed +KRaft controller 3", tool(cluster, QUORUM, "remove-controller", *which))
    said = tool(cluster, QUORUM, "describe", "--status")
    assert [one["id"] for one in json.loads(re.findall(r"CurrentVoters: +(.*)", said)[0])] == [1, 2]
    assert [one["id"] for one in json.loads(re.findall(r"CurrentObservers: +(.*)", said)[0])] == [3]


def test_the_files_of_every_node(new_cluster: Callable[..., BrokerCluster]) -> None:
    """The metadata, a group's offsets and a topic's records are the same on all three."""
    cluster = new_cluster(3).start()
    tool(cluster, TOPICS, "--create", "--topic", "t", "--replica-assignment", "1:2:3")
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True})
    for n in range(100):
        producer.produce("t", b"%d" % n)
    assert producer.flush(30) == 0
    consumer = Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["t"])
    read = 0
    while read < 100:
        read += sum(one.error() is None for one in consumer.consume(100, 1))
    consumer.commit(asynchronous=False)
    consumer.close()
    AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(timeout=10)
    for node in (3, 2, 1):
        assert cluster[node].stop() == 0
    for node in (1, 2, 3):
        data = cluster[node].data_dir
        metadata = dump(*(data / "__cluster_metadata-0").glob("*.log"), how="--cluster-metadata-decoder")
        for word in ("LeaderChange", "KRaftVoters", "REGISTER_BROKER_RECORD", "PARTITION_CHANGE_RECORD"):
            assert word in metadata, word
        records = dump(data / "t-0" / f"{0:020}.log", how="--deep-iteration")
        offsets = [int(one) for one in re.findall(r"^\| offset: (\d+)", records, re.MULTILINE)]
        assert offsets == list(range(100))
        commits = [path for path in data.glob("__consumer_offsets-*/*.log") if path.stat().st_size]
        assert '"group":"g","topic":"t","partition":0' in dump(*commits, how="--offsets-decoder")


def dump(*files: Path, how: str) -> str:
    said = run(DUMP, how, "--files", ",".join(map(str, files)))
    assert not re.search(r"isvalid: false|mismatch|Exception", said, re.IGNORECASE), said[-3000:]
    return said
