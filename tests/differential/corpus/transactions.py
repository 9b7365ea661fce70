"""InitProducerId and the transactions built on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from streamkit.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from streamkit.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from streamkit.protocol.messages.describe_transactions import DescribeTransactionsRequest
from streamkit.protocol.messages.end_txn import EndTxnRequest
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest
from streamkit.protocol.messages.list_transactions import ListTransactionsRequest
from streamkit.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from streamkit.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.differential.corpus.fetch import READ_COMMITTED, fetch, part
from tests.differential.corpus.groups import joined
from tests.differential.corpus.offsets import LATEST, at
from tests.differential.corpus.produce import produce
from tests.differential.scenario import Client, Kind, Topic, batch_of, scenario

TIMEOUT_MS = 60_000
FIRST_WITH_MANY = 4
FIRST_WITH_RESUME = 3
ONGOING_NAME = "Ongoing"


def init(
    name: str | None, *, timeout_ms: int = TIMEOUT_MS, producer_id: int = -1, epoch: int = -1
) -> InitProducerIdRequest:
    return InitProducerIdRequest(
        transactional_id=name,
        transaction_timeout_ms=timeout_ms,
        producer_id=producer_id,
        producer_epoch=epoch,
    )


@dataclass
class Producer:
    """A transactional producer as its coordinator knows it."""

    name: str
    id: int
    epoch: int

    def add(
        self, version: int, *topics: Topic, partition: int = 0, **other: Any
    ) -> AddPartitionsToTxnRequest:
        rows = [AddPartitionsToTxnTopic(name=one.name, partitions=[partition]) for one in topics]
        name, producer_id, epoch = (
            other.get(key, own) for key, own in (("name", self.name), ("id", self.id), ("epoch", self.epoch))
        )
        if version >= FIRST_WITH_MANY:
            one = AddPartitionsToTxnTransaction(
                transactional_id=name, producer_id=producer_id, producer_epoch=epoch, topics=rows,
                verify_only=other.get("verify_only", False),
            )  # fmt: skip
            return AddPartitionsToTxnRequest(transactions=[one])
        return AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=name,
            v3_and_below_producer_id=producer_id,
            v3_and_below_producer_epoch=epoch,
            v3_and_below_topics=rows,
        )

    def offsets(self, group: str, **other: Any) -> AddOffsetsToTxnRequest:
        given = {"transactional_id": self.name, "producer_id": self.id, "producer_epoch": self.epoch, **other}
        return AddOffsetsToTxnRequest(group_id=group, **given)

    def commit_offset(
        self,
        group: str,
        topic: Topic,
        offset: int = 5,
        partition: int = 0,
        metadata: str | None = "m",
        **other: Any,
    ) -> TxnOffsetCommitRequest:
        row = TxnOffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_metadata=metadata
        )
        given = {"transactional_id": self.name, "producer_id": self.id, "producer_epoch": self.epoch, **other}
        return TxnOffsetCommitRequest(
            group_id=group, topics=[TxnOffsetCommitRequestTopic(name=topic.name, partitions=[row])], **given
        )

    def end(self, committed: bool = True, **other: Any) -> EndTxnRequest:
        given = {"transactional_id": self.name, "producer_id": self.id, "producer_epoch": self.epoch, **other}
        return EndTxnRequest(committed=committed, **given)

    def batch(self, count: int = 1, sequence: int = 0) -> bytes:
        return batch_of(
            count, producer_id=self.id, producer_epoch=self.epoch, base_sequence=sequence, transactional=True
        )


OLD_END, OLD_ADD, OLD_COMMIT, OLD_PRODUCE = 4, 3, 4, 11
"""The newest versions of the first transaction protocol, before KIP-890's second part."""


async def producer(client: Client, suffix: str = "x") -> Producer:
    name = await client.transactional_id(suffix)
    answer = await client.until_ready(init(name), lambda one: one.error_code)
    return Producer(name, answer.producer_id, answer.producer_epoch)


async def writing(client: Client, topic: Topic, suffix: str = "x") -> Producer:
    """A producer with an open transaction and one record in it."""
    mine = await producer(client, suffix)
    await client.setup(mine.add(OLD_ADD, topic), OLD_ADD)
    await client.setup(produce(topic, mine.batch(), transactional_id=mine.name), OLD_PRODUCE)
    return mine


