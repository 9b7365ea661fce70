"""Apicurio Registry as a process: a registry that others wrote, with its schemas in a topic of our broker."""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.support import maven

ARTIFACT = "io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all"  # 3.3 needs Java 21
READY_S = 240  # a virtual machine on a busy machine
LOOK_EVERY_S = 0.2


class Apicurio:
    """Started, killed and started again at one address."""

    def __init__(self, path: Path, bootstrap: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self._log = path / "apicurio.log"
        self._bootstrap = bootstrap
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> Any:
        """Confluent's client of it."""
        return SchemaRegistryClient({"url": self.url, "timeout": 30})

    def start(self) -> Self:
        home = maven.unpacked(ARTIFACT, "apicurio", _unpack)
        (jar,) = home.glob("*-runner.jar")
        settings = {
            "APICURIO_STORAGE_KIND": "kafkasql",
            "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": self._bootstrap,
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.port),
        }
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                [*maven.java("unused", heap="512m")[:-2], "-jar", jar],
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_S
        while not self._answers():
            said = self._log.read_text()[-3000:]
            assert self._process.poll() is None and time.monotonic() < deadline, said
            time.sleep(LOOK_EVERY_S)
        return self

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _unpack(archive: Path, home: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data")
