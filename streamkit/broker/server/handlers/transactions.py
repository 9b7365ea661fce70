"""Transactions, for producers: 22, 24, 25, 26, 28; for whoever looks after them: 65, 66.

A handler lets the transactional id's shard decide. Left to do here is what the shard does not know: topics
that do not exist, new producer ids, and how older versions of each request call a fenced producer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar, cast

import structlog
from msgspec.structs import replace

from streamkit.broker.controller.topic_names import CONSUMER_OFFSETS
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.shard import Decision, Producer, Refusal, Token
from streamkit.broker.coordination.transaction.coordinator import (
    EPOCH_BUMP_VERSION,
    EndCall,
    InitCall,
    NeedsProducerIdError,
    PartitionsCall,
    TransactionCoordinator,
    codes_of,
    partitions_result,
)
from streamkit.broker.coordination.transaction.records import Status, TopicPartition
from streamkit.broker.regular_expression import InvalidPatternError, Pattern
from streamkit.broker.server.dispatch import RequestContext, Route
from streamkit.errors import StreamkitError
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from streamkit.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from streamkit.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TransactionState,
)
from streamkit.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from streamkit.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
)
from streamkit.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from streamkit.protocol.records.batch import NO_SEQUENCE
from streamkit.protocol.schema import Message

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker

log = structlog.get_logger(__name__)

NONE = -1
FENCED_VERSIONS = {
    ApiKey.INIT_PRODUCER_ID: 4,
    ApiKey.ADD_PARTITIONS_TO_TXN: 2,
    ApiKey.ADD_OFFSETS_TO_TXN: 2,
    ApiKey.END_TXN: 2,
}
"""From which version on a client knows PRODUCER_FENCED (KIP-588)."""
BATCHED_ADD_VERSION = 4
IMPLICIT_ADD_VERSION = 5
EPOCH_BUMP_END_VERSION = 5
ABORTABLE_COMMIT_VERSION = 4
"""From which version on a client of TxnOffsetCommit knows TRANSACTION_ABORTABLE."""

Reply = TypeVar("Reply", bound=Message)
Decide = Callable[[TransactionCoordinator, Token, Decision], None]


async def ask(broker: Broker, transactional_id: str, reply: type[Reply], decide: Decide) -> Reply:
    """What the shard of this transactional id answers; raises Refusal."""
    if not transactional_id:
        raise Refusal(ErrorCode.INVALID_REQUEST)
    answer = await broker.transactions.ask(transactional_id, decide)
    assert isinstance(answer, reply)
    return answer


def named_for(request: RequestContext, code: int) -> ErrorCode:
    """The error in a word that this version of the request has."""
    api = ApiKey(request.header.api_key)
    if code == ErrorCode.PRODUCER_FENCED and request.version < FENCED_VERSIONS.get(api, 0):
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return ErrorCode(code)  # type: ignore[call-arg]  # looked up by value


# ── a producer comes ────────────────────────────────────────────────────────────────────────────────────


async def init_producer_id(
    broker: Broker, request: RequestContext, message: InitProducerIdRequest
) -> InitProducerIdResponse:
    """Without a transactional id every request gets a fresh id; KIP-360 resumes transactional ones only."""
    names_itself = message.producer_id != NONE
    if names_itself != (message.producer_epoch != NONE):
        return _no_producer(broker, request, ErrorCode.INVALID_REQUEST)
    if message.transactional_id is None:
        try:
            return InitProducerIdResponse(producer_id=await _fresh_id(broker), producer_epoch=0)
        except Refusal as refusal:
            return _no_producer(broker, request, refusal.code)
    call = InitCall(
        message.transactional_id,
        message.transaction_timeout_ms,
        Producer(message.producer_id, message.producer_epoch) if names_itself else None,
    )

    def deciding(fresh_id: int | None) -> Decide:
        return lambda shard, token, decision: shard.init(call._replace(fresh_id=fresh_id), token, decision)

    try:
        response = await _with_producer_id(broker, call.transactional_id, InitProducerIdResponse, deciding)
    except Refusal as refusal:
        return _no_producer(broker, request, refusal.code)
    return _no_producer(broker, request, response.error_code) if response.error_code else response


def _no_producer(broker: Broker, request: RequestContext, code: int) -> InitProducerIdResponse:
    named = named_for(request, code)
    broker.count_failure(ApiKey.INIT_PRODUCER_ID, named)
    return InitProducerIdResponse(error_code=named, producer_epoch=NONE)


async def _with_producer_id(
    broker: Broker, transactional_id: str, reply: type[Reply], deciding: Callable[[int | None], Decide]
) -> Reply:
    """Decide, with a new producer id if that turns out to be needed."""
    try:
        return await ask(broker, transactional_id, reply, deciding(None))
    except NeedsProducerIdError:
        return await ask(broker, transactional_id, reply, deciding(await _fresh_id(broker)))


async def _fresh_id(broker: Broker) -> int:
    try:
        return await broker.producer_ids.take()
    except StreamkitError as error:
        log.warning("no producer id", reason=error.message)
        raise Refusal(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS) from None  # as Kafka: ask again


# ── what belongs to a transaction ───────────────────────────────────────────────────────────────────────


async def add_partitions_to_txn(
    broker: Broker, request: RequestContext, message: AddPartitionsToTxnRequest
) -> AddPartitionsToTxnResponse:
    """From version 4 on brokers ask, for many producers at once, and also only to verify."""
    if request.version >= BATCHED_ADD_VERSION:
        added = await asyncio.gather(*(_add(broker, request, one) for one in message.transactions))
        return AddPartitionsToTxnResponse(results_by_transaction=list(added))
    transaction = AddPartitionsToTxnTransaction(
        transactional_id=message.v3_and_below_transactional_id,
        producer_id=message.v3_and_below_producer_id,
        producer_epoch=message.v3_and_below_producer_epoch,
        topics=message.v3_and_below_topics,
    )
    result = await _add(broker, request, transaction)
    return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=result.topic_results)


async def _add(
    broker: Broker, request: RequestContext, wanted: AddPartitionsToTxnTransaction
) -> AddPartitionsToTxnResult:
    places = list(_places(wanted.topics))
    unknown = [one for one in places if broker.metadata.partition(*one) is None]
    if unknown:  # as Kafka, also where it is only to verify
        codes = dict.fromkeys(places, ErrorCode.OPERATION_NOT_ATTEMPTED)
        codes.update(dict.fromkeys(unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
        return partitions_result(wanted.transactional_id, codes)
    by_broker = request.version >= BATCHED_ADD_VERSION
    call = PartitionsCall(
        wanted.transactional_id,
        Producer(wanted.producer_id, wanted.producer_epoch),
        places,
        EPOCH_BUMP_VERSION if by_broker else 0,
    )

    def decide(shard: TransactionCoordinator, token: Token, decision: Decision) -> None:
        if wanted.verify_only:
            shard.verify_partitions(call, token, decision)
        else:
            shard.add_partitions(call, token, decision)

    try:
        result = await ask(broker, wanted.transactional_id, AddPartitionsToTxnResult, decide)
    except Refusal as refusal:
        result = partitions_result(wanted.transactional_id, dict.fromkeys(places, refusal.code))
    codes = {place: named_for(request, code) for place, code in codes_of(result).items()}
    return partitions_result(wanted.transactional_id, codes)


def _places(topics: Iterable[AddPartitionsToTxnTopic]) -> Iterable[TopicPartition]:
    return ((topic.name, partition) for topic in topics for partition in topic.partitions)


async def add_offsets_to_txn(
    broker: Broker, request: RequestContext, message: AddOffsetsToTxnRequest
) -> AddOffsetsToTxnResponse:
    """The group's offsets are one more partition of the transaction."""
    try:
        await broker.groups.find(message.group_id)
        partition = broker.groups.partition_of(message.group_id)
        assert partition is not None, "the offsets topic exists once a coordinator was found"
        call = PartitionsCall(
            message.transactional_id,
            Producer(message.producer_id, message.producer_epoch),
            [(CONSUMER_OFFSETS, partition)],
        )
        result = await ask(
            broker,
            message.transactional_id,
            AddPartitionsToTxnResult,
            lambda shard, token, decision: shard.add_partitions(call, token, decision),
        )
    except Refusal as refusal:
        return AddOffsetsToTxnResponse(error_code=named_for(request, refusal.code))
    code = result.topic_results[0].results_by_partition[0].partition_error_code
    return AddOffsetsToTxnResponse(error_code=named_for(request, code))


# ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────


async def txn_offset_commit(
    broker: Broker, request: RequestContext, message: TxnOffsetCommitRequest
) -> TxnOffsetCommitResponse:
    """Asked of the group's coordinator; the transaction's has a word in it (KIP-890)."""
    known, missing = _sorted_out(broker, message.topics)
    try:
        code = await _admitted(broker, request, message)
        if code is not ErrorCode.NONE:
            raise Refusal(code)
        committed = await broker.groups.ask(message.group_id, _committing(message, known))
    except Refusal as refusal:
        return TxnOffsetCommitResponse(topics=[_failed(topic, refusal.code) for topic in message.topics])
    answers = [*cast(TxnOffsetCommitResponse, committed).topics]
    answers += [_failed(topic, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) for topic in missing]
    by_name: dict[str, TxnOffsetCommitResponseTopic] = {}
    for one in answers:
        first = by_name.get(one.name)
        by_name[one.name] = (
            one if first is None else replace(first, partitions=[*first.partitions, *one.partitions])
        )
    return TxnOffsetCommitResponse(topics=list(by_name.values()))


def _sorted_out(
    broker: Broker, topics: Iterable[TxnOffsetCommitRequestTopic]
) -> tuple[list[TxnOffsetCommitRequestTopic], list[TxnOffsetCommitRequestTopic]]:
    """The partitions that exist, and those that do not, each under their topics."""
    known, missing = [], []
    for topic in topics:
        exists = [broker.metadata.partition(topic.name, one.partition_index) for one in topic.partitions]
        there = [one for one, found in zip(topic.partitions, exists, strict=True) if found is not None]
        if there:
            known.append(replace(topic, partitions=there))
        if len(there) < len(topic.partitions):
            absent = [one for one, found in zip(topic.partitions, exists, strict=True) if found is None]
            missing.append(replace(topic, partitions=absent))
    return known, missing


