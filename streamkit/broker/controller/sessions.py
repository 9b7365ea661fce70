"""Which brokers were heard from, and when: the one thing the active controller knows that no log tells.

Heartbeats are too many to be logged, and they mean nothing to the next controller: it did not hear them. So
it begins with a fresh session for everybody. One broker gets only a short one: that of the node whose silence
led to the election, unless it speaks up. The broker of the active controller's own node needs no session,
because whoever looks at it is it.

A broker whose connection was closed is most likely gone: a process that dies takes its connections along. One
that lives makes another for its next heartbeat, so two heartbeats are all the time it gets; none at all where
the machine says that nobody listens any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from streamkit.broker.controller.image import BrokerRegistration, MetadataImage

UNKNOWN: Final = -1
EVERYTHING: Final = 2**63 - 1


class _Contact(msgspec.Struct):
    """The last heartbeat of a broker: until when it is believed, and what its broker had replayed."""

    valid_until_ms: int
    metadata_offset: int = UNKNOWN
    shutdown_offset: int = UNKNOWN
    """Where the records are that moved the leaders away from a broker in controlled shutdown."""


class Sessions:
    """`now_ms` is monotonic time everywhere."""

    def __init__(self, *, node_id: int, timeout_ms: int, heartbeat_interval_ms: int) -> None:
        self._node_id = node_id
        self._timeout_ms = timeout_ms
        self._grace_ms = min(timeout_ms, 2 * heartbeat_interval_ms)
        self._contacts: dict[int, _Contact] = {}

    def begin(self, image: MetadataImage, now_ms: int, *, lost_leader: int | None) -> None:
        """This node decides from now on; `lost_leader` is the node that did before and fell silent."""
        self._contacts = {
            broker.broker_id: _Contact(
                now_ms + (self._grace_ms if broker.broker_id == lost_leader else self._timeout_ms)
            )
            for broker in image.live_brokers()
        }

    def touch(self, broker_id: int, now_ms: int, metadata_offset: int = UNKNOWN) -> None:
        """The broker was heard from."""
        contact = self._contacts.setdefault(broker_id, _Contact(now_ms))
        contact.valid_until_ms = now_ms + self._timeout_ms
        contact.metadata_offset = max(contact.metadata_offset, metadata_offset)

    def doubt(self, broker_id: int, now_ms: int) -> None:
        """The broker hung up."""
        contact = self._contacts.get(broker_id)
        if contact is not None:
            contact.valid_until_ms = min(contact.valid_until_ms, now_ms + self._grace_ms)

    def gone(self, broker_id: int, now_ms: int) -> None:
        """There is no such process any more."""
        contact = self._contacts.get(broker_id)
        if contact is not None:
            contact.valid_until_ms = min(contact.valid_until_ms, now_ms)

    def restart(self, broker_id: int, now_ms: int) -> None:
        """Another process speaks for the broker."""
        self.end(broker_id)
        self.touch(broker_id, now_ms)

    def end(self, broker_id: int) -> None:
        """The broker said that it goes, or was forgotten."""
        self._contacts.pop(broker_id, None)

    def extend(self, extra_ms: int) -> None:
        """Nobody could be heard for that long."""
        for contact in self._contacts.values():
            contact.valid_until_ms += extra_ms

    def is_valid(self, broker_id: int, now_ms: int) -> bool:
        contact = self._contacts.get(broker_id)
        return contact is not None and now_ms < contact.valid_until_ms

    def leaders_moved(self, broker_id: int, offset: int) -> None:
        """The records up to `offset` take the leaders away from a broker that shuts down."""
        contact = self._contacts[broker_id]
        contact.shutdown_offset = max(contact.shutdown_offset, offset)

    def may_shut_down(self, broker_id: int, others: Iterable[int]) -> bool:
        """Whether all others know that the leaders have moved."""
        known = (self._contacts[one].metadata_offset for one in others if one in self._contacts)
        return self._contacts[broker_id].shutdown_offset <= min(known, default=EVERYTHING)

    def expired(self, image: MetadataImage, now_ms: int) -> BrokerRegistration | None:
        """The live broker whose session ended first, if any has."""
        silent = self._first(image)
        return silent if silent is not None and not self.is_valid(silent.broker_id, now_ms) else None

    def next_expiry_ms(self, image: MetadataImage) -> int | None:
        """When the next session ends unless its broker is heard from."""
        first = self._first(image)
        return None if first is None else self._valid_until_ms(first.broker_id)

    def _first(self, image: MetadataImage) -> BrokerRegistration | None:
        watched = [one for one in image.live_brokers() if one.broker_id != self._node_id]
        return min(
            watched, key=lambda one: (self._valid_until_ms(one.broker_id), one.broker_id), default=None
        )

    def _valid_until_ms(self, broker_id: int) -> int:
        contact = self._contacts.get(broker_id)
        return UNKNOWN if contact is None else contact.valid_until_ms
