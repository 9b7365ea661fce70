"""The topics that a member of a `consumer` group asks for, read from the bytes that it joined with.

A coordinator treats a member's metadata as opaque, with this one exception: offsets of topics that a live
group subscribes to neither expire nor may be deleted. All versions of the consumer protocol begin with their
version and the list of topics, so that is all that is read.
"""

from __future__ import annotations

from struct import Struct, error

CONSUMER_PROTOCOL = "consumer"

_INT16 = Struct(">h")
_INT32 = Struct(">i")


def subscribed_topics(subscription: bytes) -> frozenset[str] | None:
    """The topics of a subscription; None if the bytes are not one."""
    try:
        (count,) = _INT32.unpack_from(subscription, 2)
        position = 6
        topics = []
        for _ in range(count):
            (length,) = _INT16.unpack_from(subscription, position)
            end = position + 2 + length
            if length < 0 or end > len(subscription):
                return None
            topics.append(subscription[position + 2 : end].decode())
            position = end
    except (error, UnicodeDecodeError):
        return None
    return frozenset(topics)
