"""Gathering the newest record of each key, with and without a shape to go by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.protocol.records import newest as room
from streamkit.protocol.records.batch import HEADER_SIZE, CorruptBatchError, parse_header
from streamkit.protocol.records.newest import NewestRecords
from streamkit.protocol.records.record import Record, decode_records, encode_batch

Batches = list[bytes]

# Few keys of few lengths, so that shapes come again, and come again wrongly.
records_strategy = st.lists(
    st.builds(
        Record,
        timestamp=st.sampled_from([5, 6, 5_000_000]),
        key=st.sampled_from([None, b"a", b"b", b"cc", b"k" * 70]),
        value=st.sampled_from([None, b"", b"x", b"y", b"zz", b"v" * 70, b"w" * 70]),
        headers=st.sampled_from([(), (("h", b"1"),), (("h", b"2"),)]),
    ),
    min_size=1,
    max_size=4,
)


def gathered(batches: Batches) -> list[tuple[bytes, tuple[int, bytes | None]]]:
    records = NewestRecords()
    for batch in batches:
        records.take(parse_header(batch), batch[HEADER_SIZE:])
    return list(records.drain().items())


def expected(batches: Batches) -> list[tuple[bytes, tuple[int, bytes | None]]]:
    found: dict[bytes, tuple[int, bytes | None]] = {}
    for record in (record for batch in batches for record in decode_records(batch)):
        if record.key is not None:
            found.pop(record.key, None)
            found[record.key] = record.offset, record.value
    return list(found.items())


@given(st.lists(records_strategy, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=30))
def test_only_the_newest_of_each_key_is_kept(sections: list[list[Record]], order: list[int]) -> None:
    batches, end = [], 0
    for number in order:
        section = sections[number % len(sections)]
        batches.append(encode_batch(section, base_offset=end))
        end += len(section)
    assert gathered(batches) == expected(batches)


def commit(offset: int, *, places: int = 3) -> bytes:
    records = [Record(timestamp=9, key=b"place-%d" % i, value=b"%08d" % offset) for i in range(places)]
    return encode_batch(records, base_offset=offset * places)


def test_batches_of_one_shape_are_walked_through_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []

    def gather(header, data, newest):  # type: ignore[no-untyped-def]
        walked.append(header.base_offset)
        return real(header, data, newest)

    real = room.gather_newest
    monkeypatch.setattr(room, "gather_newest", gather)
    batches = [commit(offset) for offset in range(10)]
    assert gathered(batches) == expected(batches)
    assert walked == [0, 3]


def test_a_known_length_makes_no_damage_pass() -> None:
    records = NewestRecords()
    for offset in range(3):
        records.take(parse_header(commit(offset)), commit(offset)[HEADER_SIZE:])
    damaged = bytearray(commit(3)[HEADER_SIZE:])
    damaged[0] ^= 0x40  # the first record claims another length
    with pytest.raises(CorruptBatchError):
        records.take(parse_header(commit(3)), bytes(damaged))


def test_as_many_shapes_as_there_are_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_SHAPES", 2)
    batches = [commit(offset, places=1 + offset % 5) for offset in range(30)]
    assert gathered(batches) == expected(batches)
