"""What groups must know of the world outside of their records: topics that exist, and settings of their own.

A shard asks while it decides and never while it replays, so what the cluster looks like today cannot change
what its log means.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple, Protocol

from streamkit.broker.group_config import GroupConfig


class Topic(NamedTuple):
    """A topic that exists now."""

    name: str
    topic_id: bytes
    partitions: int


class Cluster(Protocol):
    """The cluster's metadata as one shard sees it."""

    def topic(self, name: str) -> Topic | None: ...

    def topic_by_id(self, topic_id: bytes) -> Topic | None: ...

    def topic_names(self) -> Iterable[str]:
        """The names of all topics, in an order that does not depend on the process."""
        ...

    def group_config(self, group_id: str) -> GroupConfig:
        """What the group was given of its own, over the broker's defaults."""
        ...


def metadata_hash(cluster: Cluster, names: Iterable[str]) -> int:
    """Of the topics among these that exist: names, ids, numbers of partitions.

    It stands in a group's record for the topics that the group's epoch was begun for, and is ours, not
    Kafka's: a group whose records are moved between the two begins one more epoch, and that is all.
    """
    digest = blake2b(digest_size=8)
    for name in sorted(names):
        topic = cluster.topic(name)
        if topic is not None:
            digest.update(f"{name}\0".encode())
            digest.update(topic.topic_id + topic.partitions.to_bytes(4, "big"))
    return int.from_bytes(digest.digest(), "big", signed=True)
