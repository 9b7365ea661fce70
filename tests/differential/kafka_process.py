"""Apache Kafka itself as a child process: one node, KRaft, from its published artifacts.

The artifacts are those of the command line tools (tests/compatibility/java/pom.xml pins the version), so that
both suites judge by the same Kafka.
"""

from __future__ import annotations

import base64
import socket
import subprocess
import time
from pathlib import Path
from typing import Self
from uuid import uuid4

from tests.compatibility.java.kafka_tools import classpath
from tests.support.broker_cluster import free_ports

READY_S = 90
RETRY_S = 0.1
JAVA = ("java", "-Xmx512m", "-Xms192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
KILL_WITH_PARENT = '"$@" & child=$!; read -r _; kill -9 "$child"; wait "$child" 2>/dev/null'
"""A shell that ends its child when its own input ends: tests that are killed leave no Kafka behind."""


class KafkaProcess:
    """Kafka on loopback, formatted into `data_dir`; `options` are lines of its server.properties."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.port, self._controller_port = free_ports(2)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir / "server.properties"
        properties.write_text("\n".join(self._properties()) + "\n")
        cluster_id = base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        java = (*JAVA, "-cp", classpath())
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", properties],
            check=True, timeout=READY_S, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with open(self.data_dir / "kafka.log", "wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", KILL_WITH_PARENT, "sh", *java, "kafka.Kafka", str(properties)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.data_dir,
            )  # fmt: skip
        self._await_listener()
        return self

    def _properties(self) -> list[str]:
        client, controller = f"127.0.0.1:{self.port}", f"127.0.0.1:{self._controller_port}"
        return [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.bootstrap.servers={controller}",
            f"listeners=PLAINTEXT://{client},CONTROLLER://{controller}",
            f"advertised.listeners=PLAINTEXT://{client}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAINTEXT",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={self.data_dir / 'log'}",
            *self._options,
        ]

    def _await_listener(self) -> None:
        """A broker listens to clients once the controller has let it in."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(RETRY_S)
        self.stop()
        raise AssertionError("Kafka did not listen:\n" + (self.data_dir / "kafka.log").read_text()[-4000:])

    def stop(self) -> None:
        """kill -9: nobody needs its files again."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(timeout=30)
