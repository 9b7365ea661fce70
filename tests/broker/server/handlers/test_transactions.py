"""Transactions over a socket, in the versions that no Python client speaks: KIP-890, and administration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from streamkit.broker.coordination.shard import Producer
from streamkit.broker.coordination.transaction.coordinator import PartitionsCall
from streamkit.broker.server.coordinators.transaction_gate import Codes
from streamkit.broker.server.handlers.produce import not_admitted
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from streamkit.protocol.messages.describe_transactions import DescribeTransactionsRequest
from streamkit.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from streamkit.protocol.messages.fetch import FetchPartition
from streamkit.protocol.messages.find_coordinator import FindCoordinatorRequest
from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest
from streamkit.protocol.messages.list_transactions import ListTransactionsRequest
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from streamkit.protocol.messages.produce import ProduceRequest, ProduceResponse
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
from tests.broker.server.wire import Wire, batch, connected, produce_request, running, topic

READ_COMMITTED = 1


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        for key, key_type in (("x", 1), ("g", 0)):
            await wire.ask(FindCoordinatorRequest(coordinator_keys=[key], key_type=key_type), 4)
        yield wire


async def init(wire: Wire) -> Producer:
    answer = await wire.ask(InitProducerIdRequest(transactional_id="x", transaction_timeout_ms=10_000), 5)
    assert not answer.error_code
    return Producer(answer.producer_id, answer.producer_epoch)


async def write(wire: Wire, producer: Producer, sequence: int = 0, version: int = 12) -> int:
    return code_in(await wire.ask(writing(producer, sequence), version))


def writing(producer: Producer, sequence: int) -> ProduceRequest:
    data = batch(
        b"v",
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        base_sequence=sequence,
        transactional=True,
    )
    return produce_request(data, transactional_id="x")


def code_in(answer: ProduceResponse) -> int:
    return answer.responses[0].partition_responses[0].error_code


async def end(wire: Wire, producer: Producer, *, committed: bool = True) -> EndTxnResponse:
    request = EndTxnRequest(
        transactional_id="x",
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        committed=committed,
    )
    answer: EndTxnResponse = await wire.ask(request, 5)
    return answer


async def test_trap_24_produce_12_adds_and_end_txn_5_bumps(wire: Wire) -> None:
    producer = await init(wire)
    for round_number in range(3):
        assert await write(wire, producer) == 0
        answer = await end(wire, producer)
        assert (answer.error_code, answer.producer_epoch) == (0, round_number + 1)
        assert await write(wire, producer, 1) == ErrorCode.INVALID_PRODUCER_EPOCH, "the epoch before"
        producer = Producer(answer.producer_id, answer.producer_epoch)


async def test_kip_890_a_batch_that_overtakes_the_marker_of_the_transaction_before_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EndTxn 5 is answered before the markers are written; a quick client's next batch waits for them."""
    async with running(tmp_path) as broker, connected(broker) as wire, connected(broker) as other:
        await topic(broker)
        await wire.ask(FindCoordinatorRequest(coordinator_keys=["x"], key_type=1), 4)
        producer = await init(wire)
        assert await write(wire, producer) == 0
        add = broker.gate.add

        async def marker_first(call: PartitionsCall) -> Codes:
            monkeypatch.undo()
            assert not (await end(other, producer)).error_code
            async with asyncio.timeout(10):
                while broker.partitions.by_name["t", 0].log.log_end_offset < 2:
                    await asyncio.sleep(0.01)
            return await add(call)

        monkeypatch.setattr(broker.gate, "add", marker_first)
        assert await write(wire, producer._replace(epoch=producer.epoch + 1)) == 0
        assert broker.partitions.by_name["t", 0].log.log_end_offset == 3


