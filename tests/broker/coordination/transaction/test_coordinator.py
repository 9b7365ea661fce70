"""The rules of the transaction coordinator: epochs, fencing, retries, timeouts, recovery."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.shard import CoordinatorRecord, Decision, Instant, Producer
from streamkit.broker.coordination.transaction.coordinator import (
    LAST_EPOCH,
    EndCall,
    InitCall,
    NeedsProducerIdError,
    PartitionsCall,
    SendMarkers,
    TransactionCoordinator,
    codes_of,
)
from streamkit.broker.coordination.transaction.records import (
    Status,
    Transaction,
    parse,
    transaction_record,
)
from streamkit.protocol.error_codes import ErrorCode

CONFIG = BrokerConfig()
TIMEOUT_MS = 1_000
NOBODY = Producer(-1, -1)


class Shard:
    """A shard whose decisions are committed at once; `sent` are the markers on their way."""

    def __init__(self) -> None:
        self.coordinator = TransactionCoordinator(CONFIG)
        self.now_ms = 1_000_000
        self.next_id = 100
        self.log: list[CoordinatorRecord] = []
        self.sent: list[SendMarkers] = []

    def settle(self, decision: Decision) -> Any:
        for record in decision.records:
            self.coordinator.replay(*record)
        self.log += decision.records
        for command in decision.commands:
            assert isinstance(command, SendMarkers)
            self.sent.append(command)
        return decision.replies[0][1] if decision.replies else None

    def decision(self) -> Decision:
        return Decision(Instant(self.now_ms, self.now_ms))

    def init(self, expected: Producer | None = None, timeout_ms: int = TIMEOUT_MS) -> tuple[int, Producer]:
        call = InitCall("tx", timeout_ms, expected)
        decision = self.decision()
        try:
            self.coordinator.init(call, "token", decision)
        except NeedsProducerIdError:
            assert not decision.records and not decision.commands, "nothing is done without the id"
            self.next_id += 1
            decision = self.decision()
            self.coordinator.init(call._replace(fresh_id=self.next_id), "token", decision)
        answer = self.settle(decision)
        return answer.error_code, Producer(answer.producer_id, answer.producer_epoch)

    def add(self, producer: Producer, partition: int = 0, version: int = 0) -> int:
        call = PartitionsCall("tx", producer, [("t", partition)], version)
        decision = self.decision()
        self.coordinator.add_partitions(call, "token", decision)
        return codes_of(self.settle(decision))["t", partition]

    def verify(self, producer: Producer, partition: int = 0) -> int:
        decision = self.decision()
        call = PartitionsCall("tx", producer, [("t", partition)])
        self.coordinator.verify_partitions(call, "token", decision)
        return codes_of(self.settle(decision))["t", partition]

    def end(self, producer: Producer, *, committed: bool = True, version: int = 0) -> tuple[int, Producer]:
        call = EndCall("tx", producer, committed, version)
        decision = self.decision()
        try:
            self.coordinator.end(call, "token", decision)
        except NeedsProducerIdError:
            self.next_id += 1
            decision = self.decision()
            self.coordinator.end(call._replace(fresh_id=self.next_id), "token", decision)
        answer = self.settle(decision)
        return answer.error_code, Producer(answer.producer_id, answer.producer_epoch)

    def write_markers(self) -> None:
        for one in self.sent:
            decision = self.decision()
            self.coordinator.markers_written(one.transactional_id, one.producer, decision)
            self.settle(decision)
        self.sent = []

    def pass_ms(self, ms: int) -> None:
        self.now_ms += ms
        while (decision := self.coordinator.tick(Instant(self.now_ms, self.now_ms))) is not None:
            self.settle(decision)

    def restart(self) -> None:
        self.coordinator = TransactionCoordinator(CONFIG)
        for record in self.log:
            self.coordinator.replay(*record)
        self.sent = []
        decision = self.decision()
        self.coordinator.loaded(decision)
        self.settle(decision)

    @property
    def state(self) -> Transaction:
        return self.coordinator.transactions["tx"]


def test_trap_22_timeouts_have_a_bound() -> None:
    shard = Shard()
    code, _ = shard.init(timeout_ms=CONFIG.transaction_max_timeout_ms + 1)
    assert code == ErrorCode.INVALID_TRANSACTION_TIMEOUT


def test_every_init_bumps_the_epoch_and_fences_who_came_before() -> None:
    shard = Shard()
    _, first = shard.init()
    _, second = shard.init()
    assert second == Producer(first.producer_id, 1)
    assert shard.add(first) == ErrorCode.PRODUCER_FENCED
    assert shard.end(first)[0] == ErrorCode.PRODUCER_FENCED
    assert shard.add(Producer(7, 0)) == ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_trap_22_an_open_transaction_is_aborted_first() -> None:
    shard = Shard()
    _, zombie = shard.init()
    shard.add(zombie)
    assert shard.init()[0] == ErrorCode.CONCURRENT_TRANSACTIONS
    assert shard.state.status is Status.PREPARE_ABORT
    assert shard.init()[0] == ErrorCode.CONCURRENT_TRANSACTIONS
    shard.write_markers()
    assert shard.init() == (0, Producer(zombie.producer_id, 2))
    assert shard.end(zombie)[0] == ErrorCode.PRODUCER_FENCED


def test_a_commit_is_decided_once_and_answered_again() -> None:
    shard = Shard()
    _, producer = shard.init()
    assert shard.end(producer)[0] == ErrorCode.INVALID_TXN_STATE, "nothing to end"
    assert (shard.add(producer, 0), shard.add(producer, 1)) == (0, 0)
    assert shard.end(producer)[0] == 0
    assert shard.sent[0].partitions == (("t", 0), ("t", 1)) and shard.sent[0].committed
    assert shard.end(producer)[0] == ErrorCode.CONCURRENT_TRANSACTIONS
    assert shard.end(producer, committed=False)[0] == ErrorCode.INVALID_TXN_STATE
    assert shard.add(producer) == ErrorCode.CONCURRENT_TRANSACTIONS
    shard.write_markers()
    assert shard.state.status is Status.COMPLETE_COMMIT and not shard.state.partitions
    assert shard.end(producer)[0] == 0
    assert shard.add(producer) == 0


def test_a_decided_transaction_is_finished_after_a_crash() -> None:
    shard = Shard()
    _, producer = shard.init()
    shard.add(producer)
    shard.end(producer)
    shard.restart()
    assert [(one.producer, one.committed) for one in shard.sent] == [(producer, True)]
    shard.write_markers()
    assert shard.state.status is Status.COMPLETE_COMMIT


@pytest.mark.parametrize("restarts", [False, True])
def test_g6_a_transaction_is_aborted_when_its_time_is_over(restarts: bool) -> None:
    shard = Shard()
    _, producer = shard.init()
    shard.add(producer)
    shard.pass_ms(TIMEOUT_MS - 1)
    assert shard.state.status is Status.ONGOING
    if restarts:
        shard.restart()
    shard.pass_ms(1)
    assert shard.state.status is Status.PREPARE_ABORT
    assert shard.sent[0].producer == Producer(producer.producer_id, 1), "the marker fences"
    shard.write_markers()
    assert shard.end(producer)[0] == ErrorCode.PRODUCER_FENCED


def test_kip_360_a_producer_goes_on_from_its_own_epoch_and_nobody_elses() -> None:
    shard = Shard()
    _, producer = shard.init()
    code, resumed = shard.init(expected=producer)
    assert (code, resumed.epoch) == (0, 1)
    assert shard.init(expected=producer) == (0, resumed), "a retry is answered alike"
    _, other = shard.init()
    assert shard.init(expected=resumed)[0] == ErrorCode.PRODUCER_FENCED
    assert shard.init(expected=Producer(7, other.epoch))[0] == ErrorCode.PRODUCER_FENCED


def test_g5_a_stale_producer_does_not_abort_its_successors_transaction_by_resuming() -> None:
    shard = Shard()
    _, zombie = shard.init()
    _, producer = shard.init()
    shard.add(producer)
    assert shard.init(expected=zombie)[0] == ErrorCode.PRODUCER_FENCED
    assert shard.state.status is Status.ONGOING


def test_kip_890_each_end_bumps_the_epoch_and_a_retry_is_known() -> None:
    shard = Shard()
    _, producer = shard.init()
    shard.add(producer, version=2)
    code, bumped = shard.end(producer, version=2)
    assert (code, bumped.epoch) == (0, 1)
    assert shard.sent[0].producer == bumped
    assert shard.end(producer, version=2)[0] == ErrorCode.CONCURRENT_TRANSACTIONS
    shard.write_markers()
    assert shard.end(producer, version=2) == (0, bumped)
    assert shard.end(producer, committed=False, version=2)[0] == ErrorCode.INVALID_TXN_STATE
    assert shard.end(bumped, version=2)[0] == ErrorCode.INVALID_TXN_STATE, "there is nothing to commit"
    assert shard.add(producer, version=2) == ErrorCode.PRODUCER_FENCED


def test_kip_890_an_abort_without_partitions_bumps_too() -> None:
    shard = Shard()
    _, producer = shard.init()
    code, bumped = shard.end(producer, committed=False, version=2)
    assert (code, bumped.epoch, shard.sent[0].partitions) == (0, 1, ())


def test_an_exhausted_epoch_is_followed_by_a_new_id() -> None:
    shard = Shard()
    _, producer = shard.init()
    worn = transaction_record(
        "tx", Transaction(producer_id=producer.producer_id, epoch=LAST_EPOCH, timeout_ms=TIMEOUT_MS)
    )
    shard.coordinator.replay(*worn)
    last = Producer(producer.producer_id, LAST_EPOCH)
    shard.add(last, version=2)
    code, fresh = shard.end(last, version=2)
    assert (code, fresh.epoch) == (0, 0) and fresh.producer_id != last.producer_id
    assert shard.sent[0].producer == Producer(last.producer_id, LAST_EPOCH + 1)
    shard.write_markers()
    assert shard.state.producer == fresh
    assert shard.end(last, version=2) == (0, fresh), "a retry is known by the id before"
    shard.coordinator.replay(*worn)
    code, other = shard.init(expected=last)
    assert (code, other.epoch) == (0, 0) and other.producer_id not in (last.producer_id, fresh.producer_id)


def test_kip_890_only_partitions_of_the_open_transaction_are_verified() -> None:
    shard = Shard()
    _, producer = shard.init()
    shard.add(producer, 0)
    assert (shard.verify(producer, 0), shard.verify(producer, 1)) == (0, ErrorCode.TRANSACTION_ABORTABLE)
    shard.end(producer)
    assert shard.verify(producer, 0) == ErrorCode.CONCURRENT_TRANSACTIONS
    shard.write_markers()
    assert shard.verify(producer, 0) == ErrorCode.TRANSACTION_ABORTABLE


def test_an_unused_transactional_id_is_forgotten_and_an_open_one_is_not() -> None:
    shard = Shard()
    _, producer = shard.init(timeout_ms=CONFIG.transaction_max_timeout_ms)
    shard.restart()
    shard.pass_ms(CONFIG.transactional_id_expiration_ms + 1)
    assert not shard.coordinator.transactions
    assert shard.add(producer) == ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_records_are_read_as_they_were_written() -> None:
    transaction = Transaction(
        producer_id=5, epoch=3, timeout_ms=9, status=Status.PREPARE_COMMIT, previous_producer_id=4,
        next_producer_id=6, partitions=(("a", 1), ("a", 2), ("b", 0)), started_ms=7, updated_ms=8,
        client_version=2,
    )  # fmt: skip
    change = parse(*transaction_record("tx", transaction))
    assert change is not None and change == ("tx", transaction)


class AnyHistory(RuleBasedStateMachine):
    """Producers come, write, end and retry, time passes and the coordinator crashes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.shard = Shard()
        self.producers: list[Producer] = []
        self.decided: Status | None = None
        self.highest: dict[int, int] = {}

    @rule(resume=st.booleans(), who=st.integers(0, 5))
    def init(self, resume: bool, who: int) -> None:
        expected = self.producers[who % len(self.producers)] if resume and self.producers else None
        code, producer = self.shard.init(expected)
        if not code:
            self.producers.append(producer)

    @rule(who=st.integers(0, 5), partition=st.integers(0, 2), version=st.sampled_from([0, 2]))
    def add(self, who: int, partition: int, version: int) -> None:
        if self.producers:
            producer = self.producers[-1 - who % len(self.producers)]
            code = self.shard.add(producer, partition, version)
            assert (code == 0) <= (producer == self.shard.state.producer), "a stale producer opened one"

    @rule(who=st.integers(0, 5), committed=st.booleans(), version=st.sampled_from([0, 2]))
    def end(self, who: int, committed: bool, version: int) -> None:
        if self.producers:
            producer = self.producers[-1 - who % len(self.producers)]
            before = self.shard.state
            code, after = self.shard.end(producer, committed=committed, version=version)
            if self.shard.state != before:
                assert producer == before.producer, "a stale producer ended one"
            if not code and version == 2:
                self.producers.append(after)

    @rule()
    def write_markers(self) -> None:
        self.shard.write_markers()

    @rule()
    def crash(self) -> None:
        before = dict(self.shard.coordinator.transactions)
        self.shard.restart()
        assert self.shard.coordinator.transactions == before

    @rule(ms=st.integers(1, 2 * TIMEOUT_MS))
    def pass_time(self, ms: int) -> None:
        self.shard.pass_ms(ms)

    @invariant()
    def what_is_decided_stays_and_epochs_never_go_back(self) -> None:
        known = self.shard.coordinator.transactions.get("tx")
        if known is not None:
            if self.decided is not None:
                complete = {
                    Status.PREPARE_COMMIT: Status.COMPLETE_COMMIT,
                    Status.PREPARE_ABORT: Status.COMPLETE_ABORT,
                }
                assert known.status in (self.decided, complete[self.decided])
            self.decided = known.status if known.status.is_prepared else None
            assert known.epoch >= self.highest.get(known.producer_id, 0)
            self.highest[known.producer_id] = known.epoch
            assert not known.status.is_prepared or self.shard.sent, "somebody has to finish it"
            assert not known.partitions or known.status is Status.ONGOING or known.status.is_prepared


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase
