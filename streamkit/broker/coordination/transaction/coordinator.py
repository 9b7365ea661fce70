"""The transactional ids of one partition of `__transaction_state`: the shard behind every transaction API.

A transactional id stands for one producer at a time. Whoever initialises it gets a higher epoch than all
before, which fences them: the coordinator refuses their requests, and the markers carry the epoch to the
partitions, which refuse their batches. Its states:

    Empty ──────────────▶ Ongoing ──▶ PrepareCommit ──▶ CompleteCommit ─┐
      ▲   a partition        │  the end is decided,  every marker       │ the next partition: Ongoing again
      │   is added           └────▶ PrepareAbort ────▶ CompleteAbort ───┤
      └──────────────────────────────── a producer initialises ─────────┘

The record of a Prepare state is the commit point: what it says happens, however often the coordinator
crashes. Once it is committed, `SendMarkers` asks the shell to end the transaction in each of its partitions
and to say so (`markers_written`). A shard that is loaded asks again for what was on its way. While a
transaction is prepared, whoever wants the next one is told to come back (CONCURRENT_TRANSACTIONS).

With `client_version` 2 (KIP-890) each end bumps the epoch, so that a batch that was delayed past its
transaction's end can never join the next one. The marker carries the bumped epoch and the client goes on
with it. A retried EndTxn is then known by its older epoch.

An epoch that cannot be bumped any more is followed by a new producer id. Ids are the shell's to bring: a
decision that lacks one raises `NeedsProducerIdError`, having done nothing, and is asked again with one.

Soft state: deadlines, and the epoch before the last bump, by which a retried InitProducerId is known.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from msgspec.structs import replace

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.deadlines import Deadlines
from streamkit.broker.coordination.shard import Decision, Instant, Producer, Refusal, Token
from streamkit.broker.coordination.transaction.records import (
    NO_EPOCH,
    NO_PRODUCER_ID,
    NOT_STARTED,
    Status,
    TopicPartition,
    Transaction,
    parse,
    transaction_record,
    transaction_tombstone,
)
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages import describe_transactions, list_transactions
from streamkit.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
)
from streamkit.protocol.messages.end_txn import EndTxnResponse
from streamkit.protocol.messages.init_producer_id import InitProducerIdResponse

LAST_EPOCH = 2**15 - 2
"""The last one that a producer gets; the one above it is left for fencing that producer."""
EPOCH_BUMP_VERSION = 2
"""The transaction.version from which on each end of a transaction bumps the epoch."""

_EXPIRY = ""
"""The deadline that is of no transactional id."""


class NeedsProducerIdError(Exception):
    """A new producer id is needed to decide this."""


class InitCall(NamedTuple):
    """InitProducerId; `expected` is who the producer thinks it is (KIP-360), `fresh_id` a new id."""

    transactional_id: str
    timeout_ms: int
    expected: Producer | None = None
    fresh_id: int | None = None


class EndCall(NamedTuple):
    """EndTxn, of a client that works by `client_version`."""

    transactional_id: str
    producer: Producer
    committed: bool
    client_version: int
    fresh_id: int | None = None


class PartitionsCall(NamedTuple):
    """AddPartitionsToTxn, for one transactional id."""

    transactional_id: str
    producer: Producer
    partitions: Collection[TopicPartition]
    client_version: int = 0


class SendMarkers(NamedTuple):
    """End this transaction in these partitions, then tell `markers_written`."""

    transactional_id: str
    producer: Producer
    committed: bool
    partitions: tuple[TopicPartition, ...]
    client_version: int


class TransactionCoordinator:
    """One shard. `transactions` holds every transactional id that is not forgotten."""

    def __init__(self, config: BrokerConfig) -> None:
        self.transactions: dict[str, Transaction] = {}
        self._config = config
        self._epochs_before: dict[str, int] = {}
        """The epoch before the last bump that its own producer asked for."""
        self._deadlines: Deadlines[str] = Deadlines()

    # ── shard ──────────────────────────────────────────────────────────────────────────────────────────

    def replay(self, key: bytes, value: bytes | None) -> None:
        change = parse(key, value)
        if change is None:
            return
        if change.value is None:
            self.transactions.pop(change.transactional_id, None)
            self._epochs_before.pop(change.transactional_id, None)
            self._deadlines.cancel(change.transactional_id)
        else:
            self.transactions[change.transactional_id] = change.value

    def replay_in_transaction(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        raise AssertionError("transaction states are not written in transactions")

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        raise AssertionError("transaction states are not written in transactions")

    def loaded(self, decision: Decision) -> None:
        at = decision.at
        for transactional_id, known in self.transactions.items():
            if known.status is Status.ONGOING:
                left_ms = max(0, known.started_ms + known.timeout_ms - at.wall_ms)
                self._deadlines.set(transactional_id, at.monotonic_ms + min(left_ms, known.timeout_ms))
            elif known.status.is_prepared:
                decision.commands.append(_send_markers(transactional_id, known))
        self._schedule_expiry(at)

    def wake_at_ms(self) -> int | None:
        return self._deadlines.wake_at_ms()

    def tick(self, at: Instant) -> Decision | None:
        due = self._deadlines.pop_due(at.monotonic_ms)
        if due is None:
            return None
        decision = Decision(at)
        known = self.transactions.get(due)
        if due == _EXPIRY:
            self._forget_expired(decision)
            self._schedule_expiry(at)
        elif known is not None and known.status is Status.ONGOING:
            self._fence_and_abort(due, known, decision)
        return decision

    # ── a producer comes ───────────────────────────────────────────────────────────────────────────────

    def init(self, call: InitCall, token: Token, decision: Decision) -> None:
        try:
            initialised = self._init(call, decision)
        except Refusal as refusal:
            decision.reply(token, InitProducerIdResponse(error_code=refusal.code, producer_epoch=NO_EPOCH))
            return
        decision.reply(
            token,
            InitProducerIdResponse(producer_id=initialised.producer_id, producer_epoch=initialised.epoch),
        )

    def _init(self, call: InitCall, decision: Decision) -> Transaction:
        if not 0 < call.timeout_ms <= self._config.transaction_max_timeout_ms:
            raise Refusal(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        known = self.transactions.get(call.transactional_id)
        if known is None:
            fresh = _fresh(call.fresh_id)
            known = Transaction(producer_id=fresh, epoch=NO_EPOCH, timeout_ms=call.timeout_ms)
        _check_identity(known, call.expected)
        if known.status.is_prepared:
            raise Refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
        if known.status is Status.ONGOING:
            if call.expected is not None and call.expected != known.producer:
                raise Refusal(ErrorCode.PRODUCER_FENCED)
            # The epoch that fences is never given out: the retry bumps it once more.
            self._fence_and_abort(call.transactional_id, known, decision)
            raise Refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
        producer, before = self._next_producer(call, known)
        initialised = Transaction(
            producer_id=producer.producer_id,
            epoch=producer.epoch,
            timeout_ms=call.timeout_ms,
            previous_producer_id=known.previous_producer_id
            if producer.producer_id == known.producer_id
            else known.producer_id,
            updated_ms=decision.at.wall_ms,
        )
        self._epochs_before[call.transactional_id] = before
        self._record(call.transactional_id, initialised, decision)
        return initialised

    def _next_producer(self, call: InitCall, known: Transaction) -> tuple[Producer, int]:
        """(who the producer is from now on, the epoch by which a retry of this would be known)."""
        expected = call.expected
        before = self._epochs_before.get(call.transactional_id, NO_EPOCH)
        is_retry = expected is not None and expected.epoch == before != known.epoch
        if is_retry:
            return known.producer, before
        if expected is not None and known.epoch not in (NO_EPOCH, expected.epoch):
            raise Refusal(ErrorCode.PRODUCER_FENCED)
        before = NO_EPOCH if expected is None else known.epoch
        if known.epoch >= LAST_EPOCH:
            return Producer(_fresh(call.fresh_id), 0), before
        return Producer(known.producer_id, known.epoch + 1), before

    # ── what belongs to a transaction ──────────────────────────────────────────────────────────────────

    def add_partitions(self, call: PartitionsCall, token: Token, decision: Decision) -> None:
        """The reply is an AddPartitionsToTxnResult."""
        code = ErrorCode.NONE
        try:
            self._add(call, self._open_to(call), decision)
        except Refusal as refusal:
            code = refusal.code
        decision.reply(token, partitions_result(call.transactional_id, dict.fromkeys(call.partitions, code)))

    def _add(self, call: PartitionsCall, known: Transaction, decision: Decision) -> None:
        transactional_id, ongoing = call.transactional_id, known.status is Status.ONGOING
        together = tuple(dict.fromkeys((*known.partitions, *call.partitions)))
        if ongoing and len(together) == len(known.partitions):
            return
        now_ms = decision.at.wall_ms
        if not ongoing:
            self._deadlines.set(transactional_id, decision.at.monotonic_ms + known.timeout_ms)
        grown = replace(
            known,
            status=Status.ONGOING,
            partitions=together,
            started_ms=known.started_ms if ongoing else now_ms,
            updated_ms=now_ms,
            client_version=call.client_version,
        )
        self._record(transactional_id, grown, decision)

    def verify_partitions(self, call: PartitionsCall, token: Token, decision: Decision) -> None:
        """Whether each partition is in the transaction; the reply is an AddPartitionsToTxnResult."""
        try:
            known = self._open_to(call)
            codes = {
                one: ErrorCode.NONE if one in known.partitions else ErrorCode.TRANSACTION_ABORTABLE
                for one in call.partitions
            }
        except Refusal as refusal:
            codes = dict.fromkeys(call.partitions, refusal.code)
        decision.reply(token, partitions_result(call.transactional_id, codes))

    def _open_to(self, call: PartitionsCall) -> Transaction:
        """The transactional id's state, if its present producer asks and nothing is on its way."""
        known = self.transactions.get(call.transactional_id)
        if known is None or known.producer_id != call.producer.producer_id:
            raise Refusal(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if known.epoch != call.producer.epoch:
            raise Refusal(ErrorCode.PRODUCER_FENCED)
        if known.status.is_prepared:
            raise Refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
        return known

    # ── the end of a transaction ───────────────────────────────────────────────────────────────────────

    def end(self, call: EndCall, token: Token, decision: Decision) -> None:
        try:
            producer = self._end(call, decision)
        except Refusal as refusal:
            decision.reply(token, EndTxnResponse(error_code=refusal.code))
            return
        answer = EndTxnResponse(producer_id=producer.producer_id, producer_epoch=producer.epoch)
        decision.reply(token, answer)

    def _end(self, call: EndCall, decision: Decision) -> Producer:
        """Decide the end; who the producer is from then on."""
        known = self.transactions.get(call.transactional_id)
        if known is None:
            raise Refusal(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if _is_retry(call, known):
            return _answered_again(call, known)
        if known.producer_id != call.producer.producer_id:
            raise Refusal(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if known.epoch != call.producer.epoch:
            raise Refusal(ErrorCode.PRODUCER_FENCED)
        bumps = call.client_version >= EPOCH_BUMP_VERSION
        if known.status is not Status.ONGOING:
            if bumps and known.status.is_idle and not call.committed:
                # An abort after adding a partition failed: nothing to end, but the epoch is bumped.
                known = replace(known, started_ms=decision.at.wall_ms)
            else:
                return _answered_again(call, known)
        return self._prepare(call, known, bumps, decision)

    def _prepare(self, call: EndCall, known: Transaction, bumps: bool, decision: Decision) -> Producer:
        successor = _fresh(call.fresh_id) if bumps and known.epoch >= LAST_EPOCH else NO_PRODUCER_ID
        prepared = replace(
            known,
            status=Status.PREPARE_COMMIT if call.committed else Status.PREPARE_ABORT,
            epoch=known.epoch + bumps,
            next_producer_id=successor,
            updated_ms=decision.at.wall_ms,
            client_version=call.client_version,
        )
        if bumps:
            self._epochs_before[call.transactional_id] = known.epoch
        self._record_end(call.transactional_id, prepared, decision)
        return prepared.producer if successor == NO_PRODUCER_ID else Producer(successor, 0)

    def _fence_and_abort(self, transactional_id: str, known: Transaction, decision: Decision) -> None:
        """End it over its producer's head, whose epoch becomes stale with that."""
        aborted = replace(
            known,
            status=Status.PREPARE_ABORT,
            epoch=known.epoch + 1,
            updated_ms=decision.at.wall_ms,
            client_version=0,
        )
        self._epochs_before.pop(transactional_id, None)
        self._record_end(transactional_id, aborted, decision)

    def _record_end(self, transactional_id: str, prepared: Transaction, decision: Decision) -> None:
        self._deadlines.cancel(transactional_id)
        self._record(transactional_id, prepared, decision)
        decision.commands.append(_send_markers(transactional_id, prepared))

    def markers_written(self, transactional_id: str, producer: Producer, decision: Decision) -> None:
        """Every partition has the marker of that producer epoch."""
        known = self.transactions.get(transactional_id)
        if known is None or not known.status.is_prepared or known.producer != producer:
            return
        committed = known.status is Status.PREPARE_COMMIT
        complete = replace(
            known,
            status=Status.COMPLETE_COMMIT if committed else Status.COMPLETE_ABORT,
            partitions=(),
            updated_ms=decision.at.wall_ms,
        )
        if known.next_producer_id != NO_PRODUCER_ID:
            complete = replace(
                complete,
                producer_id=known.next_producer_id,
                epoch=0,
                previous_producer_id=known.producer_id,
                next_producer_id=NO_PRODUCER_ID,
            )
        self._record(transactional_id, complete, decision)

    # ── forgetting ─────────────────────────────────────────────────────────────────────────────────────

    def _forget_expired(self, decision: Decision) -> None:
        """Transactional ids that nobody has used for `transactional.id.expiration.ms`."""
        oldest_ms = decision.at.wall_ms - self._config.transactional_id_expiration_ms
        decision.records += [
            transaction_tombstone(transactional_id)
            for transactional_id, known in self.transactions.items()
            if known.status.is_idle and known.updated_ms <= oldest_ms
        ]

    def _schedule_expiry(self, at: Instant) -> None:
        every_ms = self._config.transaction_remove_expired_transaction_cleanup_interval_ms
        self._deadlines.set(_EXPIRY, at.monotonic_ms + every_ms)

    # ── administration ─────────────────────────────────────────────────────────────────────────────────

    def describe(self, transactional_id: str, token: Token, decision: Decision) -> None:
        known = self.transactions.get(transactional_id)
        if known is None:
            described = describe_transactions.TransactionState(
                transactional_id=transactional_id, error_code=ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
            )
        else:
            topics: dict[str, list[int]] = {}
            for topic, partition in known.partitions:
                topics.setdefault(topic, []).append(partition)
            described = describe_transactions.TransactionState(
                transactional_id=transactional_id,
                transaction_state=known.status.label,
                transaction_timeout_ms=known.timeout_ms,
                transaction_start_time_ms=known.started_ms,
                producer_id=known.producer_id,
                producer_epoch=known.epoch,
                topics=[
                    describe_transactions.TopicData(topic=topic, partitions=found)
                    for topic, found in topics.items()
                ],
            )
        decision.reply(token, described)

    def list(
        self, wanted: list_transactions.ListTransactionsRequest, at: Instant
    ) -> list[list_transactions.TransactionState]:
        """The transactional ids that pass the filters; the pattern is for the asker to apply."""
        return [
            list_transactions.TransactionState(
                transactional_id=transactional_id,
                producer_id=known.producer_id,
                transaction_state=known.status.label,
            )
            for transactional_id, known in self.transactions.items()
            if _is_listed(known, wanted, at.wall_ms)
        ]

    # ── small ──────────────────────────────────────────────────────────────────────────────────────────

    def _record(self, transactional_id: str, transaction: Transaction, decision: Decision) -> None:
        decision.records.append(transaction_record(transactional_id, transaction))


def _fresh(producer_id: int | None) -> int:
    if producer_id is None:
        raise NeedsProducerIdError
    return producer_id


def _send_markers(transactional_id: str, prepared: Transaction) -> SendMarkers:
    return SendMarkers(
        transactional_id,
        prepared.producer,
        prepared.status is Status.PREPARE_COMMIT,
        prepared.partitions,
        prepared.client_version,
    )


def _check_identity(known: Transaction, expected: Producer | None) -> None:
    """Whether a producer that says who it is may go on from that (KIP-360); the epoch is judged later."""
    if expected is None or known.epoch == NO_EPOCH or expected.producer_id == known.producer_id:
        return
    is_rotated = expected.producer_id == known.previous_producer_id and expected.epoch >= LAST_EPOCH
    if not is_rotated:
        raise Refusal(ErrorCode.PRODUCER_FENCED)


def _is_retry(call: EndCall, known: Transaction) -> bool:
    """Whether this end was decided before, and the producer did not hear of its bumped epoch."""
    if known.client_version < EPOCH_BUMP_VERSION or known.status in (Status.EMPTY, Status.ONGOING):
        return False
    if call.producer.producer_id == known.producer_id:
        return call.producer.epoch + 1 == known.epoch
    return (
        call.producer == (known.previous_producer_id, LAST_EPOCH)
        and known.epoch == 0
        and not known.status.is_prepared
    )


def _answered_again(call: EndCall, known: Transaction) -> Producer:
    """What to say of an end that was decided before; of anything else, that it makes no sense."""
    decided = Status.PREPARE_COMMIT if call.committed else Status.PREPARE_ABORT
    complete = Status.COMPLETE_COMMIT if call.committed else Status.COMPLETE_ABORT
    if known.status is decided:
        raise Refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
    is_new = call.client_version >= EPOCH_BUMP_VERSION and not _is_retry(call, known)
    if known.status is complete and not is_new:
        return known.producer
    raise Refusal(ErrorCode.INVALID_TXN_STATE)


def _is_listed(known: Transaction, wanted: list_transactions.ListTransactionsRequest, now_ms: int) -> bool:
    if wanted.producer_id_filters and known.producer_id not in wanted.producer_id_filters:
        return False
    if wanted.state_filters and known.status.label not in wanted.state_filters:
        return False
    if wanted.duration_filter < 0:
        return True
    return known.started_ms != NOT_STARTED and now_ms - known.started_ms >= wanted.duration_filter


def partitions_result(
    transactional_id: str, codes: dict[TopicPartition, ErrorCode]
) -> AddPartitionsToTxnResult:
    topics: dict[str, list[AddPartitionsToTxnPartitionResult]] = {}
    for (topic, partition), code in codes.items():
        result = AddPartitionsToTxnPartitionResult(partition_index=partition, partition_error_code=code)
        topics.setdefault(topic, []).append(result)
    return AddPartitionsToTxnResult(
        transactional_id=transactional_id,
        topic_results=[
            AddPartitionsToTxnTopicResult(name=name, results_by_partition=results)
            for name, results in topics.items()
        ],
    )


def codes_of(result: AddPartitionsToTxnResult) -> dict[TopicPartition, ErrorCode]:
    """The way back."""
    return {
        (topic.name, one.partition_index): ErrorCode(one.partition_error_code)  # type: ignore[call-arg]
        for topic in result.topic_results
        for one in topic.results_by_partition
    }