@pytest.mark.parametrize("version", [10, 12])
async def test_batches_of_one_producer_pass_the_gate_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """A client sends on before its first batch is answered; the coordinator's answers may come in any order.

    To be told that the second is out of order, after the first was written, is the end for Kafka's producer.
    """
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        await wire.ask(FindCoordinatorRequest(coordinator_keys=["x"], key_type=1), 4)
        producer = await init(wire)
        await add_older(wire, producer)
        asked: list[asyncio.Event] = []
        for name in ("add", "verify"):
            monkeypatch.setattr(broker.gate, name, last_answered_first(getattr(broker.gate, name), asked))
        for sequence in range(3):
            wire.send(writing(producer, sequence), version)
        answers = [(await wire.receive(ProduceResponse, version))[1] for _ in range(3)]
        assert [code_in(answer) for answer in answers] == [0, 0, 0]
        assert asked


def last_answered_first(
    ask: Callable[[PartitionsCall], Awaitable[Codes]], asked: list[asyncio.Event]
) -> Callable[[PartitionsCall], Awaitable[Codes]]:
    """The answer to one question is held back until later ones, if there are any, have been answered."""

    async def held_back(call: PartitionsCall) -> Codes:
        answered = asyncio.Event()
        asked.append(answered)
        place = len(asked)
        codes = await ask(call)
        for _ in range(1_000):  # turns of the loop
            await asyncio.sleep(0)
        for later in asked[place:]:
            await later.wait()
        answered.set()
        return codes

    return held_back


async def add_older(wire: Wire, producer: Producer) -> None:
    """As clients add their partition whose produce requests do not."""
    request = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="x",
        v3_and_below_producer_id=producer.producer_id,
        v3_and_below_producer_epoch=producer.epoch,
        v3_and_below_topics=[AddPartitionsToTxnTopic(name="t", partitions=[0])],
    )
    answer = await wire.ask(request, 3)
    assert not answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code


async def test_kip_890_an_older_produce_must_have_added_the_partition(wire: Wire) -> None:
    producer = await init(wire)
    assert await write(wire, producer, version=10) == ErrorCode.INVALID_TXN_STATE
    assert await write(wire, producer, version=11) == ErrorCode.TRANSACTION_ABORTABLE


