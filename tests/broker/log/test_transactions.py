"""What a log makes of transactional batches and markers: judged, remembered, and shown to readers."""

from __future__ import annotations

from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.log.append import AppendPlan, Origin, plan_append
from streamkit.broker.log.producers import ProducerEntry, decode_snapshot, encode_snapshot
from streamkit.broker.log.transactions import (
    AbortedTransaction,
    LogTransactions,
    Verification,
    decode_index,
    encode_index,
    overlapping,
)
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.control import ControlType, TransactionMarker, encode_key, encode_marker_value
from streamkit.protocol.records.record import Record, encode_batch
from tests.broker.storage.support import NOW_MS, batch


def transactional(sequence: int, *, producer_id: int = 5, epoch: int = 0, count: int = 1) -> bytearray:
    return batch(
        *[b"v"] * count,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=True,
    )


def marker(*, committed: bool, producer_id: int = 5, epoch: int = 0, coordinator_epoch: int = 0) -> bytearray:
    kind = ControlType.COMMIT if committed else ControlType.ABORT
    end = TransactionMarker(committed=committed, coordinator_epoch=coordinator_epoch)
    record = Record(timestamp=NOW_MS, key=encode_key(kind), value=encode_marker_value(end))
    fields = {"producer_id": producer_id, "producer_epoch": epoch}
    return bytearray(encode_batch([record], transactional=True, control=True, **fields))  # type: ignore[arg-type]


GRANTED = {5: Verification(0, 0, True)}


def plan(
    *batches: bytearray,
    producers: dict[int, ProducerEntry] | None = None,
    verifications: dict[int, Verification] = GRANTED,
    origin: Origin = Origin.CLIENT,
) -> AppendPlan:
    return plan_append(
        batches, next_offset=100, leader_epoch=0, now_ms=NOW_MS, config=TopicConfig(),
        producers=producers or {}, origin=origin, verifications=verifications,
    )  # fmt: skip


def after(*batches: bytearray, origin: Origin = Origin.COORDINATOR) -> dict[int, ProducerEntry]:
    """What is remembered of producer 5 after these were appended from offset 100 on."""
    outcome = plan(*batches, origin=origin)
    assert all(not result.error for result in outcome.results), outcome.results
    return {one.producer_id: one.producer for one in outcome.accepted if one.producer}


def test_trap_25_a_write_outside_the_open_transaction_is_refused() -> None:
    open_one = after(transactional(0))
    plain = batch(b"v", producer_id=5, producer_epoch=0, base_sequence=1)
    assert plan(plain, producers=open_one).results[0].error is ErrorCode.INVALID_TXN_STATE
    (closed,) = [after(transactional(0), marker(committed=True))]
    assert not plan(plain, producers=closed).results[0].error


def test_kip_890_a_transaction_is_not_opened_unverified() -> None:
    first = transactional(0)
    assert plan(first, verifications={}).results[0].error is ErrorCode.INVALID_TXN_STATE
    asked = {5: Verification(0, 0)}
    assert plan(first, verifications=asked).results[0].error is ErrorCode.INVALID_TXN_STATE
    assert [r.error for r in plan(transactional(0), transactional(1)).results] == [0, 0]


def test_kip_890_a_marker_ends_what_was_verified_before_it() -> None:
    """Origins do not mix in a partition, but the plan must not depend on that."""
    late = transactional(1)
    state = after(transactional(0), marker(committed=False))
    assert plan(late, producers=state, verifications={}).results[0].error is ErrorCode.INVALID_TXN_STATE


def test_kip_890_of_several_first_batches_a_later_one_is_not_taken_for_the_first() -> None:
    outcome = plan(transactional(1), verifications={5: Verification(0, 0, True)})
    assert outcome.results[0].error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


@pytest.mark.parametrize(
    ("epoch", "coordinator_epoch", "error"),
    [
        (3, 7, ErrorCode.NONE),
        (4, 8, ErrorCode.NONE),
        (2, 7, ErrorCode.INVALID_PRODUCER_EPOCH),
        (3, 6, ErrorCode.TRANSACTION_COORDINATOR_FENCED),
    ],
)
def test_g5_markers_are_fenced_by_both_epochs(epoch: int, coordinator_epoch: int, error: ErrorCode) -> None:
    state = after(marker(committed=True, epoch=3, coordinator_epoch=7))
    late = marker(committed=True, epoch=epoch, coordinator_epoch=coordinator_epoch)
    assert plan(late, producers=state, origin=Origin.COORDINATOR).results[0].error is error