async def ended(client: Client, mine: Producer) -> None:
    """Until the markers are written: asking again is answered by CONCURRENT_TRANSACTIONS until then."""
    await client.until_ready(
        DescribeTransactionsRequest(transactional_ids=[mine.name]),
        lambda answer: (
            ErrorCode.CONCURRENT_TRANSACTIONS
            if answer.transaction_states[0].transaction_state.startswith("Prepare")
            else answer.transaction_states[0].error_code
        ),
    )


@scenario(ApiKey.INIT_PRODUCER_ID, "0-5")
async def producer_ids(client: Client) -> None:
    await client.valid(init(None))
    await client.valid(init(None, timeout_ms=2**31 - 1))
    name = await client.transactional_id()
    await client.until_ready(init(name), lambda one: one.error_code)
    first = await client.valid(init(name))
    await client.valid(init(name, timeout_ms=1))
    if client.version >= FIRST_WITH_RESUME:
        await client.wrong(init(name, producer_id=first.producer_id, epoch=first.producer_epoch))
        last = await client.valid(init(name))
        resumed = await client.valid(init(name, producer_id=last.producer_id, epoch=last.producer_epoch))
        await client.boundary(init(name, producer_id=last.producer_id, epoch=last.producer_epoch))
        await client.wrong(init(name, producer_id=last.producer_id, epoch=resumed.producer_epoch + 7))
        await client.wrong(init(name, producer_id=last.producer_id + 1_000_000, epoch=0))
        await client.wrong(init(name, producer_id=last.producer_id, epoch=-1))
        await client.wrong(init(name, producer_id=-1, epoch=0))
        await client.wrong(init(await client.transactional_id("new"), producer_id=77_000, epoch=3))


@scenario(ApiKey.INIT_PRODUCER_ID, "0-5")
async def producer_ids_refused(client: Client) -> None:
    await client.wrong(init(""))
    name = await client.transactional_id()
    await client.wrong(init(name, timeout_ms=900_001))
    await client.wrong(init(name, timeout_ms=0))
    await client.wrong(init(name, timeout_ms=-1))
    await client.boundary(init(None, timeout_ms=-1))


@scenario(ApiKey.INIT_PRODUCER_ID, "0-5")
async def an_open_transaction_is_aborted(client: Client) -> None:
    topic = await client.topic()
    mine = await writing(client, topic)
    await client.wrong(init(mine.name))
    await client.until_ready(init(mine.name), lambda one: one.error_code)
    await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))
    await client.wrong(mine.end(), OLD_END)


@scenario(ApiKey.ADD_PARTITIONS_TO_TXN, "0-5")
async def partitions_join_a_transaction(client: Client) -> None:
    topic, other = await client.topic("t", 2), await client.topic("u")
    mine = await producer(client)
    await client.valid(mine.add(client.version, topic))
    await client.valid(mine.add(client.version, topic, partition=1))
    await client.valid(mine.add(client.version, topic, other))
    await client.boundary(mine.add(client.version))
    await client.setup(mine.end(), OLD_END)


@scenario(ApiKey.ADD_PARTITIONS_TO_TXN, "0-5")
async def partitions_stay_out(client: Client) -> None:
    topic, unknown = await client.topic(), Topic(client.name("unknown"))
    mine = await producer(client)
    await client.wrong(mine.add(client.version, unknown))
    await client.wrong(mine.add(client.version, topic, unknown))
    await client.wrong(mine.add(client.version, topic, partition=9))
    await client.wrong(mine.add(client.version, topic, epoch=mine.epoch + 1))
    await client.wrong(mine.add(client.version, topic, epoch=-1))
    await client.wrong(mine.add(client.version, topic, id=mine.id + 1_000_000))
    await client.wrong(mine.add(client.version, topic, name=client.name("never")))
    await client.wrong(mine.add(client.version, topic, name=""))


