"""Produce (0): one batch for each of some partitions, answered together.

The request is split: every partition's actor gets its batch in the same turn of the event loop, and
whichever finishes last sends the answer. Versions below 3 are advertised and refused, because older
librdkafka takes their absence for a broker that cannot compress.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from streamkit.broker.coordination.shard import Producer
from streamkit.broker.coordination.transaction.coordinator import PartitionsCall
from streamkit.broker.log.append import AppendResult
from streamkit.broker.log.transactions import Verification
from streamkit.broker.server.coordinators.transaction_gate import Codes, Turn
from streamkit.broker.server.dispatch import LATER, Later, RequestContext, Route
from streamkit.broker.server.replicas.partition_actor import PartitionActor
from streamkit.broker.server.replicas.produce_answers import appended
from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.produce import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from streamkit.protocol.records.batch import (
    CODEC_MASK,
    CONTROL_BIT,
    HEADER_SIZE,
    LENGTH_END,
    MAGIC,
    TRANSACTIONAL_BIT,
    parse_header,
)
from streamkit.protocol.records.compression import Codec
from streamkit.protocol.schema import Records

if TYPE_CHECKING:
    from streamkit.broker.server.node import Broker
    from streamkit.broker.server.timers import Timer
    from streamkit.broker.storage.partition_log import PartitionLog

FEW_PARTS = 64
PART_BYTES = 256
"""What a topic or partition takes in memory until it is answered, however few bytes it is on the wire."""
VALID_ACKS = (0, 1, -1)
FIRST_VERSION_BY_ID = 13
FIRST_VERSION_WITH_ZSTD = 7
FIRST_VERSION_WITH_ABORTABLE = 11
FIRST_VERSION_THAT_ADDS = 12
"""To a transaction: no AddPartitionsToTxn goes before it (KIP-890)."""
RETRIABLE_IN_THE_COORDINATOR = (
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.NETWORK_EXCEPTION,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.OPERATION_NOT_ATTEMPTED,
)
"""The last: it does not know another of the partitions yet. Producers would take that word for the end."""
FRONT = Struct(">8xi4xb4xh")
"""Of a batch: its length, its magic byte and its attributes."""
LOW_ATTRIBUTES_POSITION = 22
SUCCESS = ErrorCode.NONE
ASKED_AT_MOST = 3
"""How often a coordinator is asked about one batch when markers of the transaction before come in between."""


def produce(broker: Broker, request: RequestContext, message: ProduceRequest) -> Later:
    if message.acks not in VALID_ACKS:
        PendingProduce(broker, request, message).refuse(ErrorCode.INVALID_REQUIRED_ACKS)
    elif not hand_over_lone_batch(broker, request, message):
        PendingProduce(broker, request, message).start()
    return LATER


def hand_over_lone_batch(broker: Broker, request: RequestContext, message: ProduceRequest) -> bool:
    """Give the only batch of a request to its actor; False if it has not just one, or an unusual one."""
    topics, version = message.topic_data, request.version
    if len(topics) != 1 or len(topics[0].partition_data) != 1 or not message.acks:
        return False
    topic, (data,) = topics[0], topics[0].partition_data
    records = data.records
    name = topic.name if version < FIRST_VERSION_BY_ID else broker.topic_name(topic.topic_id)
    actor = broker.partitions.by_name.get((name, data.index))
    if actor is None or actor.is_internal or not isinstance(records, memoryview):
        return False
    if version >= FIRST_VERSION_BY_ID and actor.log.topic_id != topic.topic_id:
        return False
    if flaw(records, version) is not None or is_transactional(records):
        return False
    actor.produce(records, message.acks, LoneBatch(broker, request, message, actor.log))
    return True


class LoneBatch:
    """A request of one batch, as librdkafka sends them all, while its partition works on it.

    There is nothing to count, and if all is well its answer is a form. Else it goes on as any other request.
    """

    __slots__ = ("_broker", "_log", "_message", "_pending", "_request")

    def __init__(
        self, broker: Broker, request: RequestContext, message: ProduceRequest, log: PartitionLog
    ) -> None:
        self._broker = broker
        self._request = request
        self._message = message
        self._log = log
        self._pending: PendingProduce | None = None

    def done(self, place: int, result: AppendResult) -> None:
        """Called out of an actor's drain, which no error of this request may end."""
        if self._pending is not None or result.error is not SUCCESS:
            self._as_any_other().done(place, result)
            return
        try:
            self._request.reply_with([self._answer(result)])
        except Exception:
            self._request.failed()

    def waits(self) -> None:
        self._as_any_other().waits()

    def _answer(self, result: AppendResult) -> bytearray:
        request, topic = self._request, self._message.topic_data[0]
        form = appended(request.version, topic.name, topic.topic_id, self._log.partition)
        return form.filled(
            request.header.correlation_id,
            result.base_offset,
            result.log_append_time_ms,
            self._log.log_start_offset,
        )

    def _as_any_other(self) -> PendingProduce:
        if self._pending is None:
            self._pending = PendingProduce(self._broker, self._request, self._message)
        return self._pending


