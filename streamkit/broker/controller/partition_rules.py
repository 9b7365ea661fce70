"""The rules under which a topic's partitions change: its configuration and the brokers that may lead.

Made anew for each decision. What the decision itself is about to change, configurations or a broker's state,
is laid over the image here, because its records are not replayed yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import (
    ALL_BROKERS,
    ConfigResource,
    MetadataImage,
    PartitionRegistration,
    ResourceType,
    TopicImage,
)
from streamkit.broker.controller.partition_change import Change, Election, Rules, change
from streamkit.broker.controller.records import PartitionChangeRecord
from streamkit.broker.topic_config import TOPIC_KEYS
from streamkit.protocol.schema import ZERO_UUID

MIN_INSYNC_REPLICAS: Final = "min.insync.replicas"
UNCLEAN_ELECTION: Final = "unclean.leader.election.enable"
ELECTION_KEYS: Final = frozenset((MIN_INSYNC_REPLICAS, UNCLEAN_ELECTION))

Configs: TypeAlias = Mapping[ConfigResource, Mapping[str, str]]


class PartitionRules:
    """`may_lead` is asked instead of the image if the decision changes which brokers can lead."""

    def __init__(
        self,
        image: MetadataImage,
        config: BrokerConfig,
        *,
        may_lead: Callable[[int], bool] | None = None,
        configs: Configs | None = None,
    ) -> None:
        self._image = image
        self._config = config
        self._may_lead = may_lead or image.is_active
        self._configs = {} if configs is None else configs
        self._made: dict[tuple[str, Election], Rules] = {}

    def of(self, topic: TopicImage, election: Election = Election.ONLINE) -> Rules:
        """Unclean elections take place where the topic allows them, asked for or not."""
        known = self._made.get((topic.name, election))
        if known is None:
            known = self._made[topic.name, election] = self._make(topic, election)
        return known

    def _make(self, topic: TopicImage, election: Election) -> Rules:
        if election is Election.ONLINE and self.allows_unclean(topic):
            election = Election.UNCLEAN
        return Rules(
            may_lead=self._may_lead,
            min_insync_replicas=self._min_insync_replicas(topic),
            has_elr=self._image.has_elr,
            election=election,
            directory=partial(directory_of, self._image),
        )

    def allows_unclean(self, topic: TopicImage) -> bool:
        text = self._text(topic, UNCLEAN_ELECTION)
        if text is None:
            return self._config.topic_defaults.unclean_leader_election_enable
        return bool(TOPIC_KEYS[UNCLEAN_ELECTION].parse(text))

    def _min_insync_replicas(self, topic: TopicImage) -> int:
        text = self._text(topic, MIN_INSYNC_REPLICAS)
        return self._config.topic_defaults.min_insync_replicas if text is None else int(text)

    def _text(self, topic: TopicImage, name: str) -> str | None:
        """What was altered for the topic, or else for all brokers; a single broker has no say."""
        own = self._overrides(ConfigResource(ResourceType.TOPIC, topic.name)).get(name)
        return self._overrides(ALL_BROKERS).get(name) if own is None else own

    def _overrides(self, resource: ConfigResource) -> Mapping[str, str]:
        own = self._configs.get(resource)
        return self._image.config(resource) if own is None else own


def directory_of(image: MetadataImage, broker_id: int) -> bytes:
    """A broker with one log directory has no choice; Kafka's zero id leaves it to the broker."""
    directories = image.brokers[broker_id].log_dirs
    return directories[0] if len(directories) == 1 else ZERO_UUID


def partitions(image: MetadataImage) -> Iterator[tuple[TopicImage, int, PartitionRegistration]]:
    """Every partition there is, topic by topic."""
    for topic in image.topics.values():
        for index, partition in enumerate(topic.partitions):
            yield topic, index, partition


def changes_where(
    image: MetadataImage,
    rules: PartitionRules,
    affected: Callable[[PartitionRegistration], bool],
    wanted: Callable[[PartitionRegistration], Change],
) -> list[PartitionChangeRecord]:
    """What becomes of the partitions that are `affected` when something happens to a broker."""
    records = []
    for topic, index, partition in partitions(image):
        if affected(partition):
            record = change(topic.topic_id, index, partition, wanted(partition), rules.of(topic))
            if record is not None:
                records.append(record)
    return records
