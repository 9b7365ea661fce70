"""Transactional producers: copies from one topic to another with the position in between, plain writes to
several partitions, aborts, transactions that are abandoned, and zombies.

A *holder* is who was last told that it may write under a transactional id. It goes on from transaction to
transaction until it is refused for good or gives up; then whoever needs the id takes it over. Nobody asks a
holder before its id is taken over: a slow one finds out by being refused, which is what fencing is for.

    copy     read some records of an input partition, write what is made of them, commit the position, end
    write    write to several partitions, end
    wake     the oldest holder that stalled goes on where it was, whoever has its id by now

How a transaction ends is chosen before it begins: `commit`, `abort`, `abandon` (nobody ever comes back) or
`stall`. Transactions work as in KIP-890: partitions are added by writing to them, each end bumps the epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from streamkit.net.peer import PeerError, PeerUnreachableError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from streamkit.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from streamkit.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from streamkit.protocol.records.record import Record, encode_batch
from streamkit.simulation.workload.client import REQUEST_TIMEOUT_MS, Client
from streamkit.simulation.workload.consumer import Reader
from streamkit.simulation.workload.coordinator import ELSEWHERE, TRANSACTION, Coordinator
from streamkit.simulation.workload.history import (
    Act,
    Consumed,
    Fate,
    History,
    PositionRead,
    ProducerEpoch,
    TakeOver,
    Transaction,
    Written,
)
from streamkit.simulation.workload.producer import PADDING_BYTES, TRY_AGAIN

PRODUCE_VERSION = 12
INIT_PRODUCER_ID_VERSION = 5
TXN_OFFSET_COMMIT_VERSION = 5
END_TXN_VERSION = 5
OFFSET_COMMIT_VERSION = 7
OFFSET_FETCH_VERSION = 8
TRANSACTION_TIMEOUT_MS = 3000
GIVE_UP_S = 8.0

AGAIN = (
    *TRY_AGAIN,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
)
FENCED = (
    ErrorCode.PRODUCER_FENCED,
    ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.INVALID_PRODUCER_ID_MAPPING,
)
"""Somebody else has the transactional id, or the transaction took too long."""
HOPELESS = (ErrorCode.TRANSACTION_ABORTABLE, ErrorCode.INVALID_TXN_STATE)
"""This transaction cannot be committed; its producer may go on with the next one."""


Writes = Sequence[tuple[int, tuple[str, ...]]]
"""Partition and values of each batch."""


class FencedError(Exception):
    """The holder is over."""


class HopelessError(Exception):
    """The transaction is, and its holder goes on."""


class GaveUpError(Exception):
    """Nobody answered for so long that the holder knows nothing any more."""


class Places(NamedTuple):
    """The topics, and the group whose positions say how far the copying is: transactions read the source and
    write to the ledger; the table is compacted.
    """

    source: str
    ledger: str
    ledger_partitions: int
    table: str
    group: str


class Holder:
    """Who may write under a transactional id, as far as it knows."""

    def __init__(self, client: Client, transactional_id: str, places: Places, history: History) -> None:
        self.transactional_id = transactional_id
        self.producer = ProducerEpoch(-1, -1)
        self.positions: dict[int, int] = {}
        """Where the copying of each input partition goes on."""
        self._client = client
        self._places = places
        self._history = history
        self._coordinator = Coordinator(client, transactional_id, TRANSACTION)
        self._group = Coordinator(client, places.group)
        self._sequences: dict[int, int] = {}

    async def take_over(self) -> None:
        """Become the holder: nobody who was it before can write from then on."""
        request = InitProducerIdRequest(
            transactional_id=self.transactional_id, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS
        )
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        while True:
            began_s = loop.time()
            response: InitProducerIdResponse | None = await self._coordinator.ask(
                request, INIT_PRODUCER_ID_VERSION
            )
            if response is not None and response.error_code == ErrorCode.NONE:
                break
            await self._again(None if response is None else response.error_code, give_up_s, "initialised")
        self.producer = ProducerEpoch(response.producer_id, response.producer_epoch)
        self._sequences.clear()
        self._history.take_overs.append(
            TakeOver(
                transactional_id=self.transactional_id, producer=self.producer, began_s=began_s,
                ended_s=loop.time(),
            )
        )  # fmt: skip

    def begin(self, name: str, consumed: Consumed | None = None) -> Transaction:
        begun = Transaction(
            name=name, transactional_id=self.transactional_id, producer=self.producer,
            began_s=asyncio.get_running_loop().time(), consumed=consumed,
        )  # fmt: skip
        self._history.transactions.append(begun)
        return begun

    async def write(self, transaction: Transaction, partition: int, values: tuple[str, ...]) -> None:
        """One batch, until it is acknowledged."""
        transaction.values.setdefault(partition, []).extend(values)
        sequence = self._sequences.get(partition, 0)
        request = ProduceRequest(
            transactional_id=self.transactional_id,
            acks=-1,
            timeout_ms=REQUEST_TIMEOUT_MS,
            topic_data=[
                TopicProduceData(
                    name=self._places.ledger,
                    partition_data=[
                        PartitionProduceData(index=partition, records=self._batch(values, sequence))
                    ],
                )
            ],
        )
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        while True:
            began_s, code = loop.time(), None
            leader = await self._client.leader(self._places.ledger, partition)
            if leader is not None:
                try:
                    response = await self._client.ask(leader[0], request, PRODUCE_VERSION)
                except PeerError:
                    pass
                else:
                    answer = response.responses[0].partition_responses[0]
                    code = answer.error_code
                    if code == ErrorCode.NONE:
                        break
            self._client.mistrust(self._places.ledger, partition)
            if code is None:
                await self._client.back_off()
            await self._again(code, give_up_s, f"written to {partition}")
        self._sequences[partition] = sequence + len(values)
        transaction.written.append(Written(partition, answer.base_offset, values))
        self._acted(f"a write to {self._places.ledger}-{partition}", began_s)

    def _batch(self, values: tuple[str, ...], sequence: int) -> bytes:
        return encode_batch(
            [Record(timestamp=0, key=b"", value=value.encode().ljust(PADDING_BYTES)) for value in values],
            producer_id=self.producer.producer_id,
            producer_epoch=self.producer.epoch,
            base_sequence=sequence,
            transactional=True,
        )

    async def commit_position(self, transaction: Transaction) -> None:
        """The group's position becomes part of the transaction; its metadata names it."""
        consumed = transaction.consumed
        assert consumed is not None, "only what was read has a position"
        position = TxnOffsetCommitRequestPartition(
            partition_index=consumed.partition,
            committed_offset=consumed.to_offset,
            committed_metadata=transaction.name,
        )
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=self._places.group,
            producer_id=self.producer.producer_id,
            producer_epoch=self.producer.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=self._places.source, partitions=[position])],
        )
        began_s, _ = await self._asked(
            self._group, request, TXN_OFFSET_COMMIT_VERSION,
            lambda response: response.topics[0].partitions[0].error_code, "committed a position",
        )  # fmt: skip
        self._acted("a position", began_s)

    async def end(self, transaction: Transaction, *, committed: bool) -> None:
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer.producer_id,
            producer_epoch=self.producer.epoch,
            committed=committed,
        )
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        if committed:
            transaction.commit_asked_s = loop.time()
            transaction.fate = Fate.UNKNOWN
        may_have_ended = False
        while True:
            began_s, code = loop.time(), None
            try:
                response: EndTxnResponse = await self._coordinator.call(request, END_TXN_VERSION)
            except PeerError as error:
                may_have_ended |= not isinstance(error, PeerUnreachableError)
                await self._client.back_off()
            else:
                code = response.error_code
                if code == ErrorCode.NONE:
                    break
                if code in (*FENCED, *HOPELESS) and not may_have_ended:
                    transaction.fate = Fate.ABORTED  # whoever refuses so has decided nothing
                may_have_ended = True
            await self._again(code, give_up_s, "ended")
        transaction.ended_s = loop.time()
        transaction.fate = Fate.COMMITTED if committed else Fate.ABORTED
        successor = ProducerEpoch(response.producer_id, response.producer_epoch)
        self._acted("a commit" if committed else "an abort", began_s, successor)
        self.producer = successor
        self._sequences.clear()

    async def position(self, partition: int) -> int:
        """Where the group is in an input partition, once no transaction is about to change that.

        Nobody fences the reader of a position: a coordinator that does not know that it was replaced tells an
        old one, as Kafka's does. Members of a group are safe from that, for such a coordinator cannot have
        let them in. Whoever reads without being a member asks it to commit something first.
        """
        request = OffsetFetchRequest(
            groups=[
                OffsetFetchRequestGroup(
                    group_id=self._places.group,
                    topics=[
                        OffsetFetchRequestTopics(name=self._places.source, partition_indexes=[partition])
                    ],
                )
            ],
            require_stable=True,
        )
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        while True:
            await self._asked(
                self._group, self._proof(), OFFSET_COMMIT_VERSION,
                lambda response: response.topics[0].partitions[0].error_code, "committed anything",
            )  # fmt: skip
            began_s = loop.time()
            found: OffsetFetchResponse | None = await self._group.ask(request, OFFSET_FETCH_VERSION)
            told = None if found is None else found.groups[0].topics[0].partitions[0]
            code = None if found is None or told is None else found.groups[0].error_code or told.error_code
            if told is not None and code == ErrorCode.NONE:
                break
            await self._again(code, give_up_s, "read a position")
        self._history.position_reads.append(
            PositionRead(
                partition=partition, offset=told.committed_offset, transaction=told.metadata or "",
                began_s=began_s, ended_s=loop.time(),
            )
        )  # fmt: skip
        return max(0, told.committed_offset)

    def _proof(self) -> OffsetCommitRequest:
        """A commit of the same group that nobody reads."""
        nothing = OffsetCommitRequestPartition(partition_index=0, committed_offset=0)
        topic = OffsetCommitRequestTopic(name=self._places.ledger, partitions=[nothing])
        return OffsetCommitRequest(group_id=self._places.group, topics=[topic])

    async def _asked(
        self,
        coordinator: Coordinator,
        request: Any,
        version: int,
        code_of: Callable[[Any], int],
        what: str,
    ) -> tuple[float, Any]:
        """(when the request left that was carried out, its answer)."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + GIVE_UP_S
        while True:
            began_s = loop.time()
            response = await coordinator.ask(request, version)
            code = None if response is None else code_of(response)
            if code == ErrorCode.NONE:
                return began_s, response
            if code in ELSEWHERE:
                coordinator.mistrust()
            await self._again(code, give_up_s, what)

    async def _again(self, code: int | None, give_up_s: float, what: str) -> None:
        """Come back later, or raise what the answer means (None: there was none)."""
        if code is not None and code not in AGAIN:
            self._refused(code, what)
        if asyncio.get_running_loop().time() > give_up_s:
            raise GaveUpError
        if code in ELSEWHERE:
            self._coordinator.mistrust()
        if code is not None:
            await self._client.back_off()

    def _refused(self, code: int, what: str) -> NoReturn:
        name = ErrorCode(code).name  # type: ignore[call-arg]  # looked up by value
        self._history.refused[name] += 1
        if code in FENCED:
            raise FencedError
        if code not in HOPELESS:
            self._history.surprises.append(
                f"{self._client.name} as {self.transactional_id} {self.producer} has not {what}: {name}"
            )
        raise HopelessError

    def _acted(self, what: str, began_s: float, successor: ProducerEpoch | None = None) -> None:
        self._history.acts.append(
            Act(
                transactional_id=self.transactional_id, producer=self.producer, what=what, began_s=began_s,
                ended_s=asyncio.get_running_loop().time(), successor=successor,
            )
        )  # fmt: skip


class Stalled(NamedTuple):
    """A holder that stopped in the middle of a transaction, and will go on as if nothing had happened."""

    holder: Holder
    transaction: Transaction


class Transactor:
    """One client of several transactional ids."""

    def __init__(self, client: Client, places: Places, history: History) -> None:
        self._client = client
        self._places = places
        self._history = history
        self._source = Reader(client, places.source, history)
        self._holders: dict[str, Holder] = {}
        self._stalled: list[Stalled] = []
        self._begun = 0

    async def write(self, partition: int, count: int, end: str) -> None:
        """A transaction with writes to `count` partitions, the first of them `partition`."""
        holder = await self._holder(f"writer-{partition}")
        if holder is None:
            return
        transaction = holder.begin(self._name())
        parts = dict.fromkeys((partition + step) % self._places.ledger_partitions for step in range(count))
        writes = [(part, (f"{transaction.name}:{part}",)) for part in parts]
        await self._run(holder, transaction, writes, end)

    async def copy(self, partition: int, count: int, end: str) -> None:
        """A transaction that reads up to `count` records of an input partition."""
        holder = await self._holder(f"copier-{partition}")
        if holder is None:
            return
        try:
            position = holder.positions.get(partition)
            if position is None:
                position = holder.positions[partition] = await holder.position(partition)
        except (FencedError, HopelessError, GaveUpError):
            self._drop(holder)
            return
        found = await self._source.records(partition, position)
        records = found[0][:count] if found is not None else []
        if not records:
            return
        transaction = holder.begin(self._name(), Consumed(partition, position, records[-1][0] + 1))
        writes: dict[int, list[str]] = {}
        for offset, _ in records:
            part = offset % self._places.ledger_partitions
            writes.setdefault(part, []).append(f"{transaction.name}:{offset}")
        await self._run(holder, transaction, [(part, tuple(made)) for part, made in writes.items()], end)

    async def wake(self) -> None:
        """Whoever stalled first goes on: one more write, the position, the commit."""
        if not self._stalled:
            return
        holder, transaction = self._stalled.pop(0)
        part = next(iter(transaction.values))
        writes: Writes = [] if transaction.consumed is not None else [(part, (f"{transaction.name}:late",))]
        try:
            await self._do(holder, transaction, writes, "commit")
        except (FencedError, HopelessError, GaveUpError):
            return

    async def _holder(self, transactional_id: str) -> Holder | None:
        """The holder of this id here, who takes it over if there is none; None if that does not succeed."""
        holder = self._holders.get(transactional_id)
        if holder is None:
            holder = Holder(self._client, transactional_id, self._places, self._history)
            try:
                await holder.take_over()
            except (FencedError, HopelessError, GaveUpError):
                return None
            self._holders[transactional_id] = holder
        return holder

    async def _run(self, holder: Holder, transaction: Transaction, writes: Writes, end: str) -> None:
        """Do it; a holder that cannot go on is dropped."""
        try:
            await self._do(holder, transaction, writes, end)
        except HopelessError:
            await self._abort(holder, transaction)
        except (FencedError, GaveUpError):
            self._drop(holder)

    async def _do(self, holder: Holder, transaction: Transaction, writes: Writes, end: str) -> None:
        for part, values in writes:
            await holder.write(transaction, part, values)
        if end in ("abandon", "stall"):
            self._drop(holder)
            if end == "stall":
                self._stalled.append(Stalled(holder, transaction))
            return
        consumed = transaction.consumed
        if consumed is not None:
            await holder.commit_position(transaction)
        await holder.end(transaction, committed=end == "commit")
        if consumed is not None and end == "commit":
            holder.positions[consumed.partition] = consumed.to_offset
        elif consumed is not None:
            del holder.positions[consumed.partition]

    async def _abort(self, holder: Holder, transaction: Transaction) -> None:
        """It cannot be committed: end it, and go on with the next one."""
        holder.positions.clear()
        try:
            await holder.end(transaction, committed=False)
        except (FencedError, HopelessError, GaveUpError):
            self._drop(holder)

    def _drop(self, holder: Holder) -> None:
        if self._holders.get(holder.transactional_id) is holder:
            del self._holders[holder.transactional_id]

    def _name(self) -> str:
        self._begun += 1
        return f"{self._client.name}#{self._begun}"