def test_kip_890_a_marker_with_a_higher_epoch_fences_and_restarts_the_sequence() -> None:
    state = after(transactional(0), transactional(1), marker(committed=True, epoch=1))
    granted = {5: Verification(1, 0, True)}
    stale = plan(transactional(2), producers=state)
    assert stale.results[0].error is ErrorCode.INVALID_PRODUCER_EPOCH
    assert not plan(transactional(0, epoch=1), producers=state, verifications=granted).results[0].error
    wrong = plan(transactional(2, epoch=1), producers=state, verifications={5: Verification(1, 2, True)})
    assert wrong.results[0].error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_the_sequence_goes_on_behind_a_marker_of_the_same_epoch() -> None:
    state = after(transactional(0, count=3), marker(committed=True))
    assert (
        not plan(transactional(3), producers=state, verifications={5: Verification(0, 3, True)})
        .results[0]
        .error
    )


def test_offsets_of_our_own_coordinator_have_no_sequence_and_are_never_duplicates() -> None:
    own = batch(b"v", producer_id=5, producer_epoch=0, transactional=True)
    outcome = plan(bytearray(own), bytearray(own), origin=Origin.COORDINATOR, verifications={})
    assert [(r.base_offset, r.duplicate) for r in outcome.results] == [(100, False), (101, False)]


def test_snapshots_keep_open_transactions_and_producers_of_which_only_a_marker_is_known() -> None:
    table = {**after(transactional(0)), 9: ProducerEntry(4, (), NOW_MS, 2)}
    assert table[5].transaction_start == 100
    assert decode_snapshot(encode_snapshot(table)) == table


def test_the_last_stable_offset_waits_for_the_oldest_open_transaction_and_for_its_marker() -> None:
    log = LogTransactions({7: ProducerEntry(0, (), 0, -1, 20), 5: ProducerEntry(0, (), 0, -1, 10)})
    assert log.last_stable_offset(30) == 10
    assert log.ended(5, 30, aborted=True) == AbortedTransaction(5, 10, 30, 20)
    assert log.last_stable_offset(30) == 10, "the marker is not committed"
    assert log.committed(31) and log.last_stable_offset(31) == 20
    assert log.ended(7, 31, aborted=False) is None
    assert log.committed(32) and log.last_stable_offset(40) == 40


def test_a_marker_makes_an_answer_that_was_asked_for_before_it_worthless() -> None:
    log = LogTransactions({})
    asked = log.verify(5, 0, 3)
    assert log.verify(5, 0, 1) is asked and asked.lowest_sequence == 1
    log.ended(5, 9, aborted=True)
    assert not log.grant(5, 0, asked)
    again = log.verify(5, 0, 3)
    assert log.grant(5, 0, again)
    log.refuse(5, asked)
    assert log.verifications == {5: again}
    log.refuse(5, again)
    assert not log.verifications


def test_the_index_is_kafkas() -> None:
    rows = [AbortedTransaction(5, 10, 30, 20), AbortedTransaction(7, 20, 31, 32)]
    data = encode_index(rows)
    assert unpack(">hqqqq", data[:34]) == (0, 5, 10, 30, 20)
    assert decode_index(data) == rows and decode_index(data[:-1]) == rows[:1]


steps = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["write", "commit", "abort"])), max_size=60)


@given(steps, st.integers(0, 60), st.integers(0, 60), st.integers(1, 7))
def test_g4_a_reader_is_told_of_every_aborted_transaction_below_the_last_stable_offset(
    history: list[tuple[int, str]], start: int, length: int, per_segment: int
) -> None:
    log = LogTransactions({})
    writes: dict[int, list[int]] = {}
    aborted_offsets: set[tuple[int, int]] = set()
    segments: list[list[AbortedTransaction]] = [[]]
    for offset, (producer_id, act) in enumerate(history):
        if offset and offset % per_segment == 0:
            segments.append([])
        if act == "write":
            writes.setdefault(producer_id, []).append(offset)
            log.opened(producer_id, ProducerEntry(0, (), 0, -1, writes[producer_id][0]))
            continue
        ended = writes.pop(producer_id, [])
        row = log.ended(producer_id, offset, aborted=act == "abort")
        if act == "abort":
            aborted_offsets |= {(producer_id, one) for one in ended}
        if row is not None:
            segments[-1].append(row)
    log.committed(len(history))
    stable = log.last_stable_offset(len(history))
    assert stable == min((ones[0] for ones in writes.values()), default=len(history))
    end = min(start + length, stable)
    told = list(overlapping(segments[start // per_segment :], start, end))
    for producer_id, offset in aborted_offsets:
        if start <= offset < end:
            assert any(
                t.producer_id == producer_id and t.first_offset <= offset < t.last_offset for t in told
            )
    assert all(t.first_offset < end and t.last_offset >= start for t in told)


def test_g5_a_marker_with_a_higher_epoch_ends_the_transaction_of_the_producer_that_it_fences() -> None:
    state = after(transactional(0))
    outcome = plan(marker(committed=False, epoch=1), producers=state, verifications={})
    assert not outcome.results[0].error
    assert outcome.accepted[0].producer == ProducerEntry(1, (), NOW_MS, 0)