class Unadmitted(NamedTuple):
    """A batch that would open a transaction in its partition, or one that came after such a batch.

    Nothing is asked about the second, whose transaction is open: it has no verification.
    """

    place: int
    actor: PartitionActor
    records: memoryview
    producer: Producer
    verification: Verification | None


class PendingProduce:
    """One request while its partitions work on it. A place counts its partitions in the request's order."""

    __slots__ = ("_broker", "_message", "_open", "_request", "_results", "_timer", "_unadmitted")

    def __init__(self, broker: Broker, request: RequestContext, message: ProduceRequest) -> None:
        self._broker = broker
        self._request = request
        self._message = message
        self._timer: Timer | None = None
        self._open = 0
        for topic in message.topic_data:
            self._open += len(topic.partition_data)
        self._results = [UNANSWERED] * self._open
        self._unadmitted: list[Unadmitted] = []
        parts = self._open + len(message.topic_data)
        if parts > FEW_PARTS:
            request.weigh(parts * PART_BYTES)

    def start(self) -> None:
        """Hand each batch to its actor."""
        place, acks, version = 0, self._message.acks, self._request.version
        actors, by_id = self._broker.partitions.by_name, version >= FIRST_VERSION_BY_ID
        for topic in self._message.topic_data:
            name = self._topic_name(topic)
            for data in topic.partition_data:
                records = data.records
                actor = actors.get((name, data.index))
                if actor is None:
                    self.done(place, self._missing(name, data.index))
                elif by_id and actor.log.topic_id != topic.topic_id:
                    # the earlier topic of that name is going
                    self.done(place, AppendResult(ErrorCode.UNKNOWN_TOPIC_ID))
                elif actor.is_internal:
                    self.done(place, AppendResult(ErrorCode.INVALID_TOPIC_EXCEPTION))
                elif (refusal := flaw(records, version)) is not None:
                    self.done(place, refusal)
                elif is_transactional(records):  # type: ignore[arg-type]  # flaw() looked
                    self._produce_in_transaction(actor, records, place)  # type: ignore[arg-type]
                else:
                    actor.produce(records, acks, self, place)  # type: ignore[arg-type]
                place += 1
        if not place:
            self._finish()
        if self._unadmitted:
            places = [(one.actor, one.producer.producer_id) for one in self._unadmitted]
            turn = Turn(self._broker.gate.line, places)
            self._broker.spawn.start(self._admit(self._unadmitted, turn), name="admit")

    def _produce_in_transaction(self, actor: PartitionActor, records: memoryview, place: int) -> None:
        """Hand the batch over if its transaction is open there; else the coordinator is asked first."""
        if self._message.transactional_id is None:
            self.done(place, AppendResult(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED))
            return
        if not self._message.transactional_id:
            self.done(place, AppendResult(ErrorCode.INVALID_REQUEST, message="an empty transactional id"))
            return
        header, transactions = parse_header(records), actor.log.transactions
        producer = Producer(header.producer_id, header.producer_epoch)
        verification = None
        if transactions.needs_verification(actor.log.producers.get(producer.producer_id), producer.epoch):
            verification = transactions.verify(*producer, header.base_sequence)
        elif (actor, producer.producer_id) not in self._broker.gate.line:
            actor.produce(records, self._message.acks, self, place)
            return
        self._unadmitted.append(Unadmitted(place, actor, records, producer, verification))

    async def _admit(self, waiting: list[Unadmitted], turn: Turn) -> None:
        """Hand over what may be written.

        The end of a transaction is told before its markers are written. One that comes while the coordinator
        is asked about the next transaction makes that answer worthless, so it is asked again.
        """
        try:
            for _ in range(ASKED_AT_MOST):
                waiting = await self._ask_about(waiting, turn)
            reason = "the transaction ended while the batch was on its way"
            for one in waiting:
                self.done(one.place, AppendResult(ErrorCode.INVALID_TXN_STATE, message=reason))
        finally:
            turn.ends()

    async def _ask_about(self, waiting: list[Unadmitted], turn: Turn) -> list[Unadmitted]:
        """Ask about all partitions of one producer together; what is to be asked about again."""
        again: list[Unadmitted] = []
        by_producer: dict[Producer, list[Unadmitted]] = {}
        for one in waiting:
            by_producer.setdefault(one.producer, []).append(one)
        for producer, batches in by_producer.items():
            codes = await self._ask_coordinator(producer, batches)
            await turn.comes()
            for one in batches:
                code = codes.get((one.actor.log.topic, one.actor.log.partition), ErrorCode.NONE)
                if not self._is_settled(one, code):
                    sequence = parse_header(one.records).base_sequence
                    verification = one.actor.log.transactions.verify(*producer, sequence)
                    again.append(one._replace(verification=verification))
        return again

    async def _ask_coordinator(self, producer: Producer, batches: list[Unadmitted]) -> Codes:
        logs = [one.actor.log for one in batches if one.verification is not None]
        if not logs:
            return {}
        places = [(log.topic, log.partition) for log in logs]
        call = PartitionsCall(self._message.transactional_id or "", producer, places)
        gate, adds = self._broker.gate, self._request.version >= FIRST_VERSION_THAT_ADDS
        return await (gate.add(call) if adds else gate.verify(call))

    def _is_settled(self, one: Unadmitted, code: ErrorCode) -> bool:
        """The batch is handed over or refused; False if the answer came too late."""
        log, transactions = one.actor.log, one.actor.log.transactions
        (producer_id, epoch), verification = one.producer, one.verification
        if code is not ErrorCode.NONE:
            if code not in RETRIABLE_IN_THE_COORDINATOR and verification is not None:
                transactions.refuse(producer_id, verification)
            self.done(one.place, not_admitted(code, self._request.version))
        elif (
            verification is not None and transactions.grant(producer_id, epoch, verification)
        ) or not transactions.needs_verification(log.producers.get(producer_id), epoch):
            one.actor.produce(one.records, self._message.acks, self, one.place)
        else:
            return False
        return True

    def refuse(self, code: ErrorCode) -> None:
        """The same error for every partition."""
        for place in range(len(self._results)):
            self.done(place, AppendResult(code))
        if not self._results:
            self._finish()

    def done(self, place: int, result: AppendResult) -> None:
        self._results[place] = result
        self._open -= 1
        if not self._open:
            self._finish()

    def waits(self) -> None:
        """A partition waits for its followers, as long as the client has patience."""
        if self._timer is None:
            self._timer = self._broker.timers.after(self._message.timeout_ms, self._time_is_over)

    def _time_is_over(self) -> None:
        """Answer now. What is still under way may succeed; nobody hears of it."""
        timed_out = AppendResult(ErrorCode.REQUEST_TIMED_OUT)
        self._results = [timed_out if one is UNANSWERED else one for one in self._results]
        self._open = ANSWERED
        self._finish()

    def _topic_name(self, topic: TopicProduceData) -> str | None:
        if self._request.version < FIRST_VERSION_BY_ID:
            return topic.name
        return self._broker.topic_name(topic.topic_id)

    def _missing(self, name: str | None, partition: int) -> AppendResult:
        if name is None:
            return AppendResult(ErrorCode.UNKNOWN_TOPIC_ID)
        return AppendResult(self._broker.why_missing(name, partition))

    def _finish(self) -> None:
        """Answer; called out of an actor's drain, which no error of this request may end."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._message.acks == 0:
                self._finish_silently()
            else:
                self._request.reply(self._response())
        except Exception:
            self._request.failed()

    def _finish_silently(self) -> None:
        """A client that expects no answer learns of an error by losing its connection."""
        codes = {result.error.name: None for result in self._results if result.error is not SUCCESS}
        if codes:
            self._request.close("produce_failed", f"produce with acks=0 failed: {', '.join(codes)}")
        else:
            self._request.reply(None)

    def _response(self) -> ProduceResponse:
        place, responses, actors = 0, [], self._broker.partitions.by_name
        endpoints: dict[int, NodeEndpoint] = {}
        for topic in self._message.topic_data:
            partitions, name = [], self._topic_name(topic)
            for data in topic.partition_data:
                result = self._results[place]
                place += 1
                if result.error is SUCCESS:
                    actor = actors.get((name, data.index))
                    partitions.append(
                        PartitionProduceResponse(
                            index=data.index,
                            base_offset=result.base_offset,
                            log_append_time_ms=result.log_append_time_ms,
                            log_start_offset=-1 if actor is None else actor.log.log_start_offset,
                        )
                    )
                else:
                    partitions.append(self._failed(name, data.index, result, endpoints))
            if not partitions:
                continue
            responses.append(
                TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=partitions)
            )
        return ProduceResponse(responses=responses, node_endpoints=list(endpoints.values()))

    def _failed(
        self,
        topic: str | None,
        partition: int,
        result: AppendResult,
        endpoints: dict[int, NodeEndpoint],
    ) -> PartitionProduceResponse:
        self._broker.count_failure(ApiKey.PRODUCE, result.error)
        leader = LeaderIdAndEpoch()
        if result.error is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            now = self._broker.current_leader(topic, partition, self._request.listener)
            if now is not None:
                leader = LeaderIdAndEpoch(leader_id=now.node_id, leader_epoch=now.epoch)
                endpoints[now.node_id] = NodeEndpoint(
                    node_id=now.node_id, host=now.host, port=now.port, rack=now.rack
                )
        return PartitionProduceResponse(
            index=partition,
            error_code=result.error,
            base_offset=-1,
            error_message=result.message or None,
            current_leader=leader,
        )


ANSWERED = -1
"""More of it is counted down without an end."""
UNANSWERED = AppendResult(ErrorCode.UNKNOWN_SERVER_ERROR)


def is_transactional(batch: memoryview) -> bool:
    return bool(batch[LOW_ATTRIBUTES_POSITION] & TRANSACTIONAL_BIT)


def flaw(records: Records, version: int) -> AppendResult | None:
    """What is wrong with a partition's bytes for this version, before its log judges them."""
    if not isinstance(records, memoryview) or len(records) < HEADER_SIZE:
        return AppendResult(ErrorCode.INVALID_RECORD, message="a partition without a record batch")
    size, magic, attributes = FRONT.unpack_from(records)
    if magic != MAGIC:
        code = ErrorCode.INVALID_RECORD if magic < MAGIC else ErrorCode.CORRUPT_MESSAGE
        return AppendResult(code, message=f"magic {magic}, not {MAGIC}")
    if size + LENGTH_END > len(records):
        return AppendResult(ErrorCode.INVALID_RECORD, message="a record batch that is cut short")
    if attributes & CONTROL_BIT:
        return AppendResult(ErrorCode.INVALID_RECORD, message="clients write no control batches")
    if version < FIRST_VERSION_WITH_ZSTD and attributes & CODEC_MASK == Codec.ZSTD:
        return AppendResult(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, message=f"zstd needs version {FIRST_VERSION_WITH_ZSTD}"
        )
    return None


def not_admitted(code: ErrorCode, version: int) -> AppendResult:
    """What a producer is told whose coordinator did not agree, in a word that this version acts upon."""
    told: ErrorCode = code
    if code is ErrorCode.CONCURRENT_TRANSACTIONS and version >= FIRST_VERSION_THAT_ADDS:
        pass
    elif code in RETRIABLE_IN_THE_COORDINATOR:
        told = ErrorCode.NOT_ENOUGH_REPLICAS
    elif code is ErrorCode.PRODUCER_FENCED:
        told = ErrorCode.INVALID_PRODUCER_EPOCH
    elif code is ErrorCode.TRANSACTION_ABORTABLE and version < FIRST_VERSION_WITH_ABORTABLE:
        told = ErrorCode.INVALID_TXN_STATE
    return AppendResult(told, message=f"the transaction's coordinator says {code.name}")


ROUTES = (Route(ApiKey.PRODUCE, 3, 13, produce, pipelined=True, advertised_from=0),)