async def _admitted(broker: Broker, request: RequestContext, message: TxnOffsetCommitRequest) -> ErrorCode:
    """Whether the offsets may join the transaction: its coordinator agrees, and no marker came meanwhile."""
    if not message.group_id:
        return ErrorCode.INVALID_GROUP_ID
    if not message.transactional_id:
        return ErrorCode.INVALID_REQUEST
    partition = broker.groups.partition_of(message.group_id)
    actor = None if partition is None else broker.partitions.led(CONSUMER_OFFSETS, partition)
    if actor is None or partition is None:
        return ErrorCode.NOT_COORDINATOR
    transactions, epoch = actor.log.transactions, message.producer_epoch
    verification = transactions.verify(message.producer_id, epoch, NO_SEQUENCE)
    place = (CONSUMER_OFFSETS, partition)
    call = PartitionsCall(message.transactional_id, Producer(message.producer_id, epoch), [place])
    adds = request.version >= IMPLICIT_ADD_VERSION
    code = (await (broker.gate.add(call) if adds else broker.gate.verify(call)))[place]
    if code is not ErrorCode.NONE:
        transactions.refuse(message.producer_id, verification)
    if code in (ErrorCode.NETWORK_EXCEPTION, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR):
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS  # of the transaction: worth another try
    if code is ErrorCode.CONCURRENT_TRANSACTIONS and not adds:
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    if code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if code is ErrorCode.TRANSACTION_ABORTABLE and request.version < ABORTABLE_COMMIT_VERSION:
        return ErrorCode.INVALID_TXN_STATE
    if code is ErrorCode.NONE and not transactions.grant(message.producer_id, epoch, verification):
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    return code


def _committing(
    message: TxnOffsetCommitRequest, known: list[TxnOffsetCommitRequestTopic]
) -> Callable[[GroupCoordinator, Token, Decision], None]:
    commit = TxnOffsetCommitRequest(
        transactional_id=message.transactional_id,
        group_id=message.group_id,
        producer_id=message.producer_id,
        producer_epoch=message.producer_epoch,
        generation_id=message.generation_id,
        member_id=message.member_id,
        group_instance_id=message.group_instance_id,
        topics=known,
    )
    return lambda shard, token, decision: shard.commits.commit_in_transaction(commit, token, decision)