@scenario(ApiKey.ADD_PARTITIONS_TO_TXN, "4-5")
async def partitions_are_verified(client: Client) -> None:
    topic, other = await client.topic(), await client.topic("u")
    mine = await producer(client)
    await client.wrong(mine.add(client.version, topic, verify_only=True))
    await client.valid(mine.add(client.version, topic))
    await client.valid(mine.add(client.version, topic, verify_only=True))
    await client.wrong(mine.add(client.version, topic, other, verify_only=True))
    await client.ask(Kind.BOUNDARY, AddPartitionsToTxnRequest(), answer_s=1)


@scenario(ApiKey.ADD_OFFSETS_TO_TXN, "0-4")
async def groups_join_a_transaction(client: Client) -> None:
    mine, group = await producer(client), await client.group()
    await client.valid(mine.offsets(group))
    await client.valid(mine.offsets(group))
    await client.valid(mine.offsets(await client.group("h")))
    await client.wrong(mine.offsets(""))
    await client.wrong(mine.offsets(group, producer_epoch=mine.epoch + 1))
    await client.wrong(mine.offsets(group, producer_id=mine.id + 1_000_000))
    await client.wrong(mine.offsets(group, transactional_id=client.name("never")))
    await client.wrong(mine.offsets(group, transactional_id=""))


@scenario(ApiKey.TXN_OFFSET_COMMIT, "0-5")
async def offsets_in_a_transaction(client: Client) -> None:
    topic, group = await client.topic(partitions=2), await client.group()
    mine = await producer(client)
    await client.setup(mine.offsets(group))
    await client.valid(mine.commit_offset(group, topic))
    await client.valid(mine.commit_offset(group, topic, 7, partition=1, metadata=None))
    await client.valid(mine.commit_offset(group, topic, 8))
    await client.boundary(mine.commit_offset(group, topic, metadata="x" * 4096))
    await client.wrong(mine.commit_offset(group, topic, metadata="x" * 4097))
    await client.wrong(mine.commit_offset(group, Topic(client.name("unknown"))))
    await client.wrong(mine.commit_offset(group, topic, partition=9))
    await client.wrong(mine.commit_offset("", topic))
    await client.wrong(mine.commit_offset(group, topic, -1))
    if client.version >= 3:
        await client.wrong(mine.commit_offset(group, topic, generation_id=3, member_id="nobody"))
        await client.wrong(mine.commit_offset(group, topic, group_instance_id="nobody"))
        await client.wrong(mine.commit_offset(group, topic, member_id="nobody"))
    await client.wrong(mine.commit_offset(group, topic, producer_epoch=mine.epoch - 1))


@scenario(ApiKey.TXN_OFFSET_COMMIT, "0-5")
async def offsets_of_no_transaction(client: Client) -> None:
    topic, group = await client.topic(), await client.group()
    mine = await producer(client)
    await client.wrong(mine.commit_offset(group, topic, producer_id=mine.id + 1_000_000))
    await client.wrong(mine.commit_offset(group, topic, transactional_id=client.name("never")))
    await client.wrong(mine.commit_offset(group, topic, transactional_id=""))
    if client.version < 5:
        await client.wrong(mine.commit_offset(group, topic))


@scenario(ApiKey.TXN_OFFSET_COMMIT, "3-5")
async def offsets_of_members(client: Client) -> None:
    topic, member = await client.topic(), await joined(client)
    mine = await producer(client)
    await client.setup(mine.offsets(member.group))
    of_member = {"generation_id": member.generation, "member_id": member.id}
    await client.valid(mine.commit_offset(member.group, topic, **of_member))
    await client.wrong(mine.commit_offset(member.group, topic, generation_id=99, member_id=member.id))
    await client.wrong(mine.commit_offset(member.group, topic, generation_id=member.generation))
    await client.boundary(mine.commit_offset(member.group, topic))


@scenario(ApiKey.END_TXN, "0-5")
async def transactions_end(client: Client) -> None:
    topic = await client.topic()
    for suffix, committed in (("a", True), ("b", False), ("c", True)):
        mine = await writing(client, topic, suffix)
        await client.valid(mine.end(committed))
        await ended(client, mine)
        if client.version < 5:
            await client.boundary(mine.end(committed))
            await client.wrong(mine.end(not committed))
    await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))
    await client.valid(fetch(part(topic, 0)))
    await client.valid(at(topic, LATEST, isolation=READ_COMMITTED))


