"""Apache Kafka itself as child processes, from its published artifacts: a node alone, or a cluster.

They are used as ours are (`BrokerProcess`, `BrokerCluster`) and take the same words, as far as these are
settings of Kafka's: `--set name=value`. The artifacts are those of the command line tools
(tests/compatibility/java/pom.xml pins the version), so that all suites judge by the same Kafka.
"""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.compatibility.java.kafka_tools import classpath
from tests.support.broker_cluster import Nodes, free_ports

READY_S = 240
LOOK_S = 0.5
JAVA = ("java", "-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
KILL_WITH_PARENT = '"$@" & child=$!; read -r _; kill -9 "$child"; wait "$child" 2>/dev/null'
"""A shell that ends its child when its own input ends: tests that are killed leave no Kafka behind."""


@dataclass(frozen=True)
class Quorum:
    """Who votes; every node is told of all of them before any runs."""

    cluster_id: str
    ports: Mapping[int, int]
    """Node id → port of its controller listener."""
    directories: Mapping[int, str]

    @classmethod
    def of(cls, nodes: int) -> Self:
        ids = range(1, nodes + 1)
        return cls(
            _uuid(), dict(zip(ids, free_ports(nodes), strict=True)), {node_id: _uuid() for node_id in ids}
        )

    @property
    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    @property
    def voters(self) -> str:
        return ",".join(f"{n}@127.0.0.1:{port}:{self.directories[n]}" for n, port in self.ports.items())


class KafkaNode:
    """A broker on loopback that votes, too. It keeps its ports and its files over restarts."""

    def __init__(self, data_dir: Path, *options: str, node_id: int = 1, quorum: Quorum | None = None) -> None:
        self.data_dir = data_dir
        self.node_id = node_id
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = settings(options)
        self._quorum = quorum or Quorum.of(1)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Formatted when it is started for the first time. Returns when the cluster knows it as alive."""
        properties, java = self.data_dir / "server.properties", (*JAVA, "-cp", classpath())
        if not properties.exists():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            properties.write_text("\n".join(self._properties()) + "\n")
            quorum = ("-t", self._quorum.cluster_id, "--initial-controllers", self._quorum.voters)
            subprocess.run(
                [*java, "kafka.tools.StorageTool", "format", *quorum, "-c", properties],
                check=True, timeout=READY_S, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        with open(self.data_dir / "kafka.log", "ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", KILL_WITH_PARENT, "sh", *java, "kafka.Kafka", str(properties)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.data_dir, start_new_session=True,
            )  # fmt: skip
        self._until_alive()
        return self

    def _properties(self) -> Sequence[str]:
        client, controller = self.bootstrap, f"127.0.0.1:{self._quorum.ports[self.node_id]}"
        return (
            "process.roles=broker,controller",
            f"node.id={self.node_id}",
            f"controller.quorum.bootstrap.servers={self._quorum.addresses}",
            f"listeners=PLAINTEXT://{client},CONTROLLER://{controller}",
            f"advertised.listeners=PLAINTEXT://{client}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAINTEXT",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={self.data_dir / 'log'}",
            *self._settings,
        )

    def _until_alive(self) -> None:
        """Brokers that the controller does not count as alive are not in the metadata."""
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                if self.node_id in admin.list_topics(timeout=LOOK_S).brokers:
                    return
            except KafkaException:
                assert self.process is not None
                if self.process.poll() is not None:
                    break
        self.kill()
        raise AssertionError(
            "Kafka did not become ready:\n" + (self.data_dir / "kafka.log").read_text()[-4000:]
        )

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        process, self.process = self.process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(timeout=30)

    stop = kill  # nobody needs its files again


class KafkaCluster(Nodes[KafkaNode]):
    """So many nodes, with ids from 1."""

    def __init__(self, path: Path, voters: int, *options: str) -> None:
        quorum = Quorum.of(voters)
        super().__init__(
            {
                node_id: KafkaNode(path / f"kafka-{node_id}", *options, node_id=node_id, quorum=quorum)
                for node_id in quorum.ports
            }
        )


def quick(nodes: int) -> Sequence[str]:
    """What makes a cluster of so many ready soon, small, and quick to notice who is dead."""
    replicas, in_sync = min(3, nodes), min(2, nodes)
    lines = (
        "broker.heartbeat.interval.ms=500",
        "broker.session.timeout.ms=3000",
        f"default.replication.factor={replicas}",
        "group.initial.rebalance.delay.ms=0",
        "log.cleaner.dedupe.buffer.size=8388608",
        f"min.insync.replicas={in_sync}",
        "offsets.topic.num.partitions=4",
        f"offsets.topic.replication.factor={replicas}",
        f"transaction.state.log.min.isr={in_sync}",
        "transaction.state.log.num.partitions=4",
        f"transaction.state.log.replication.factor={replicas}",
    )
    return [word for line in lines for word in ("--set", line)]


def settings(options: Sequence[str]) -> Sequence[str]:
    """`--set name=value …` as lines of a server.properties; of two for one name Kafka takes the later."""
    assert all(word == "--set" for word in options[::2]), f"not settings of Kafka's: {options}"
    return options[1::2]


def _uuid() -> str:
    """Never with a dash in front, which a command line takes for an option."""
    return base64.urlsafe_b64encode(b"k" + uuid4().bytes[1:]).decode().rstrip("=")