def _failed(topic: TxnOffsetCommitRequestTopic, code: ErrorCode) -> TxnOffsetCommitResponseTopic:
    partitions = [
        TxnOffsetCommitResponsePartition(partition_index=one.partition_index, error_code=code)
        for one in topic.partitions
    ]
    return TxnOffsetCommitResponseTopic(name=topic.name, partitions=partitions)


# ── the end of a transaction ────────────────────────────────────────────────────────────────────────────


async def end_txn(broker: Broker, request: RequestContext, message: EndTxnRequest) -> EndTxnResponse:
    call = EndCall(
        message.transactional_id,
        Producer(message.producer_id, message.producer_epoch),
        message.committed,
        EPOCH_BUMP_VERSION if request.version >= EPOCH_BUMP_END_VERSION else 0,
    )

    def deciding(fresh_id: int | None) -> Decide:
        return lambda shard, token, decision: shard.end(call._replace(fresh_id=fresh_id), token, decision)

    try:
        response = await _with_producer_id(broker, message.transactional_id, EndTxnResponse, deciding)
    except Refusal as refusal:
        response = EndTxnResponse(error_code=refusal.code)
    if not response.error_code:
        return response
    code = named_for(request, response.error_code)
    broker.count_failure(ApiKey.END_TXN, code)
    return EndTxnResponse(error_code=code)


# ── administration ──────────────────────────────────────────────────────────────────────────────────────


async def describe_transactions(
    broker: Broker, request: RequestContext, message: DescribeTransactionsRequest
) -> DescribeTransactionsResponse:
    described = [_describe(broker, transactional_id) for transactional_id in message.transactional_ids]
    return DescribeTransactionsResponse(transaction_states=list(await asyncio.gather(*described)))


async def _describe(broker: Broker, transactional_id: str) -> TransactionState:
    try:
        return await ask(
            broker,
            transactional_id,
            TransactionState,
            lambda shard, token, decision: shard.describe(transactional_id, token, decision),
        )
    except Refusal as refusal:
        return TransactionState(transactional_id=transactional_id, error_code=refusal.code)


async def list_transactions(
    broker: Broker, request: RequestContext, message: ListTransactionsRequest
) -> ListTransactionsResponse:
    labels = {status.label for status in Status}
    try:
        pattern = Pattern(message.transactional_id_pattern) if message.transactional_id_pattern else None
    except InvalidPatternError:
        return ListTransactionsResponse(error_code=ErrorCode.INVALID_REGULAR_EXPRESSION)

    def decide(shard: TransactionCoordinator, token: Token, decision: Decision) -> None:
        decision.reply(token, ListTransactionsResponse(transaction_states=shard.list(message, decision.at)))

    try:
        answers = await asyncio.gather(*[shard.ask(decide) for shard in broker.transactions.shards.values()])
    except Refusal as refusal:
        return ListTransactionsResponse(error_code=refusal.code)
    found = [one for answer in answers for one in cast(ListTransactionsResponse, answer).transaction_states]
    return ListTransactionsResponse(
        unknown_state_filters=[one for one in message.state_filters if one not in labels],
        transaction_states=[one for one in found if pattern is None or pattern.matches(one.transactional_id)],
    )


ROUTES = (
    Route(ApiKey.INIT_PRODUCER_ID, 0, 5, init_producer_id),
    Route(ApiKey.ADD_PARTITIONS_TO_TXN, 0, 5, add_partitions_to_txn),
    Route(ApiKey.ADD_OFFSETS_TO_TXN, 0, 4, add_offsets_to_txn),
    Route(ApiKey.END_TXN, 0, 5, end_txn),
    Route(ApiKey.TXN_OFFSET_COMMIT, 0, 5, txn_offset_commit),
    Route(ApiKey.DESCRIBE_TRANSACTIONS, 0, 0, describe_transactions),
    Route(ApiKey.LIST_TRANSACTIONS, 0, 2, list_transactions),
)
