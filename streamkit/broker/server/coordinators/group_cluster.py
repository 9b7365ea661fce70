"""The cluster's metadata as groups see it: topics by name and id, and what a group was configured with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import ConfigResource, MetadataImage, ResourceType, TopicImage
from streamkit.broker.coordination.group.cluster import Topic
from streamkit.broker.group_config import GroupConfig


class GroupCluster:
    """Reads the newest image whenever it is asked."""

    def __init__(self, config: BrokerConfig, image: Callable[[], MetadataImage]) -> None:
        self._config = config
        self._image = image

    def topic(self, name: str) -> Topic | None:
        return _topic(self._image().topics.get(name))

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        return _topic(self._image().topics_by_id.get(topic_id))

    def topic_names(self) -> Iterable[str]:
        return self._image().topics

    def group_config(self, group_id: str) -> GroupConfig:
        overrides = self._image().config(ConfigResource(ResourceType.GROUP, group_id))
        return self._config.group_config(overrides)


def _topic(image: TopicImage | None) -> Topic | None:
    return None if image is None else Topic(image.name, image.topic_id, len(image.partitions))
