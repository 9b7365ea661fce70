"""Asking a transaction's coordinator, wherever it is, about partitions that a producer is about to write to.

KIP-890: whoever leads a partition admits the first batch of a transaction only after its coordinator has
said that the partition belongs to that transaction. Older clients have added it before (`verify`), newer ones
leave that to this very question (`add`).

A client sends on before its first batch is answered, and the questions about several of its requests may be
answered in any order. So requests take *turns*: batches of one producer go on to their partition in the order
they came. A later one that went first would be out of order; told so after the first was written, Kafka's
producer takes it for the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from streamkit.broker.coordination.shard import Decision, Refusal, Token
from streamkit.broker.coordination.transaction.coordinator import (
    EPOCH_BUMP_VERSION,
    PartitionsCall,
    TransactionCoordinator,
    codes_of,
)
from streamkit.broker.coordination.transaction.records import TopicPartition
from streamkit.broker.server.cluster.broker_links import BrokerLinks
from streamkit.broker.server.coordinators.transaction_host import TransactionHost
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)

VERSION = 5
TIMEOUT_MS = 10_000
PATIENCE_S = 0.1
"""How long the end of the transaction before is waited for, rather than have the client come back."""
RETRY_S = 0.01

Codes = dict[TopicPartition, ErrorCode]
Line = dict[tuple[PartitionActor, int], "Turn"]
"""Who waits at the gate: for each partition and producer the newest request."""


class Turn:
    """A request's place in the line, for all its partitions at once."""

    __slots__ = ("_before", "_is_over", "_line", "_places")

    def __init__(self, line: Line, places: Sequence[tuple[PartitionActor, int]]) -> None:
        self._before = list(dict.fromkeys(line[place] for place in places if place in line))
        self._is_over = asyncio.Event()
        self._line = line
        self._places = places
        line.update(dict.fromkeys(places, self))

    async def comes(self) -> None:
        while self._before:
            await self._before.pop()._is_over.wait()

    def ends(self) -> None:
        for place in self._places:
            if self._line.get(place) is self:
                del self._line[place]
        self._is_over.set()


class TransactionGate:
    def __init__(self, transactions: TransactionHost, links: BrokerLinks, *, node_id: int) -> None:
        self._transactions = transactions
        self._links = links
        self._node_id = node_id
        self.line: Line = {}

    async def verify(self, call: PartitionsCall) -> Codes:
        """Whether each partition is in the transaction."""
        return await self._ask(call, adds=False)

    async def add(self, call: PartitionsCall) -> Codes:
        """Make the partitions part of the transaction."""
        loop = asyncio.get_running_loop()
        patience_ends_s = loop.time() + PATIENCE_S
        while True:
            codes = await self._ask(call._replace(client_version=EPOCH_BUMP_VERSION), adds=True)
            is_early = ErrorCode.CONCURRENT_TRANSACTIONS in codes.values()
            if not is_early or loop.time() >= patience_ends_s:
                return codes
            await asyncio.sleep(RETRY_S)

    async def _ask(self, call: PartitionsCall, *, adds: bool) -> Codes:
        leader = self._transactions.leader_of(call.transactional_id)
        if leader is None:
            return dict.fromkeys(call.partitions, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if leader != self._node_id:
            return await self._ask_peer(leader, call, adds=adds)

        def decide(coordinator: TransactionCoordinator, token: Token, decision: Decision) -> None:
            if adds:
                coordinator.add_partitions(call, token, decision)
            else:
                coordinator.verify_partitions(call, token, decision)

        try:
            answer = await self._transactions.ask(call.transactional_id, decide)
        except Refusal as refusal:
            return dict.fromkeys(call.partitions, refusal.code)
        return codes_of(cast(AddPartitionsToTxnResult, answer))

    async def _ask_peer(self, leader: int, call: PartitionsCall, *, adds: bool) -> Codes:
        topics: dict[str, list[int]] = {}
        for topic, partition in call.partitions:
            topics.setdefault(topic, []).append(partition)
        transaction = AddPartitionsToTxnTransaction(
            transactional_id=call.transactional_id,
            producer_id=call.producer.producer_id,
            producer_epoch=call.producer.epoch,
            verify_only=not adds,
            topics=[
                AddPartitionsToTxnTopic(name=name, partitions=partitions)
                for name, partitions in topics.items()
            ],
        )
        request = AddPartitionsToTxnRequest(transactions=[transaction])
        try:
            response = await self._links.call(leader, request, VERSION, TIMEOUT_MS)
        except PeerError:
            return dict.fromkeys(call.partitions, ErrorCode.NETWORK_EXCEPTION)
        codes = dict.fromkeys(call.partitions, ErrorCode.UNKNOWN_SERVER_ERROR)
        for result in response.results_by_transaction:
            codes.update(codes_of(result))
        return codes
