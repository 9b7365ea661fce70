"""What classic consumers tell each other in the bytes that pass through JoinGroup and SyncGroup.

A coordinator treats a member's metadata as opaque, with two exceptions: offsets of topics that a live group
subscribes to neither expire nor may be deleted, and a group whose members move from the classic protocol to
the new one, or back, has its work divided by the coordinator meanwhile. Both begin with an int16, their
version; what newer versions append is passed over, as by Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Annotated

from streamkit.protocol import codec
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.schema import Int32, Message, nullable, schema, versions

CONSUMER_PROTOCOL = "consumer"

_INT16 = Struct(">h")


class TopicPartitions(Message):
    topic: str = ""
    partitions: list[Int32] = []


@schema("0-3")
class Subscription(Message):
    topics: list[str] = []
    user_data: bytes | None = None
    owned_partitions: Annotated[list[TopicPartitions], versions("1+")] = []
    generation_id: Annotated[Int32, versions("2+")] = -1
    rack_id: Annotated[str | None, versions("3+"), nullable("3+")] = None


@schema("0-3")
class Assignment(Message):
    assigned_partitions: list[TopicPartitions] = []
    user_data: bytes | None = None


@schema("0-3")
class _SubscribedTopics(Message):
    """The beginning of a subscription, which is all that many ever need of it."""

    topics: list[str] = []


def subscribed_topics(subscription: bytes) -> frozenset[str] | None:
    """The topics of a subscription; None if the bytes are not one."""
    try:
        return frozenset(codec.decode(_SubscribedTopics, subscription, 0, pos=_INT16.size).topics)
    except MalformedMessageError:
        return None


def decode_subscription(data: bytes) -> Subscription:
    """Raises MalformedMessageError."""
    return codec.decode(Subscription, data, _known_version(data), pos=_INT16.size)


def decode_assignment(data: bytes) -> dict[str, list[int]]:
    """The partitions of each topic. Raises MalformedMessageError."""
    assignment = codec.decode(Assignment, data, _known_version(data), pos=_INT16.size)
    return {topic.topic: topic.partitions for topic in assignment.assigned_partitions}


def encode_assignment(partitions: Mapping[str, Sequence[int]], subscription: bytes) -> bytes:
    """An assignment, in the version of its reader's subscription."""
    version = _known_version(subscription)
    assignment = Assignment(
        assigned_partitions=[
            TopicPartitions(topic=topic, partitions=list(indexes)) for topic, indexes in partitions.items()
        ]
    )
    return _INT16.pack(version) + codec.encode(assignment, version)


def _known_version(data: bytes) -> int:
    if len(data) < _INT16.size:
        raise MalformedMessageError("an embedded consumer protocol without a version")
    (version,) = _INT16.unpack_from(data)
    if version < 0:
        raise MalformedMessageError(f"an embedded consumer protocol of version {version}")
    return min(int(version), Subscription.VERSIONS.last)
