"""Doubles of the ports, and batches to append."""

from __future__ import annotations

import random

from streamkit.protocol.records.batch import batches
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.os.spawn import TaskSpawn

NOW_MS = 1_700_000_000_000


class ManualClock:
    def __init__(self) -> None:
        self.now = NOW_MS

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self.now


class SeededRng:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def bytes(self, stream: str, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, stream: str, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class Spawned(TaskSpawn):
    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        super().__init__(lambda name, error: self.errors.append(error))


def batch(*values: bytes, timestamp: int = NOW_MS, **fields: int) -> bytearray:
    """One batch as a producer sends it."""
    records = [Record(timestamp=timestamp, key=b"k", value=value) for value in values]
    return bytearray(encode_batch(records, **fields))  # type: ignore[arg-type]


def values(data: bytes | bytearray | memoryview) -> list[tuple[int, bytes | None]]:
    """(offset, value) of every record in whole batches."""
    return [(r.offset, r.value) for _, one in batches(data) for r in decode_records(one)]


def sequenced(sequence: int, *, count: int = 1, producer_id: int = 5, epoch: int = 0) -> bytearray:
    """A batch of an idempotent producer."""
    return batch(
        *[b"v%d" % (sequence + i) for i in range(count)],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
