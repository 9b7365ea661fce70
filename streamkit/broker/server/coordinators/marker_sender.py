"""Ending a transaction in all of its partitions, wherever they are led, however long that takes.

One task for each transaction that ends. It asks the leaders that the metadata names (itself with a plain
call), and asks again for what was not written, until nothing is left or its shard is not hosted here any
more: then the next coordinator does it all again, which changes nothing where the marker is already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from streamkit.broker.controller.image import MetadataImage
from streamkit.broker.coordination.transaction.coordinator import SendMarkers
from streamkit.broker.coordination.transaction.records import TopicPartition
from streamkit.broker.server.cluster.broker_links import BrokerLinks
from streamkit.broker.server.coordinators.marker_writer import MarkerWriter
from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from streamkit.runtime.contracts.spawn import Spawn

VERSION = 2
TIMEOUT_MS = 5_000
"""Of a leader that neither writes nor refuses; what it has written by then it may well write again."""
RETRY_S = 0.02
MAX_RETRY_S = 0.5

log = structlog.get_logger(__name__)


class MarkerSender:
    def __init__(
        self,
        image: Callable[[], MetadataImage],
        writer: MarkerWriter,
        links: BrokerLinks,
        spawn: Spawn,
        *,
        node_id: int,
    ) -> None:
        self._image = image
        self._writer = writer
        self._links = links
        self._spawn = spawn
        self._node_id = node_id

    def start(
        self,
        ending: SendMarkers,
        coordinator_epoch: int,
        *,
        is_wanted: Callable[[], bool],
        done: Callable[[], None],
    ) -> None:
        """`done` is called once every partition has the marker, unless it is not wanted any more."""
        work = self._send(ending, coordinator_epoch, is_wanted, done)
        self._spawn.start(work, name=f"end {ending.transactional_id}")

    async def _send(
        self,
        ending: SendMarkers,
        coordinator_epoch: int,
        is_wanted: Callable[[], bool],
        done: Callable[[], None],
    ) -> None:
        left, retry_s = dict.fromkeys(ending.partitions), RETRY_S
        while is_wanted():
            leaders = self._by_leader(left)
            results = await asyncio.gather(
                *(
                    self._write(leader, marker_for(ending, places, coordinator_epoch))
                    for leader, places in leaders.items()
                )
            )
            codes = {place: code for result in results for place, code in _codes(result)}
            if ErrorCode.TRANSACTION_COORDINATOR_FENCED in codes.values():
                log.warning("another coordinator ends this transaction", id=ending.transactional_id)
                return
            left = {place: None for place in left if self._is_left(place, codes.get(place))}
            if not left:
                break
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, MAX_RETRY_S)
        if is_wanted():
            done()

    def _by_leader(self, places: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
        """What has no leader now is asked for later."""
        leaders: dict[int, list[TopicPartition]] = {}
        for topic, partition in places:
            registration = self._image().partition(topic, partition)
            if registration is not None and registration.leader >= 0:
                leaders.setdefault(registration.leader, []).append((topic, partition))
        return leaders

    async def _write(self, leader: int, marker: WritableTxnMarker) -> WritableTxnMarkerResult:
        if leader == self._node_id:
            return await self._writer.write(marker)
        request = WriteTxnMarkersRequest(markers=[marker])
        try:
            response = await self._links.call(leader, request, VERSION, TIMEOUT_MS)
        except PeerError as error:
            log.info("markers will be sent again", broker=leader, reason=str(error))
            return WritableTxnMarkerResult()
        (result,) = response.markers
        assert isinstance(result, WritableTxnMarkerResult)
        return result

    def _is_left(self, place: TopicPartition, code: int | None) -> bool:
        """A producer epoch that has gone on says that the marker was there; a deleted topic needs none."""
        if code in (ErrorCode.NONE, ErrorCode.INVALID_PRODUCER_EPOCH):
            return False
        return self._image().partition(*place) is not None


def marker_for(
    ending: SendMarkers, places: Iterable[TopicPartition], coordinator_epoch: int
) -> WritableTxnMarker:
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    return WritableTxnMarker(
        producer_id=ending.producer.producer_id,
        producer_epoch=ending.producer.epoch,
        transaction_result=ending.committed,
        topics=[WritableTxnMarkerTopic(name=name, partition_indexes=found) for name, found in topics.items()],
        coordinator_epoch=coordinator_epoch,
        transaction_version=ending.client_version,
    )


def _codes(result: WritableTxnMarkerResult) -> Iterable[tuple[TopicPartition, int]]:
    for topic in result.topics:
        for one in topic.partitions:
            yield (topic.name, one.partition_index), one.error_code