async def test_one_partition_that_does_not_exist_keeps_the_others_out_too(wire: Wire) -> None:
    """As in Kafka: each of the others is told that nothing was attempted."""
    producer = await init(wire)
    topics = [AddPartitionsToTxnTopic(name="t", partitions=[0, 7])]
    by_client = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="x",
        v3_and_below_producer_id=producer.producer_id,
        v3_and_below_producer_epoch=producer.epoch,
        v3_and_below_topics=topics,
    )
    found = [(await wire.ask(by_client, 3)).results_by_topic_v3_and_below]
    for verify_only in (False, True):
        transaction = AddPartitionsToTxnTransaction(
            transactional_id="x",
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            verify_only=verify_only,
            topics=topics,
        )
        answer = await wire.ask(AddPartitionsToTxnRequest(transactions=[transaction]), 5)
        found += [one.topic_results for one in answer.results_by_transaction]
    for (result,) in found:
        codes = {one.partition_index: one.partition_error_code for one in result.results_by_partition}
        assert codes == {0: ErrorCode.OPERATION_NOT_ATTEMPTED, 7: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    described = await wire.ask(DescribeTransactionsRequest(transactional_ids=["x"]), 0)
    assert described.transaction_states[0].topics == []


@pytest.mark.parametrize("version", [9, 11, 12])
def test_a_producer_tries_again_what_its_coordinator_did_not_attempt(version: int) -> None:
    """The word itself ends a transaction at Kafka's producer, though another attempt may well succeed."""
    told = not_admitted(ErrorCode.OPERATION_NOT_ATTEMPTED, version)
    assert told.error is ErrorCode.NOT_ENOUGH_REPLICAS
    assert told.error.retriable


async def test_trap_24_transaction_version_is_finalized_in_a_new_cluster(wire: Wire) -> None:
    request = ApiVersionsRequest(client_software_name="t", client_software_version="1")
    answer = await wire.ask(request, 4)
    levels = {one.name: one.max_version_level for one in answer.finalized_features}
    assert levels["transaction.version"] == 2


async def test_trap_30_a_fetch_tells_of_aborts_and_ends_at_the_stable_offset(
    wire: Wire,
) -> None:
    producer = await init(wire)
    await write(wire, producer)
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    open_one = (await wire.fetch(wanted, isolation_level=READ_COMMITTED)).responses[0].partitions[0]
    assert (open_one.high_watermark, open_one.last_stable_offset, len(open_one.records or b"")) == (1, 0, 0)
    await end(wire, producer, committed=False)
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    aborted = await wire.fetch(wanted, isolation_level=READ_COMMITTED, min_bytes=100, max_wait_ms=5_000)
    found = aborted.responses[0].partitions[0]
    assert [(one.producer_id, one.first_offset) for one in found.aborted_transactions] == [
        (producer.producer_id, 0)
    ]
    assert found.last_stable_offset == found.high_watermark == 2
    everything = (await wire.fetch(wanted)).responses[0].partitions[0]
    assert everything.aborted_transactions is None


async def test_trap_38_a_pending_offset_is_unstable_until_its_end(wire: Wire) -> None:
    producer = await init(wire)
    part = TxnOffsetCommitRequestPartition(committed_offset=7)
    commit = TxnOffsetCommitRequest(
        transactional_id="x",
        group_id="g",
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        topics=[TxnOffsetCommitRequestTopic(name="t", partitions=[part])],
    )
    for version, code in ((3, ErrorCode.INVALID_TXN_STATE), (4, ErrorCode.TRANSACTION_ABORTABLE)):
        refused = await wire.ask(commit, version)
        assert refused.topics[0].partitions[0].error_code == code
    assert not (await wire.ask(commit, 5)).topics[0].partitions[0].error_code
    fetch = OffsetFetchRequest(
        groups=[
            OffsetFetchRequestGroup(
                group_id="g", topics=[OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
            )
        ],
        require_stable=True,
    )

    async def fetched() -> tuple[int, int]:
        found = (await wire.ask(fetch, 9)).groups[0].topics[0].partitions[0]
        return found.committed_offset, found.error_code

    assert await fetched() == (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    assert not (await end(wire, producer)).error_code
    async with asyncio.timeout(10):
        while (answer := await fetched())[1]:
            pass
    assert answer == (7, 0)


async def test_transactions_are_listed_and_described(wire: Wire) -> None:
    producer = await init(wire)
    await write(wire, producer)
    described = (
        await wire.ask(DescribeTransactionsRequest(transactional_ids=["x", "y"]), 0)
    ).transaction_states
    assert [(one.error_code, one.transaction_state) for one in described if one.transactional_id == "x"] == [
        (0, "Ongoing")
    ]
    assert described[0].topics[0].partitions == [0] and described[1].error_code
    for pattern, states, count in (
        ("x|z", [], 1),
        ("z", [], 0),
        (None, ["Empty"], 0),
        (None, ["Ongoing"], 1),
    ):
        request = ListTransactionsRequest(state_filters=states, transactional_id_pattern=pattern)
        assert len((await wire.ask(request, 2)).transaction_states) == count
    producers = await wire.ask(
        DescribeProducersRequest(topics=[TopicRequest(name="t", partition_indexes=[0, 1])]), 0
    )
    here, missing = producers.topics[0].partitions
    assert [(one.producer_id, one.current_txn_start_offset) for one in here.active_producers] == [
        (producer.producer_id, 0)
    ]
    assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_markers_that_come_again_or_too_late_change_nothing(wire: Wire) -> None:
    producer = await init(wire)
    await write(wire, producer)

    async def marked(epoch: int, coordinator_epoch: int = 0) -> int:
        marker = WritableTxnMarker(
            producer_id=producer.producer_id,
            producer_epoch=epoch,
            transaction_result=False,
            topics=[WritableTxnMarkerTopic(name="t", partition_indexes=[0])],
            coordinator_epoch=coordinator_epoch,
            transaction_version=2,
        )
        answer = await wire.ask(WriteTxnMarkersRequest(markers=[marker]), 2)
        code: int = answer.markers[0].topics[0].partitions[0].error_code
        return code

    assert await marked(0) == ErrorCode.INVALID_PRODUCER_EPOCH, "of the transaction before"
    assert [await marked(1, 3), await marked(1, 3)] == [0, 0]
    assert await marked(1, 2) == ErrorCode.TRANSACTION_COORDINATOR_FENCED
