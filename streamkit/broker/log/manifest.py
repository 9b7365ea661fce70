"""The clean-shutdown marker: that the last stop was clean, and what each log looked like then.

With it a log is opened from one directory listing: nothing is scanned, no small files are read. A log whose
active segment is not exactly as described is recovered like after a crash. One line a log:

    topic partition topic-id log-start log-end active-base active-size first-ts max-ts max-ts-offset
    producers epoch:start,epoch:start
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streamkit.broker.log.checkpoint import Partition, decode_lines, encode_lines
from streamkit.broker.log.epochs import EpochEntry

NO_EPOCHS = "-"


class CleanLog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    topic: str
    partition: int
    topic_id: bytes
    log_start_offset: int
    log_end_offset: int
    active_base: int
    active_size: int
    first_timestamp: int
    max_timestamp: int
    max_timestamp_offset: int
    producers: int
    epochs: tuple[EpochEntry, ...]


def encode_manifest(logs: Iterable[CleanLog]) -> bytes:
    return encode_lines(map(_encode, logs))


def decode_manifest(data: bytes) -> dict[Partition, CleanLog]:
    """By (topic, partition); `DamagedCheckpointError` if the marker is not whole."""
    return {(log.topic, log.partition): log for log in map(_decode, decode_lines(data))}


def _encode(log: CleanLog) -> str:
    epochs = ",".join(f"{entry.epoch}:{entry.start_offset}" for entry in log.epochs)
    return (
        f"{log.topic} {log.partition} {log.topic_id.hex()} {log.log_start_offset} {log.log_end_offset} "
        f"{log.active_base} {log.active_size} {log.first_timestamp} {log.max_timestamp} "
        f"{log.max_timestamp_offset} {log.producers} {epochs or NO_EPOCHS}"
    )


def _decode(line: str) -> CleanLog:
    topic, partition, topic_id, *numbers, epochs = line.split(" ")
    start, end, base, size, first, newest, newest_offset, producers = map(int, numbers)
    pairs = (entry.split(":") for entry in epochs.split(",")) if epochs != NO_EPOCHS else ()
    return CleanLog(
        topic=topic, partition=int(partition), topic_id=bytes.fromhex(topic_id), log_start_offset=start,
        log_end_offset=end, active_base=base, active_size=size, first_timestamp=first, max_timestamp=newest,
        max_timestamp_offset=newest_offset, producers=producers,
        epochs=tuple(EpochEntry(int(epoch), int(offset)) for epoch, offset in pairs),
    )  # fmt: skip
