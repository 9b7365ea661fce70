"""What compaction keeps of batches, as a table and against a model; which part of a log it may touch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.broker.log.cleanable import CleanableLog, SegmentView, cleanable, merged
from streamkit.broker.log.compaction import (
    ENTRY_BYTES,
    AbortedRanges,
    Compaction,
    CompactionRules,
    NewestRecords,
    Work,
)
from streamkit.broker.log.producers import ProducerEntry, RememberedBatch
from streamkit.broker.log.segment import Segment
from streamkit.broker.log.transactions import AbortedTransaction
from streamkit.broker.topic_config import TopicConfig
from streamkit.protocol.records.batch import check_batch
from streamkit.protocol.records.compression import Codec
from streamkit.protocol.records.control import TransactionMarker, marker_record
from streamkit.protocol.records.record import Record, decode_records, encode_batch

NOW = 1_700_000_000_000
DAY = 86_400_000
BUFFER = 1 << 20


def finish(work: Work):  # type: ignore[type-arg,no-untyped-def]
    try:
        while True:
            next(work)
    except StopIteration as stop:
        return stop.value


def data(offset: int, *pairs: tuple[bytes | None, bytes | None], **fields: object) -> bytes:
    records = [Record(timestamp=NOW + i, key=key, value=value) for i, (key, value) in enumerate(pairs)]
    return encode_batch(records, base_offset=offset, **fields)  # type: ignore[arg-type]


def marker(offset: int, producer_id: int, *, committed: bool, epoch: int = 0) -> bytes:
    key, value = marker_record(TransactionMarker(committed=committed, coordinator_epoch=1))
    return encode_batch(
        [Record(timestamp=NOW, key=key, value=value)], base_offset=offset, producer_id=producer_id,
        producer_epoch=epoch, transactional=True, control=True,
    )  # fmt: skip


def compact(batches: Sequence[bytes], **options: object) -> list[bytes]:
    return compact_prefix(batches, **options)[0]  # type: ignore[arg-type]


def compact_prefix(
    batches: Sequence[bytes], *, dirty_start: int = 0, aborted: Iterable[AbortedTransaction] = (),
    producers: dict[int, ProducerEntry] | None = None, now_ms: int = NOW, buffer_bytes: int = BUFFER,
) -> tuple[list[bytes], int]:  # fmt: skip
    """What is kept, and where the next cleaning begins."""
    ranges = AbortedRanges(aborted)
    newest = NewestRecords(dirty_start, buffer_bytes)
    for batch in batches:
        header = check_batch(batch)
        if header.last_offset < dirty_start:
            continue
        if not newest.has_room(header):
            break
        if header.is_control or ranges.holds(header):
            newest.skip(header)
        else:
            finish(newest.note(header, batch))
    rules = CompactionRules(now_ms=now_ms, delete_retention_ms=DAY)
    compaction = Compaction(newest, ranges, producers or {}, rules)
    kept = [finish(compaction.keep(check_batch(batch), batch, is_last=False)) for batch in batches]
    return [bytes(batch) for batch in kept if batch is not None], newest.end_offset


def records(batches: Iterable[bytes]) -> list[tuple[int, bytes | None, bytes | None]]:
    return [
        (r.offset, r.key, r.value)
        for batch in batches
        if not check_batch(batch).is_control
        for r in decode_records(batch)
    ]


@pytest.mark.parametrize("codec", list(Codec))
def test_the_newest_record_of_each_key_is_kept_where_it_was(codec: Codec) -> None:
    old = data(0, (b"a", b"1"), (b"b", b"1"), (b"c", b"1"), codec=codec)
    kept = compact([old, data(3, (b"a", b"2"), (b"c", b"2"), codec=codec)])
    assert records(kept) == [(1, b"b", b"1"), (3, b"a", b"2"), (4, b"c", b"2")]
    header = check_batch(kept[0])
    assert (header.base_offset, header.last_offset, header.count, header.codec) == (0, 2, 1, codec)
    assert decode_records(kept[0])[0].timestamp == NOW + 1 == header.max_timestamp


def test_a_batch_that_is_kept_whole_is_the_same_bytes() -> None:
    batch = data(7, (b"a", b"1"), (b"b", b"2"))
    assert compact([batch]) == [batch]


def test_a_record_without_a_key_is_dropped() -> None:
    assert records(compact([data(0, (None, b"lost"), (b"a", b"1"))])) == [(1, b"a", b"1")]


def test_records_of_the_clean_part_go_when_the_dirty_part_has_their_key() -> None:
    clean = data(0, (b"a", b"1"), (b"b", b"1"))
    assert records(compact([clean, data(2, (b"a", b"2"))], dirty_start=2)) == [
        (1, b"b", b"1"), (2, b"a", b"2"),
    ]  # fmt: skip


@pytest.mark.parametrize("long", [33, 200])
def test_long_keys_are_told_apart(long: int) -> None:
    first, second = b"x" * long, b"x" * (long - 1) + b"y"
    kept = compact([data(0, (first, b"1"), (second, b"1")), data(2, (first, b"2"))])
    assert [(key, value) for _, key, value in records(kept)] == [(second, b"1"), (first, b"2")]


# -- tombstones


def test_a_tombstone_gets_its_horizon_with_the_first_cleaning_that_sees_it() -> None:
    (kept,) = compact([data(0, (b"a", b"1"), (b"b", b"1"), (b"a", None))])
    header = check_batch(kept)
    assert header.has_delete_horizon and header.base_timestamp == NOW + DAY
    assert [(r.offset, r.timestamp, r.value) for r in decode_records(kept)] == [
        (1, NOW + 1, b"1"), (2, NOW + 2, None),
    ]  # fmt: skip
    assert header.max_timestamp == NOW + 2


def test_a_tombstone_goes_once_its_horizon_is_past_and_not_before() -> None:
    first = compact([data(0, (b"a", None), (b"b", b"1"))])
    later = [*first, data(2, (b"z", b"1"))]
    assert compact(later, dirty_start=2, now_ms=NOW + DAY - 1) == later
    gone = compact(later, dirty_start=2, now_ms=NOW + DAY)
    assert records(gone) == [(1, b"b", b"1"), (2, b"z", b"1")]
    assert check_batch(gone[0]).base_timestamp == NOW + DAY
    assert decode_records(gone[0])[0].timestamp == NOW + 1


# -- producers and transactions


def test_the_sequences_that_a_retry_may_repeat_survive_their_records() -> None:
    first = data(0, (b"a", b"1"), producer_id=5, producer_epoch=2, base_sequence=7)
    entry = ProducerEntry(2, (RememberedBatch(7, 0, 0, NOW),), NOW)
    kept = compact([first, data(1, (b"a", b"2"))], producers={5: entry})
    header = check_batch(kept[0])
    assert (header.count, header.last_offset, header.last_sequence, header.producer_epoch) == (0, 0, 7, 2)
    assert header.newest_timestamp == -1 and header.max_timestamp == NOW
    assert compact([*kept, data(2, (b"z", b"1"))], dirty_start=2)[0] == kept[1], "forgotten with its producer"


def test_what_was_aborted_goes_and_its_marker_stays_for_a_while() -> None:
    log = [
        data(0, (b"a", b"1")),
        data(1, (b"a", b"aborted"), producer_id=5, producer_epoch=0, base_sequence=0, transactional=True),
        marker(2, 5, committed=False),
        data(3, (b"b", b"1")),
    ]
    row = AbortedTransaction(5, 1, 2, 3)
    once = compact(log, aborted=[row])
    assert records(once) == [(0, b"a", b"1"), (3, b"b", b"1")]
    assert once[1] == log[2], "its transaction still had data"
    twice = compact(once, dirty_start=4, now_ms=NOW + 1)
    assert check_batch(twice[1]).has_delete_horizon, "now it has none"
    assert decode_records(twice[1])[0].timestamp == NOW
    assert len(compact(twice, dirty_start=4, now_ms=NOW + DAY)) == 3
    assert len(compact(twice, dirty_start=4, now_ms=NOW + DAY + 1)) == 2


def test_a_marker_stays_while_its_transaction_has_data() -> None:
    log = [
        data(0, (b"a", b"1"), producer_id=5, producer_epoch=0, base_sequence=0, transactional=True),
        marker(1, 5, committed=True),
    ]
    assert compact(compact(log), dirty_start=2, now_ms=NOW + 9 * DAY) == log


def test_a_marker_stays_that_is_all_there_is_of_its_producer() -> None:
    log = [marker(0, 5, committed=True, epoch=3)]
    fenced = {5: ProducerEntry(3, (), NOW)}
    assert compact(log, producers=fenced, now_ms=NOW + 9 * DAY) == log


# -- bounded memory


def test_a_prefix_is_cleaned_if_the_keys_do_not_fit() -> None:
    log = [data(i, (b"k%d" % (i % 4), b"v%d" % i)) for i in range(12)]
    kept = compact(log, buffer_bytes=6 * ENTRY_BYTES)
    assert [offset for offset, _, _ in records(kept)] == [*range(12)][-len(kept) :]
    assert 4 <= len(kept) < 12
    assert len(compact(kept)) == 4


# -- a model


OPERATIONS = st.lists(
    st.lists(
        st.tuples(st.sampled_from([None, b"a", b"b", b"c", b"d" * 40]), st.sampled_from([None, b"1", b"22"])),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=12,
)


def final(batches: Iterable[bytes]) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = {}
    for _, key, value in records(batches):
        if key is not None and value is not None:
            state[key] = value
        elif key is not None:
            state.pop(key, None)
    return state


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, min_size=1, max_size=4), st.integers(1, 3), st.lists(st.integers(0, 2 * DAY)))
def test_whoever_reads_a_compacted_log_ends_with_the_same_map(
    rounds: list[list[list[tuple[bytes | None, bytes | None]]]], entries: int, waits: list[int]
) -> None:
    whole: list[bytes] = []
    log: list[bytes] = []
    offset, now, dirty_start = 0, NOW, 0
    for number, batches in enumerate(rounds):
        for pairs in batches:
            codec = Codec(offset % len(Codec))
            whole.append(data(offset, *pairs, codec=codec))
            log.append(whole[-1])
            offset += len(pairs)
        now += waits[number] if number < len(waits) else DAY
        before = [r for r in log if check_batch(r).has_delete_horizon and check_batch(r).base_timestamp > now]
        after, dirty_start = compact_prefix(
            log, dirty_start=dirty_start, now_ms=now, buffer_bytes=entries * 8 * ENTRY_BYTES
        )
        assert final(after) == final(whole)
        offsets = [offset for offset, _, _ in records(after)]
        assert offsets == sorted(set(offsets))
        newest = {key: offset for offset, key, _ in records(log)}
        for waiting, key, value in records(before):
            if value is None and key is not None and newest[key] == waiting:
                assert (waiting, key, None) in records(after), "a tombstone went before its horizon"
        log = after


# -- what may be cleaned


def view(base: int, end: int, *, size: int = 100, first: int = NOW, newest: int = NOW) -> SegmentView:
    return SegmentView(
        base_offset=base, end_offset=end, size=size, first_timestamp=first, newest_timestamp=newest
    )


COMPACTED = TopicConfig(cleanup_policy=("compact",))


def choose(*segments: SegmentView, config: TopicConfig = COMPACTED, **at: int) -> CleanableLog:
    facts = {"dirty_start": 0, "stable_offset": 1000, "now_ms": NOW} | at
    return cleanable(segments, config=config, **facts)


def test_only_what_is_stable_is_cleaned() -> None:
    part = choose(view(0, 10), view(10, 20), view(20, 30), stable_offset=29)
    assert (part.segments, part.end_offset, part.dirty_bytes) == (2, 20, 200)


def test_the_ratio_is_that_of_what_was_never_cleaned() -> None:
    part = choose(view(0, 10), view(10, 20), view(20, 30), view(30, 40), dirty_start=30)
    assert (part.clean_bytes, part.dirty_bytes, part.dirty_ratio) == (300, 100, 0.25)
    assert not part.is_worth_it(0.25) and part.is_worth_it(0.2)
    assert not choose(view(0, 10), dirty_start=10).is_worth_it(0)


def test_a_record_stays_as_it_was_for_the_lag() -> None:
    lagging = replace(COMPACTED, min_compaction_lag_ms=1000)
    segments = view(0, 10, newest=NOW - 1000), view(10, 20, newest=NOW - 999), view(20, 30, newest=NOW - 2000)
    assert choose(*segments, config=lagging).segments == 1


def test_what_waited_for_too_long_is_cleaned_however_little_it_is() -> None:
    hurried = replace(COMPACTED, max_compaction_lag_ms=1000)
    segments = view(0, 10, size=10_000), view(10, 20, size=1, first=NOW - 1001)
    assert choose(*segments, config=hurried, dirty_start=10).is_worth_it(0.5)
    assert not choose(*segments, config=hurried, dirty_start=10, now_ms=NOW - 1).is_worth_it(0.5)


def test_small_neighbours_become_one_segment() -> None:
    segments = [Segment(base, NOW, size=400) for base in (0, 10, 20, 30)]
    groups = merged(segments, 40, replace(COMPACTED, segment_bytes=1024))
    assert [[s.base_offset for s in group] for group in groups] == [[0, 10], [20, 30]]
    far = [Segment(0, NOW, size=1), Segment(10, NOW, size=1)]
    assert len(merged(far, 1 << 31, COMPACTED)) == 1
    assert len(merged(far, (1 << 31) + 1, COMPACTED)) == 2
