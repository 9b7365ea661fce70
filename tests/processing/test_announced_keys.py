"""What a store is told to read ahead: the keys of records that can have one."""

from __future__ import annotations

from streamkit.processing.serde import JSON_KEY
from streamkit.processing.state.cache import with_keys
from streamkit.processing.testing import StoredRecord


def test_records_whose_keys_are_none_are_passed_over() -> None:
    keys = [b'"ann"', None, b"{", b'{"name": "bob"}', b"7"]
    records = [StoredRecord(("in", 0, offset), (key, b""), 0) for offset, key in enumerate(keys)]
    found = [(key, record.offset()) for key, record in with_keys(records, JSON_KEY.decode)]
    assert found == [("ann", 0), (7, 4)]