@scenario(ApiKey.END_TXN, "5")
async def transactions_end_and_bump_the_epoch(client: Client) -> None:
    topic = await client.topic()
    mine = await writing(client, topic)
    await client.valid(mine.end())
    await ended(client, mine)
    await client.boundary(mine.end())
    await client.wrong(mine.end(False))
    mine.epoch += 1
    await client.boundary(mine.end(False))
    await ended(client, mine)
    mine.epoch += 1
    await client.wrong(mine.end(True))


@scenario(ApiKey.END_TXN, "0-5")
async def transactions_that_do_not_end(client: Client) -> None:
    topic = await client.topic()
    mine = await producer(client)
    await client.wrong(mine.end(True))
    await client.boundary(mine.end(False)) if client.version < 5 else None
    await client.wrong(mine.end(producer_epoch=mine.epoch + 9))
    await client.wrong(mine.end(producer_id=mine.id + 1_000_000))
    await client.wrong(mine.end(transactional_id=client.name("never")))
    await client.wrong(mine.end(transactional_id=""))
    await client.valid(fetch(part(topic, 0)))


@scenario(ApiKey.PRODUCE, "12-13")
async def records_join_a_transaction_by_themselves(client: Client) -> None:
    topic, mine = await client.topic(), await producer(client)
    await client.valid(produce(topic, mine.batch(), transactional_id=mine.name))
    await client.valid(produce(topic, mine.batch(2, 1), transactional_id=mine.name))
    await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))
    await client.setup(
        DescribeProducersRequest(topics=[TopicRequest(name=topic.name, partition_indexes=[0])])
    )
    await client.setup(mine.end())
    await ended(client, mine)
    await client.wrong(produce(topic, mine.batch(1, 3), transactional_id=mine.name))
    mine.epoch += 1
    await client.valid(produce(topic, mine.batch(1, 0), transactional_id=mine.name))
    await client.setup(mine.end(False))
    await ended(client, mine)
    await client.valid(fetch(part(topic, 0), isolation_level=READ_COMMITTED))


@scenario(ApiKey.PRODUCE, "3-11")
async def records_in_a_transaction(client: Client) -> None:
    topic = await client.topic(partitions=2)
    mine = await producer(client)
    await client.setup(mine.add(OLD_ADD, topic), OLD_ADD)
    await client.valid(produce(topic, mine.batch(), transactional_id=mine.name))
    await client.wrong(produce(topic, mine.batch(), partition=1, transactional_id=mine.name))
    await client.setup(mine.end(), OLD_END)
    await ended(client, mine)
    await client.wrong(produce(topic, mine.batch(1, 1), transactional_id=mine.name))


@scenario(ApiKey.FETCH, "4-18")
async def committed_and_aborted(client: Client) -> None:
    topic = await client.topic()
    for suffix, committed in (("a", True), ("b", False)):
        mine = await writing(client, topic, suffix)
        await client.setup(mine.end(committed), OLD_END)
        await ended(client, mine)
    open_one = await writing(client, topic, "c")
    for offset in range(5):
        await client.valid(fetch(part(topic, offset), isolation_level=READ_COMMITTED))
    await client.boundary(fetch(part(topic, 5), isolation_level=READ_COMMITTED))
    await client.valid(fetch(part(topic, 0)))
    await client.valid(at(topic, LATEST, isolation=READ_COMMITTED))
    await client.setup(open_one.end(False), OLD_END)


@scenario(ApiKey.DESCRIBE_PRODUCERS, "0")
async def producers_of_a_partition(client: Client) -> None:
    topic = await client.topic(partitions=2)
    asked = lambda *partitions, name=topic.name: DescribeProducersRequest(  # noqa: E731
        topics=[TopicRequest(name=name, partition_indexes=list(partitions))]
    )
    await client.valid(asked(0))
    mine = await writing(client, topic)
    await client.valid(asked(0, 1))
    await client.setup(mine.end(), OLD_END)
    await ended(client, mine)
    await client.valid(asked(0))
    await client.boundary(DescribeProducersRequest())
    await client.wrong(asked(7))
    await client.wrong(asked(-1))
    await client.wrong(asked(0, name=client.name("unknown")))
    await client.wrong(asked(0, name=""))


