"""The group as its coordinator sees it, and what it has committed. Calls block, so they run in a thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streamkit.processing.kafka.settings import KafkaSettings, reader_settings, shared_settings
from streamkit.processing.worker.roster import Peer, address_in
from streamkit.processing.worker.source import Partition, Position

REQUEST_S = 5.0

log = logging.getLogger("worker.roster")


class KafkaRoster:
    """The `Roster` port. Connects when it is first asked."""

    def __init__(self, bootstrap: str, group: str, user: KafkaSettings) -> None:
        self._group = group
        self._admin_conf = shared_settings(bootstrap, user)
        # an observer of the group, no member: it reads commits, and waits for nobody's transaction
        self._conf = {
            **reader_settings(bootstrap, user),
            "group.id": group,
            "isolation.level": "read_uncommitted",
        }
        self._admin: AdminClient | None = None
        self._observer: Consumer | None = None
        self._complained: set[str] = set()  # what the log knows of, until it is over

    async def peers(self) -> Sequence[Peer] | None:
        return await asyncio.to_thread(self._peers)

    async def committed(self, partitions: Sequence[Partition]) -> Sequence[Position] | None:
        return await asyncio.to_thread(self._committed, partitions)

    async def close(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            await asyncio.to_thread(observer.close)

    def _peers(self) -> Sequence[Peer] | None:
        self._admin = self._admin or AdminClient(self._admin_conf, logger=log)
        try:
            answers = self._admin.describe_consumer_groups([self._group], request_timeout=REQUEST_S)
            group = answers[self._group].result()
        except KafkaException as error:
            self._complain("the group", error)
            return None
        self._complained.discard("the group")
        if group.state != ConsumerGroupState.STABLE:
            return None
        return [
            Peer(
                member.member_id,
                address_in(member.client_id),
                frozenset((p.topic, p.partition) for p in member.assignment.topic_partitions),
            )
            for member in group.members
        ]

    def _committed(self, partitions: Sequence[Partition]) -> Sequence[Position] | None:
        self._observer = self._observer or Consumer(self._conf, logger=log)
        try:
            found = self._observer.committed([TopicPartition(*place) for place in partitions], REQUEST_S)
        except KafkaException as error:
            self._complain("what the group has committed", error)
            return None
        self._complained.discard("what the group has committed")
        if any(place.error is not None for place in found):
            return None
        return [Position(p.topic, p.partition, p.offset, p.metadata or "") for p in found if p.offset >= 0]

    def _complain(self, what: str, error: KafkaException) -> None:
        if what not in self._complained:
            self._complained.add(what)
            log.warning("%s is not known now: %s", what, error.args[0].str())
