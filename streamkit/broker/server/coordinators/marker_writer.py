"""Writing transaction markers into the partitions that are led here (WriteTxnMarkers, 27).

A partition of a client's topic takes the marker as one more batch. One of `__consumer_offsets` belongs to the
group shard, which must know in order with its own records what became visible: there the shard decides it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from streamkit.broker.controller.topic_names import CONSUMER_OFFSETS
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.shard import Decision, Producer, Refusal, Token, TransactionEnd
from streamkit.broker.coordination.transaction.coordinator import EPOCH_BUMP_VERSION
from streamkit.broker.log.producers import ProducerEntry, judge_marker
from streamkit.broker.server.coordinators.group_host import GroupHost
from streamkit.broker.server.coordinators.hosted_shard import encoded_marker
from streamkit.broker.server.replicas.partition_actor import AppendError, PartitionActor
from streamkit.broker.server.replicas.partitions import Partitions
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
)
from streamkit.protocol.records.control import TransactionMarker
from streamkit.runtime.contracts.clock import Clock


class MarkerWriter:
    def __init__(self, partitions: Partitions, groups: GroupHost, clock: Clock) -> None:
        self._partitions = partitions
        self._groups = groups
        self._clock = clock

    async def write(self, marker: WritableTxnMarker) -> WritableTxnMarkerResult:
        """End one producer's transaction in all the partitions named; done once that is committed."""
        end = TransactionEnd(
            Producer(marker.producer_id, marker.producer_epoch),
            marker.transaction_result,
            marker.coordinator_epoch,
        )
        places = [(topic.name, index) for topic in marker.topics for index in topic.partition_indexes]
        written = [self._write(topic, index, end, marker.transaction_version) for topic, index in places]
        results: dict[str, list[WritableTxnMarkerPartitionResult]] = {}
        for (topic, index), code in zip(places, await asyncio.gather(*written), strict=True):
            result = WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)
            results.setdefault(topic, []).append(result)
        return WritableTxnMarkerResult(
            producer_id=marker.producer_id,
            topics=[
                WritableTxnMarkerTopicResult(name=topic, partitions=partitions)
                for topic, partitions in results.items()
            ],
        )

    def _write(
        self, topic: str, partition: int, end: TransactionEnd, transaction_version: int
    ) -> Awaitable[ErrorCode]:
        """Put the marker into the partition's queue now; what became of it comes later."""
        actor = self._partitions.led(topic, partition)
        if actor is None:
            hosted = self._partitions.get(topic, partition) is not None
            return _known(
                ErrorCode.NOT_LEADER_OR_FOLLOWER if hosted else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
        while actor.has_mail:
            actor.drain()
        code = _judge(actor.log.producers.get(end.producer.producer_id), end, transaction_version)
        if code is not ErrorCode.NONE:
            return _known(code)
        if topic == CONSUMER_OFFSETS:
            return self._decide(actor, partition, end)
        return _appended(actor.append_batch(encoded_marker(end, self._clock.now_ms())))

    def _decide(self, actor: PartitionActor, partition: int, end: TransactionEnd) -> Awaitable[ErrorCode]:
        def decide(_: GroupCoordinator, token: Token, decision: Decision) -> None:
            actor.log.transactions.verifications.pop(end.producer.producer_id, None)
            decision.transaction_end = end
            decision.reply(token, WritableTxnMarkerPartitionResult())

        shard = self._groups.shards.get(partition)
        if shard is None:
            return _known(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        try:
            return _decided(shard.ask(decide))
        except Refusal as refusal:
            return _known(refusal.code)


def _judge(entry: ProducerEntry | None, end: TransactionEnd, transaction_version: int) -> ErrorCode:
    """The rules of the log, and one more: where each end bumps the epoch, a marker of the epoch that writes
    now is a late one of the transaction before.
    """
    if entry is None:
        return ErrorCode.NONE
    bumps = transaction_version >= EPOCH_BUMP_VERSION
    if bumps and entry.has_open_transaction(end.producer.epoch):
        return ErrorCode.INVALID_PRODUCER_EPOCH
    marker = TransactionMarker(committed=end.committed, coordinator_epoch=end.coordinator_epoch)
    return judge_marker(entry, end.producer.epoch, marker)


async def _known(code: ErrorCode) -> ErrorCode:
    return code


async def _appended(append: asyncio.Future[int]) -> ErrorCode:
    try:
        await append
    except AppendError as error:
        return error.code
    return ErrorCode.NONE


async def _decided(reply: Awaitable[object]) -> ErrorCode:
    try:
        await reply
    except Refusal as refusal:
        return refusal.code
    return ErrorCode.NONE