@scenario(ApiKey.DESCRIBE_TRANSACTIONS, "0")
async def transactions_described(client: Client) -> None:
    topic = await client.topic()
    fresh = await producer(client, "fresh")
    mine = await writing(client, topic)
    asked = lambda *names: DescribeTransactionsRequest(transactional_ids=list(names))  # noqa: E731
    await client.valid(asked(fresh.name))
    await client.valid(asked(mine.name, fresh.name))
    await client.setup(mine.end(), OLD_END)
    await ended(client, mine)
    await client.valid(asked(mine.name))
    await client.boundary(asked())
    await client.boundary(asked(mine.name, mine.name))
    await client.wrong(asked(client.name("never")))
    await client.wrong(asked(""))
    await client.wrong(asked(client.name("never"), mine.name))


@scenario(ApiKey.LIST_TRANSACTIONS, "0-2")
async def transactions_listed(client: Client) -> None:
    mine = await writing(client, await client.topic())
    own = {"transactional_id_pattern": client.name() + ".*"}
    await client.valid(ListTransactionsRequest(producer_id_filters=[mine.id]))
    await client.valid(ListTransactionsRequest(producer_id_filters=[mine.id], state_filters=[ONGOING_NAME]))
    await client.valid(
        ListTransactionsRequest(producer_id_filters=[mine.id], state_filters=["Empty", "Dead"])
    )
    await client.valid(ListTransactionsRequest(producer_id_filters=[mine.id], **own))
    await client.boundary(ListTransactionsRequest(producer_id_filters=[mine.id], duration_filter=10**9))
    await client.boundary(ListTransactionsRequest(producer_id_filters=[mine.id], duration_filter=0))
    await client.boundary(ListTransactionsRequest(producer_id_filters=[mine.id], duration_filter=-5))
    await client.boundary(ListTransactionsRequest(producer_id_filters=[mine.id], transactional_id_pattern=""))
    await client.wrong(ListTransactionsRequest(producer_id_filters=[mine.id], state_filters=["nonsense"]))
    await client.wrong(
        ListTransactionsRequest(producer_id_filters=[mine.id], state_filters=["nonsense", ONGOING_NAME])
    )
    await client.wrong(ListTransactionsRequest(producer_id_filters=[mine.id], state_filters=["ongoing"]))
    await client.wrong(ListTransactionsRequest(producer_id_filters=[-1]))
    if client.version >= 2:
        await client.wrong(ListTransactionsRequest(transactional_id_pattern="("))
    await client.setup(mine.end(False), OLD_END)
    await ended(client, mine)


def marker(
    producer_id: int, epoch: int, topic: str, *partitions: int, committed: bool = True, **fields: Any
) -> WriteTxnMarkersRequest:
    topics = [WritableTxnMarkerTopic(name=topic, partition_indexes=list(partitions))]
    one = WritableTxnMarker(
        producer_id=producer_id, producer_epoch=epoch, transaction_result=committed, topics=topics, **fields
    )
    return WriteTxnMarkersRequest(markers=[one])


@scenario(ApiKey.WRITE_TXN_MARKERS, "1-2")
async def markers_of_transactions(client: Client) -> None:
    topic = await client.topic()
    await client.valid(marker(5_000_000, 0, topic.name, 0))
    await client.valid(marker(5_000_000, 1, topic.name, 0, committed=False))
    await client.valid(marker(5_000_001, 0, topic.name, 0, coordinator_epoch=3))
    await client.boundary(WriteTxnMarkersRequest())
    await client.boundary(marker(5_000_000, 2, topic.name))
    await client.wrong(marker(5_000_000, 0, topic.name, 0))
    await client.wrong(marker(5_000_001, 0, topic.name, 0, coordinator_epoch=2))
    await client.wrong(marker(5_000_000, 1, topic.name, 9))
    await client.wrong(marker(5_000_000, 1, client.name("unknown"), 0))
    await client.valid(fetch(part(topic, 0)))
