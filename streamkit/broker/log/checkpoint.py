"""Checkpoint files as text: Kafka's layout (version, count, one entry a line), then a line with a CRC-32C.

0
2
orders 0 1500
orders 1 7
crc32c 1c5f0b3e
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamkit.broker.log.epochs import EpochEntry
from streamkit.errors import StreamkitError
from streamkit.protocol.records.crc import crc32c

VERSION = 0
_CRC_WORD = "crc32c"


class DamagedCheckpointError(StreamkitError):
    """A checkpoint file whose version, count or checksum is wrong."""


def encode_lines(lines: Iterable[str]) -> bytes:
    entries = list(lines)
    body = "\n".join([str(VERSION), str(len(entries)), *entries, ""]).encode()
    return body + f"{_CRC_WORD} {crc32c(body):08x}\n".encode()


def decode_lines(data: bytes) -> list[str]:
    body, word, checksum = data.rpartition(_CRC_WORD.encode() + b" ")
    if not word or checksum != f"{crc32c(body):08x}\n".encode():
        raise DamagedCheckpointError("its checksum is wrong")
    version, count, *entries = body.decode().splitlines()
    if version != str(VERSION) or count != str(len(entries)):
        raise DamagedCheckpointError(f"it is of version {version} with {count} entries, not {len(entries)}")
    return entries


Partition = tuple[str, int]


def encode_offsets(offsets: Mapping[Partition, int]) -> bytes:
    return encode_lines(f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items())


def decode_offsets(data: bytes) -> dict[Partition, int]:
    offsets = {}
    for line in decode_lines(data):
        topic, partition, offset = line.split(" ")
        offsets[topic, int(partition)] = int(offset)
    return offsets


def encode_epochs(epochs: Iterable[EpochEntry]) -> bytes:
    return encode_lines(f"{entry.epoch} {entry.start_offset}" for entry in epochs)


def decode_epochs(data: bytes) -> list[EpochEntry]:
    return [EpochEntry(*map(int, line.split(" "))) for line in decode_lines(data)]
