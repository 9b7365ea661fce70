"""Our files as Kafka's DumpLogSegments reads them: records of every kind, each index entry checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.compatibility.java.kafka_tools import run
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.compat_java

RECORDS = 6000
DUMP = "org.apache.kafka.tools.DumpLogSegments"
SMALL_SEGMENTS = {"segment.bytes": "1048576", "segment.index.bytes": "4096", "index.interval.bytes": "512"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a broker left behind: a topic of many segments, a group with commits."""
    often = "metadata.log.max.record.bytes.between.snapshots=1"
    broker = BrokerProcess(tmp_path_factory.mktemp("dumped") / "data", "--set", often).start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic("events", 1, 1, config=SMALL_SEGMENTS)])["events"].result(10)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "batch.num.messages": 20}
    )
    for n in range(RECORDS):
        producer.produce(
            "events", key=b"k%d" % (n % 10), value=b"%d" % n + b"x" * 400, timestamp=1_000_000 + n
        )
        producer.poll(0)
    assert producer.flush(20) == 0
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "readers"})
    consumer.commit(offsets=[TopicPartition("events", 0, 17, "so far")], asynchronous=False)
    consumer.close()
    live_in_a_consumer_group(broker.bootstrap)
    broker.stop()
    return broker.data_dir


def live_in_a_consumer_group(bootstrap: str) -> None:
    """Long enough for a record of each kind."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "consumers", "group.protocol": "consumer"}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(["^ev.*"])
    while consumer.poll(0.1) is None:
        pass
    consumer.close()


def dump(*files: Path, how: str = "--deep-iteration") -> str:
    said = run(DUMP, how, "--files", ",".join(map(str, files)))
    assert not re.search(r"isvalid: false|mismatch|Exception", said, re.IGNORECASE), said[-3000:]
    return said


def payloads(said: str) -> list[dict[str, object]]:
    return [json.loads(found) for found in re.findall(r"payload: (\{.*\})$", said, re.MULTILINE)]


def test_records_and_indexes(data_dir: Path) -> None:
    logs = sorted((data_dir / "events-0").glob("*.log"))
    assert len(logs) >= 3
    said = dump(*logs)
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+)", said, re.MULTILINE)]
    assert offsets == list(range(RECORDS))
    for suffix in ("index", "timeindex"):
        indexes = sorted((data_dir / "events-0").glob(f"*.{suffix}"))
        assert len(indexes) >= len(logs) - 1
        assert "offset: " in dump(*indexes)


def test_producer_snapshots(data_dir: Path) -> None:
    snapshots = sorted((data_dir / "events-0").glob("*.snapshot"))
    assert snapshots
    said = dump(*snapshots)
    assert re.search(r"producerId: \d+ producerEpoch: 0 ", said), said


def test_the_metadata_log(data_dir: Path) -> None:
    said = dump(*sorted((data_dir / "__cluster_metadata-0").glob("*.log")), how="--cluster-metadata-decoder")
    kinds = {found["type"] for found in payloads(said)}
    assert {
        "REGISTER_BROKER_RECORD",
        "FEATURE_LEVEL_RECORD",
        "TOPIC_RECORD",
        "PARTITION_RECORD",
        "CONFIG_RECORD",
    } <= kinds
    assert {"type": "TOPIC_RECORD", "name": "events"} in [
        {"type": one["type"], "name": one["data"]["name"]}  # type: ignore[index]
        for one in payloads(said)
        if one["type"] == "TOPIC_RECORD"
    ]


def test_the_quorums_own_records_and_snapshots(data_dir: Path) -> None:
    """The control records of elections and voters, in the log and in a snapshot."""
    metadata = data_dir / "__cluster_metadata-0"
    log = dump(*sorted(metadata.glob("*.log")), how="--cluster-metadata-decoder")
    assert "LeaderChange" in log and "KRaftVersion" in log and "KRaftVoters" in log
    snapshots = sorted(metadata.glob("*.checkpoint"))
    assert snapshots
    said = dump(snapshots[-1], how="--cluster-metadata-decoder")
    for word in ("SnapshotHeader", "KRaftVersion", "KRaftVoters", "SnapshotFooter"):
        assert word in said
    assert {"FEATURE_LEVEL_RECORD", "REGISTER_BROKER_RECORD"} <= {one["type"] for one in payloads(said)}


def test_committed_offsets(data_dir: Path) -> None:
    logs = [path for path in data_dir.glob("__consumer_offsets-*/*.log") if path.stat().st_size]
    said = dump(*logs, how="--offsets-decoder")
    assert '"group":"readers","topic":"events","partition":0' in said
    # The client ends what it sends with a zero byte.
    commits = [found["data"] for found in payloads(said) if "commitTimestamp" in str(found)]
    assert [(one["offset"], one["metadata"]) for one in commits] == [(17, "so far\0")]  # type: ignore[index]


def test_consumer_groups(data_dir: Path) -> None:
    """Each record of a group of the new protocol, and how it ends."""
    logs = [path for path in data_dir.glob("__consumer_offsets-*/*.log") if path.stat().st_size]
    said = dump(*logs, how="--offsets-decoder")
    found: dict[int, list[dict[str, Any]]] = {}
    for key, payload in re.findall(r"key: (\{.*?\}) payload: (.*)$", said, re.MULTILINE):
        named = json.loads(key)
        if named["data"].get("groupId") == "consumers":
            value = json.loads(payload) if payload.startswith("{") else None
            found.setdefault(int(named["type"]), []).append(value["data"] if value else {})
    assert found.keys() == {3, 5, 6, 7, 8, 16}
    assert [one["epoch"] for one in found[3]] == [1, 2]
    assert found[5][0]["subscribedTopicRegex"] == "(^ev.*)"
    assert found[16][0]["topics"] == ["events"]
    (given,) = found[8][0]["assignedPartitions"]
    assert (found[8][0]["memberEpoch"], given["partitions"], given["assignmentEpochs"]) == (1, [0], [1])
    assert [part["partitions"] for part in found[7][0]["topicPartitions"]] == [[0]]
    assert all(found[kind][-1] == {} for kind in (5, 7, 8, 16)), "the member that left is forgotten"
