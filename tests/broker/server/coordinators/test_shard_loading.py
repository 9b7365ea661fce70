"""What a shard is told of its partition when it is loaded, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.broker.config import BrokerConfig
from streamkit.broker.coordination.group.coordinator import GroupCoordinator
from streamkit.broker.coordination.group.records import OffsetCommitValue, offset_record, offset_tombstone
from streamkit.broker.coordination.shard import Producer, TransactionEnd
from streamkit.broker.server.coordinators.hosted_shard import encoded_marker
from streamkit.broker.server.coordinators.shard_loading import ShardLoading
from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from tests.broker.coordination.group.harness import FakeCluster

UNREADABLE = b"unreadable"


class Told:
    """A shard that only notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def replay(self, key: bytes, value: bytes | None) -> None:
        if key == UNREADABLE:
            raise MalformedMessageError("nobody knows what it says")
        self.told.append((key, value))

    def replay_in_transaction(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        self.told.append((producer_id, key, value))

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        self.told.append((producer_id, committed))


class Partition:
    """Batches in a row."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self._end = 0

    def write(self, *records: tuple[bytes | None, bytes | None], producer_id: int = -1) -> None:
        made = [Record(timestamp=1, key=key, value=value) for key, value in records]
        producer = {} if producer_id < 0 else {"producer_id": producer_id, "producer_epoch": 0}
        batch = encode_batch(made, base_offset=self._end, transactional=bool(producer), **producer)
        self.batches.append(batch)
        self._end += len(made)

    def end(self, producer_id: int, *, committed: bool) -> None:
        end = TransactionEnd(Producer(producer_id, 0), committed=committed, coordinator_epoch=0)
        self.batches.append(encoded_marker(end, 1))
        self._end += 1


def load(partition: Partition, *, is_compacted: bool = True) -> tuple[list[object], list[int]]:
    """What the shard was told, and the offsets that it was told were stored."""
    stored: list[int] = []
    shard = Told()
    loading = ShardLoading(
        shard,  # type: ignore[type-var]
        name="p", is_compacted=is_compacted, stored=lambda _, record, offset: stored.append(offset),
    )  # fmt: skip
    for _ in steps(loading, partition):
        pass
    return shard.told, stored


def steps(loading: ShardLoading[GroupCoordinator], partition: Partition) -> Iterator[None]:
    for batch in partition.batches:
        yield from loading.take(batch)
    yield from loading.rest()


def test_the_newest_of_each_key_in_the_order_in_which_they_were_written() -> None:
    partition = Partition()
    partition.write((b"a", b"1"), (b"b", b"1"), (b"a", b"2"))
    partition.write((b"c", b"1"), (None, b"x"), (b"b", None))
    assert load(partition) == ([(b"a", b"2"), (b"c", b"1"), (b"b", None)], [2, 3, 5])


def test_of_a_log_that_is_not_compacted_every_record_counts() -> None:
    partition = Partition()
    partition.write((b"a", b"1"), (b"a", b"2"))
    partition.write((b"a", b"3"))
    assert load(partition, is_compacted=False) == ([(b"a", b"1"), (b"a", b"2"), (b"a", b"3")], [0, 1, 2])


def test_what_a_transaction_wrote_keeps_its_place() -> None:
    partition = Partition()
    partition.write((b"a", b"1"))
    partition.write((b"a", b"2"), producer_id=7)
    partition.write((b"a", b"3"), (b"a", b"4"))
    partition.end(7, committed=True)
    partition.write((b"a", b"5"))
    told, _ = load(partition)
    assert told == [(b"a", b"1"), (7, b"a", b"2"), (b"a", b"4"), (7, True), (b"a", b"5")]


def test_an_unreadable_record_is_passed_over() -> None:
    partition = Partition()
    partition.write((UNREADABLE, b"1"), (b"a", b"1"))
    assert load(partition) == ([(b"a", b"1")], [1])


PLACES = st.integers(0, 2)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), PLACES, st.sampled_from([-1, -1, 7, 8])),
        st.tuples(st.just("delete"), PLACES, st.just(-1)),
        st.tuples(st.sampled_from(["end", "abort"]), st.just(0), st.sampled_from([7, 8])),
    ),
    max_size=25,
)


@given(EVENTS)
def test_a_load_leads_to_what_every_record_in_turn_would(events: list[tuple[str, int, int]]) -> None:
    partition = Partition()
    for offset, (what, place, producer_id) in enumerate(events):
        if what == "commit":
            value = OffsetCommitValue(offset=offset)
            partition.write(offset_record("g", "t", place, value), producer_id=producer_id)
        elif what == "delete":
            partition.write(offset_tombstone("g", "t", place))
        else:
            partition.end(producer_id, committed=what == "end")
    assert offsets(partition, is_compacted=True) == offsets(partition, is_compacted=False)


def offsets(partition: Partition, *, is_compacted: bool) -> object:
    """Committed offsets, those that still hang on a transaction, and the groups there are."""
    config = BrokerConfig.from_properties({})
    shard = GroupCoordinator(config, FakeCluster(config))
    loading = ShardLoading(shard, name="p", is_compacted=is_compacted, stored=lambda *_: None)
    for _ in steps(loading, partition):
        pass
    pending = sorted(shard.transactional.places_of("g"))
    return dict(shard.offsets.of("g")), pending, list(shard.groups)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 200])
def test_keys_and_values_of_any_length(length: int) -> None:
    partition = Partition()
    partition.write((b"k" * length, b"v" * length), (b"x", None), (b"y" * 100, b""))
    assert load(partition)[0] == [
        (record.key, record.value) for record in decode_records(partition.batches[0])
    ]
