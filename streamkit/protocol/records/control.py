"""Control records: entries in a log that steer readers and are never shown to an application.

The key is two int16: version 0 and the type, exactly four bytes. A transaction marker's value is an int16
version and the coordinator's epoch. Source: the protocol guide, "Control Batches"; KIP-98.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

import msgspec

from streamkit.protocol.records.batch import CorruptBatchError

_KEY = Struct(">hh")
_MARKER_VALUE = Struct(">hi")


class ControlType(IntEnum):
    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


class TransactionMarker(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The end of one producer's transaction in one partition."""

    committed: bool
    coordinator_epoch: int


def encode_key(control_type: ControlType) -> bytes:
    return _KEY.pack(0, control_type)


def decode_key(key: bytes | None) -> ControlType | None:
    """The type, or None for one that we do not know; `CorruptBatchError` if it cannot be a control key."""
    if key is None or len(key) < _KEY.size:
        raise CorruptBatchError("the key of a control record is shorter than four bytes")
    version, number = _KEY.unpack_from(key)
    if version < 0:
        raise CorruptBatchError(f"a control record of version {version}")
    return ControlType(number) if number in ControlType.__members__.values() else None


def marker_record(marker: TransactionMarker) -> tuple[bytes, bytes]:
    """Key and value of the record that is this marker."""
    kind = ControlType.COMMIT if marker.committed else ControlType.ABORT
    return encode_key(kind), encode_marker_value(marker)


def encode_marker_value(marker: TransactionMarker) -> bytes:
    return _MARKER_VALUE.pack(0, marker.coordinator_epoch)


def decode_marker(key: bytes | None, value: bytes | None) -> TransactionMarker | None:
    """The marker in this control record, or None if it is a control record of another type."""
    control_type = decode_key(key)
    if control_type not in (ControlType.ABORT, ControlType.COMMIT):
        return None
    if value is None or len(value) < _MARKER_VALUE.size:
        raise CorruptBatchError("a transaction marker without a coordinator epoch")
    return TransactionMarker(
        committed=control_type is ControlType.COMMIT, coordinator_epoch=_MARKER_VALUE.unpack_from(value)[1]
    )
