"""What the engines run here, as processes, each with the few settings that a scene chooses.

Their programs are in `programs/`, built once with the tools of their language for each state of sources and
pinned versions, and kept in the user's cache.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.compatibility.engines.program import Program
from tests.support import maven
from tests.support.toolchains import Toolchain, run

PROGRAMS = Path(__file__).with_name("programs")
# What Java's newer versions keep closed, and Flink and Hadoop open.
OPENED = tuple(
    f"--add-opens=java.base/java.{package}=ALL-UNNAMED"
    for package in ("lang", "lang.reflect", "net", "nio", "io", "text", "time", "util", "util.concurrent")
)
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
SMALL = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", QUIET)


class KafkaStreams(Program):
    """One instance of the application `application` (also the name of its group)."""

    def __init__(
        self, path: Path, bootstrap: str, application: str, topics: tuple[str, str], **settings: str
    ) -> None:
        config = {
            "bootstrap.servers": bootstrap,
            "application.id": application,
            "state.dir": str(path / "state"),
            "statestore.cache.max.bytes": "0",  # every count is written, so that each can be looked for
            "auto.offset.reset": "earliest",
            "commit.interval.ms": "200",
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        source = PROGRAMS / "kafka_streams"
        classpath = maven.classpath(source / "pom.xml", "kafka-streams")
        words = [f"{name}={value}" for name, value in config.items()]
        super().__init__(path, [*maven.java(classpath), str(source / "WordCount.java"), *topics, *words])


class Flink(Program):
    """A job on a Flink cluster of its own; it goes on from the newest checkpoint in `path`, if any."""

    def __init__(
        self, path: Path, bootstrap: str, name: str, topics: tuple[str, str], naming: str = "INCREMENTING"
    ) -> None:
        config = {
            "parallelism.default": "2",
            "rest.port": "0",
            "execution.checkpointing.interval": "300 ms",
            "execution.checkpointing.dir": (path / "checkpoints").as_uri(),
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "io.tmp.dirs": str(path / "scratch"),
        }
        newest = max(
            path.glob("checkpoints/*/chk-*/_metadata"), key=lambda one: one.stat().st_mtime, default=None
        )
        if newest is not None:
            config["execution.state-recovery.path"] = newest.parent.as_uri()
        settings = [f"{key}={value}" for key, value in config.items()]
        command = [*java("flink"), bootstrap, name, *topics, naming, *settings]
        super().__init__(path, command)


class Spark(Program):
    """A structured streaming query; it goes on from its checkpoint, if there is one.

    `to` is a topic for counts of words, or the address of a directory for the records as they are.
    """

    def __init__(self, path: Path, bootstrap: str, topic: str, to: str, checkpoint: str) -> None:
        job = {
            "bootstrap": bootstrap,
            "from": topic,
            "to": to,
            "checkpoint": checkpoint,
            "scratch": str(path / "scratch"),
        }
        source = PROGRAMS / "spark"
        jars = Path(maven.classpath(source / "pom.xml", "spark-kafka")).parent.glob("*.jar")
        command = [*pyspark(), str(source / "query.py"), ",".join(sorted(map(str, jars))), json.dumps(job)]
        super().__init__(path, command, {"SPARK_LOCAL_IP": "127.0.0.1"})


class Hdfs(Program):
    """HDFS, on one name node and one data node."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, [*java("hdfs"), str(path)])

    @property
    def uri(self) -> str:
        return self.comes_to("READY").states[0]

    @property
    def http(self) -> str:
        return self.comes_to("READY").states[1]


def build_java(home: Path) -> None:
    run(home, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib")
    run(home, "javac", "-cp", "lib/*", "-d", "classes", *map(str, home.glob("*.java")))


def start_java(home: Path) -> Sequence[str]:
    program = next(home.glob("*.java")).stem
    return ("java", *SMALL, *OPENED, "-cp", f"{home}/classes:{home}/lib/*", program)


def java(program: str) -> list[str]:
    return Toolchain(PROGRAMS / program, ("java", "javac", "mvn"), build_java, start_java).command()


def build_pyspark(home: Path) -> None:
    run(home, sys.executable, "-m", "venv", "venv")
    run(home, "venv/bin/python", "-m", "pip", "install", "--quiet", "-r", "requirements.txt")


def start_pyspark(home: Path) -> Sequence[str]:
    return (str(home / "venv/bin/python"),)


def pyspark() -> list[str]:
    return Toolchain(PROGRAMS / "pyspark", ("java",), build_pyspark, start_pyspark).command()
