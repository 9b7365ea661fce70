"""Writing records for `topic produce`: nothing is reported that was not acknowledged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from streamkit.cli.admin import Cluster, explained, in_our_words
from streamkit.cli.output import print_json, remark
from streamkit.errors import DeadlineError, NotFoundError, StreamkitError, UsageError

FLUSH_S = 30.0


class Sender:
    """Queues records of one topic; `finish` returns once every one is acknowledged."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        headers: Sequence[tuple[str, str]],
        partition: int | None,
        timestamp: int | None,
        as_json: bool,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._options: dict[str, Any] = {"headers": [(name, value.encode()) for name, value in headers]}
        if partition is not None:
            self._options["partition"] = partition
        if timestamp is not None:
            self._options["timestamp"] = timestamp
        self._as_json = as_json
        self._makes_topic = False
        self._acknowledged = 0
        self._failure: StreamkitError | None = None
        self._check()
        self._producer = cluster.producer(enable_idempotence=True, linger_ms=5, partitioner="murmur2_random")

    def _check(self) -> None:
        """A topic that does not exist may be created by the first record; a partition may not."""
        partition = self._options.get("partition")
        try:
            found = self._cluster.topic(self._topic)
        except NotFoundError:
            self._makes_topic = True
            return
        if partition is not None and partition not in found.partitions:
            raise UsageError(
                f"{self._topic} has no partition {partition}", hint=f"streamkit topic describe {self._topic}"
            )
        if "timestamp" in self._options:
            self._warn_about_retention(self._options["timestamp"])

    def _warn_about_retention(self, timestamp: int) -> None:
        from confluent_kafka.admin import ConfigResource, ResourceType

        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        settings = self._cluster.only_answer(self._cluster.admin.describe_configs([resource]))
        retention_ms = int(settings["retention.ms"].value)
        if 0 <= retention_ms < time.time_ns() // 1_000_000 - timestamp:
            remark(
                f"warning: the timestamp {timestamp} is already past the retention of {self._topic} "
                f"(retention.ms={retention_ms}); the broker may delete these records at any time"
            )

    def send(self, key: bytes | None, value: bytes) -> None:
        while True:
            try:
                with in_our_words(self._cluster.bootstrap):
                    self._producer.produce(
                        self._topic, key=key, value=value, on_delivery=self._delivered, **self._options
                    )
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        self._raise_failure()

    def finish(self) -> None:
        left = self._producer.flush(FLUSH_S)
        self._raise_failure()
        if left:
            raise DeadlineError(f"{left} records were not acknowledged within {FLUSH_S:g} s")
        if self._makes_topic and self._acknowledged:
            partitions = len(self._cluster.topic(self._topic).partitions)
            remark(
                f"made the topic {self._topic}, with {partitions} partition{'s' * (partitions != 1)}; "
                f"an app that declares more needs: streamkit topic alter {self._topic} -p N"
            )
        if not self._as_json:
            click.echo(f"{self._acknowledged} acknowledged")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failure = self._failure or explained(error, self._cluster.bootstrap)
            return
        self._acknowledged += 1
        if self._as_json:
            print_json(
                {
                    "topic": message.topic(),
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "timestamp": message.timestamp()[1],
                }
            )

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
