"""The topics of an app on its cluster: what is there, what has to be made, what cannot work.

`AdminClient` answers with futures that block, so these functions block too; call them in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from streamkit.errors import BrokerUnreachableError, StreamkitError
from streamkit.processing.kafka import settings
from streamkit.processing.topology import TopicPlan

REACH_S = 5.0
REQUEST_S = 30.0

log = logging.getLogger("worker.topics")


class Topics:
    """One admin connection."""

    def __init__(self, bootstrap: str, user: settings.KafkaSettings) -> None:
        self._bootstrap = bootstrap
        self._admin = AdminClient(settings.shared(bootstrap, user), logger=log)

    def partition_counts(self) -> dict[str, int]:
        """The partition count of every topic that exists. Raises BrokerUnreachableError."""
        try:
            metadata = self._admin.list_topics(timeout=REACH_S)
        except KafkaException as error:
            raise BrokerUnreachableError(
                f"no broker answers at {self._bootstrap}: {error.args[0].str()}",
                hint=f"streamkit broker start --listen {self._bootstrap.split(',')[0]}   (or use --embedded)",
            ) from None
        return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}

    def create(self, plans: Sequence[TopicPlan], existing: Mapping[str, int]) -> list[str]:
        """Make the missing topics; their names. Somebody else making one at the same time is fine."""
        missing = [plan for plan in plans if plan.name not in existing]
        if not missing:
            return []
        requests = [
            NewTopic(plan.name, plan.partitions or -1, replication_factor=-1, config=dict(plan.config))
            for plan in missing
        ]
        for name, answer in self._admin.create_topics(requests, operation_timeout=REQUEST_S).items():
            try:
                answer.result(REQUEST_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise StreamkitError(
                        f"cannot create the topic {name}: {error.args[0].str()}",
                        hint=f"streamkit topic create {name}",
                    ) from None
        return [plan.name for plan in missing]

    def retention_ms(self, topics: Iterable[str]) -> dict[str, int]:
        """The time retention of those topics that have one. Empty where describing is not allowed."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        limits: dict[str, int] = {}
        if not resources:
            return limits
        for resource, answer in self._admin.describe_configs(resources).items():
            try:
                configs = answer.result(REQUEST_S)
            except KafkaException as error:
                log.warning("retention of %s is unknown: %s", resource.name, error.args[0].str())
                continue
            limit = configs.get("retention.ms")
            policy = configs.get("cleanup.policy")
            if limit is not None and int(limit.value) >= 0 and (policy is None or "delete" in policy.value):
                limits[resource.name] = int(limit.value)
        return limits
