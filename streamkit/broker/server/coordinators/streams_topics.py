"""The internal topics of streams groups: made when a group finds that it lacks them.

Nobody waits for them: the group notices in the metadata that they are there. Where they cannot be made, the
members' next heartbeats are told why, and try again.
"""

from __future__ import annotations

import structlog

from streamkit.broker.coordination.group.streams.heartbeat import CreateInternalTopics
from streamkit.broker.coordination.group.streams.internal_topics import TOPICS_NAMED, InternalTopic
from streamkit.broker.server.coordinators.coordinator_host import Cluster
from streamkit.errors import StreamkitError
from streamkit.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig
from streamkit.runtime.contracts.spawn import Spawn

BROKER_DEFAULT = -1
GROUPS_REMEMBERED = 1000

log = structlog.get_logger(__name__)


class StreamsTopics:
    def __init__(self, cluster: Cluster, spawn: Spawn) -> None:
        self._cluster = cluster
        self._spawn = spawn
        self._under_way: set[str] = set()
        self._failures: dict[str, str] = {}
        """What went wrong the last time, by group."""

    def create(self, command: CreateInternalTopics) -> None:
        """Every member of a group finds the same, so one attempt at a time is enough."""
        if command.group_id not in self._under_way:
            self._under_way.add(command.group_id)
            self._spawn.start(self._create(command), name=f"internal topics of {command.group_id}")

    def failure(self, group_id: str) -> str | None:
        """Why the group's topics could not be made."""
        return self._failures.get(group_id)

    async def _create(self, command: CreateInternalTopics) -> None:
        self._failures.pop(command.group_id, None)
        try:
            failures = await self._cluster.create_topics([_creatable(topic) for topic in command.topics])
        except StreamkitError as error:
            failures = {topic.name: error.message for topic in command.topics}
        finally:
            self._under_way.discard(command.group_id)
        if failures:
            self._remember(command.group_id, failures)

    def _remember(self, group_id: str, failures: dict[str, str]) -> None:
        told = [f"{topic} ({reason})" for topic, reason in sorted(failures.items())]
        more = len(told) - TOPICS_NAMED
        failure = ", ".join(told[:TOPICS_NAMED]) + (f" and {more} more" if more > 0 else "")
        log.warning("internal topics of a streams group cannot be created", group=group_id, reason=failure)
        self._failures[group_id] = failure
        if len(self._failures) > GROUPS_REMEMBERED:
            del self._failures[next(iter(self._failures))]


def _creatable(topic: InternalTopic) -> CreatableTopic:
    return CreatableTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replication_factor or BROKER_DEFAULT,
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in topic.configs],
    )
