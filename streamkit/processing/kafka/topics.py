"""The topics of an app on its cluster: what is there, what has to be made, what cannot work.

`AdminClient` answers with futures that block, so these functions block too; call them in a thread. Each
future ends by the request's own timeout, with a `KafkaException`.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from streamkit.errors import StreamkitError, no_broker
from streamkit.processing.kafka.settings import KafkaSettings, judged, reader_settings, shared_settings
from streamkit.processing.record import Headers
from streamkit.processing.tasks.watermark import is_mark
from streamkit.processing.topology import TopicPlan
from streamkit.processing.worker.source import Position

COMPACTION_LAG = "min.compaction.lag.ms"
FIRST_REACH_S = 1.5  # where nothing listens, the user should hear so soon
REACH_S = 10.0
CONNECT_S = 0.5
REQUEST_S = 30.0
LOOK_S = 2.0  # a worker that ends waits for a look that is under way
AGAIN_S = 0.1
# While a coordinator moves, or is elected for the first time.
PASSING = {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._WAIT_COORD,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
}
OBSERVING = {"isolation.level": "read_uncommitted"}  # it waits for nobody's transaction
HIDDEN = {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED}

log = logging.getLogger("worker.topics")


class Topics:
    """One admin connection."""

    def __init__(self, bootstrap: str, user: KafkaSettings) -> None:
        self._bootstrap = bootstrap
        self._user = user
        with judged():
            self._admin = AdminClient(shared_settings(bootstrap, user), logger=log)
        self._complained: set[str] = set()  # topics whose records cannot be deleted

    def partition_counts(self) -> dict[str, int]:
        """The partition count of every topic that exists. Raises BrokerUnreachableError."""
        try:
            try:
                metadata = self._admin.list_topics(timeout=FIRST_REACH_S)
            except KafkaException:
                if not any(map(_listens, self._bootstrap.split(","))):
                    raise
                metadata = self._admin.list_topics(timeout=REACH_S)  # far away, or just starting
        except KafkaException as error:
            silent = error.args[0].code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
            raise no_broker(self._bootstrap, "" if silent else error.args[0].str()) from None
        return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}

    def missing(self, names: Collection[str]) -> list[str]:
        """Those that the cluster says do not exist; of a cluster that does not answer, none."""
        answers = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=LOOK_S)
        return [name for name, answer in answers.items() if _is_unknown(answer)]

    def create(self, plans: Sequence[TopicPlan], existing: Mapping[str, int]) -> list[str]:
        """Make the missing topics; their names. Somebody else making one at the same time is fine."""
        missing = [plan for plan in plans if plan.name not in existing]
        if not missing:
            return []
        for plan in missing:
            error = self._create(plan.name, plan.partitions, plan.config)
            if error is not None and error.code() == KafkaError.INVALID_CONFIG:
                # a broker that does not know the setting does not compact either
                known = {name: value for name, value in plan.config.items() if name != COMPACTION_LAG}
                error = self._create(plan.name, plan.partitions, known)
            if error is not None and error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                declared = error.code() == KafkaError.INVALID_CONFIG and not plan.internal
                raise StreamkitError(
                    f"cannot create the topic {plan.name}: {error.str()}",
                    hint=f'mend app.topic("{plan.name}", config=...)'
                    if declared
                    else f"streamkit topic create {plan.name}",
                )
        return [plan.name for plan in missing]

    def _create(self, name: str, partitions: int | None, config: Mapping[str, str]) -> KafkaError | None:
        request = NewTopic(name, partitions or -1, replication_factor=-1, config=dict(config))
        try:
            made = self._admin.create_topics(
                [request], operation_timeout=REQUEST_S, request_timeout=REQUEST_S
            )
            made[name].result()
        except KafkaException as error:
            found: KafkaError = error.args[0]
            return found
        return None

    def delete(self, names: Sequence[str]) -> None:
        """Remove topics, as far as that goes."""
        answers = self._admin.delete_topics(
            list(names), operation_timeout=REQUEST_S, request_timeout=REQUEST_S
        )
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                log.warning("the topic %s stays: %s", name, error.args[0].str())

    def delete_records(self, before: Mapping[tuple[str, int], int]) -> None:
        """Delete what comes before these offsets, as far as that goes."""
        places = [TopicPartition(*place, offset) for place, offset in before.items()]
        answers = self._admin.delete_records(places, operation_timeout=REQUEST_S, request_timeout=REQUEST_S)
        for place, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                if place.topic not in self._complained:
                    self._complained.add(place.topic)
                    log.warning("%s keeps records that are done with: %s", place.topic, error.args[0].str())

    def committed(self, group: str, counts: Mapping[str, int]) -> list[Position]:
        """All that the group has committed in these topics; nothing of what is hidden from us.

        librdkafka could be asked for whatever there is, but it crashes where no coordinator is elected yet.
        """
        places = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
        observer = Consumer(
            {**reader_settings(self._bootstrap, self._user), **OBSERVING, "group.id": group}, logger=log
        )
        deadline = time.monotonic() + REQUEST_S
        try:
            while True:
                try:
                    found = observer.committed(places, REQUEST_S)
                except KafkaException as error:
                    code, told = error.args[0].code(), error.args[0].str()
                    if code in HIDDEN:
                        log.warning("what %s has committed is hidden: %s", group, told)
                        return []
                    if code not in PASSING or time.monotonic() > deadline:
                        raise StreamkitError(
                            f"what {group} has committed cannot be read: {told}",
                            hint=f"streamkit group describe {group}",
                        ) from None
                    time.sleep(AGAIN_S)
                else:
                    return [
                        Position(place.topic, place.partition, place.offset, place.metadata or "")
                        for place in found
                        if place.error is None and place.offset >= 0
                    ]
        finally:
            observer.close()

    def is_drained(self, topic: str, offsets: Mapping[int, int]) -> bool:
        """Is nothing left behind these offsets of its partitions, but for what tasks say of themselves?"""
        conf = {**reader_settings(self._bootstrap, self._user), "auto.offset.reset": "earliest"}
        reader = Consumer(conf, logger=log)
        deadline, unended = time.monotonic() + REQUEST_S, set(offsets)
        try:
            reader.assign([TopicPartition(topic, number, offset) for number, offset in offsets.items()])
            while unended and time.monotonic() < deadline:
                event = reader.poll(AGAIN_S)
                if event is None:
                    continue
                error = event.error()
                if error is None and not is_mark(cast("Headers | None", event.headers())):
                    return False
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    unended.discard(event.partition() or 0)
        finally:
            reader.close()
        return not unended

    def retention_ms(self, topics: Iterable[str]) -> dict[str, int]:
        """The time retention of those topics that have one. Empty where describing is not allowed."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        limits: dict[str, int] = {}
        if not resources:
            return limits
        for resource, answer in self._admin.describe_configs(resources, request_timeout=REQUEST_S).items():
            try:
                configs = answer.result()
            except KafkaException as error:
                log.warning("retention of %s is unknown: %s", resource.name, error.args[0].str())
                continue
            limit = configs.get("retention.ms")
            policy = configs.get("cleanup.policy")
            if limit is not None and int(limit.value) >= 0 and (policy is None or "delete" in policy.value):
                limits[resource.name] = int(limit.value)
        return limits


def _is_unknown(answer: Future[Any]) -> bool:
    try:
        answer.result()
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART)
    return False


def _listens(address: str) -> bool:
    """Whether somebody takes connections there."""
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
