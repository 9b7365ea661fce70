"""The codecs of record batches, each decompression bounded while it streams.

What a batch decompresses to is its sender's claim; nothing here allocates more than a limit on its word. The
limit follows from the compressed size (`decompression_limit`), so a small batch cannot become a large one.

Snappy comes in two forms, raw and in the framing of the xerial library that Java clients use: a magic and two
int32 versions, then blocks of raw Snappy with an int32 length each. We accept both and write the framing.
Java refuses LZ4 frames whose blocks depend on one another, so ours are independent.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import TypeAlias

import cramjam
import lz4.frame
import zstandard

from streamkit.protocol.errors import MalformedMessageError

Buffer: TypeAlias = bytes | bytearray | memoryview

LIMIT_BYTES = 64 << 20
LIMIT_RATIO = 100
LEAST_LIMIT_BYTES = 4 << 20
"""A few KiB of repetitive records honestly expand more than a hundredfold."""

_GZIP_WBITS = 31
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_VERSIONS = struct.pack(">ii", 1, 1)
_XERIAL_HEADER_BYTES = len(_XERIAL_MAGIC) + len(_XERIAL_VERSIONS)
_XERIAL_BLOCK_BYTES = 32 << 10
_ZSTD_LEVEL = 3
_ZSTD_BLOCK_BYTES = 128 << 10


class Codec(IntEnum):
    """As in the lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class CompressedDataError(MalformedMessageError):
    """Compressed records that are damaged, cut short, or larger than they may become."""


def decompression_limit(compressed_bytes: int) -> int:
    """The most that a batch of this compressed size may decompress to."""
    return min(LIMIT_BYTES, max(LEAST_LIMIT_BYTES, LIMIT_RATIO * compressed_bytes))


def compress(codec: Codec, data: Buffer) -> bytes:
    return _COMPRESS[codec](data)


def decompress(codec: Codec, data: Buffer, limit: int | None = None) -> bytes:
    """The original bytes, at most `limit` of them (by default `decompression_limit`)."""
    if limit is None:
        limit = decompression_limit(len(data))
    try:
        return _DECOMPRESS[codec](data, limit)
    except (zlib.error, cramjam.DecompressionError, RuntimeError, zstandard.ZstdError) as error:
        raise CompressedDataError(f"{codec.name.lower()} data is damaged: {error}") from error


def _too_large(codec: Codec, limit: int) -> CompressedDataError:
    return CompressedDataError(f"{codec.name.lower()} data decompresses to more than {limit} bytes")


def _cut_short(codec: Codec) -> CompressedDataError:
    return CompressedDataError(f"{codec.name.lower()} data ends early")


def _copy(data: Buffer, limit: int) -> bytes:
    if len(data) > limit:
        raise _too_large(Codec.NONE, limit)
    return bytes(data)


def _gzip(data: Buffer) -> bytes:
    return zlib.compress(data, wbits=_GZIP_WBITS)


def _gunzip(data: Buffer, limit: int) -> bytes:
    out = bytearray()
    while True:
        stream = zlib.decompressobj(wbits=_GZIP_WBITS)
        out += stream.decompress(data, limit + 1 - len(out))
        if len(out) > limit:
            raise _too_large(Codec.GZIP, limit)
        if not stream.eof:
            raise _cut_short(Codec.GZIP)
        data = stream.unused_data
        if not data:
            return bytes(out)


def _snappy(data: Buffer) -> bytes:
    view = memoryview(data)
    out = bytearray(_XERIAL_MAGIC + _XERIAL_VERSIONS)
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES])
        out += struct.pack(">i", len(block))
        out += block
    return bytes(out)


def _unsnappy(data: Buffer, limit: int) -> bytes:
    view = memoryview(data)
    if view[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _unsnappy_block(view, limit, limit)
    out = bytearray()
    pos = _XERIAL_HEADER_BYTES
    if pos > len(view):
        raise _cut_short(Codec.SNAPPY)
    while pos < len(view):
        if len(view) - pos < 4:
            raise _cut_short(Codec.SNAPPY)
        size = int.from_bytes(view[pos : pos + 4], "big", signed=True)
        pos += 4
        if not 0 < size <= len(view) - pos:
            raise CompressedDataError(f"a snappy block claims {size} bytes where {len(view) - pos} are left")
        out += _unsnappy_block(view[pos : pos + size], limit - len(out), limit)
        pos += size
    return bytes(out)


def _unsnappy_block(block: memoryview, left: int, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > left:
        raise _too_large(Codec.SNAPPY, limit)
    return bytes(cramjam.snappy.decompress_raw(block))


def _lz4(data: Buffer) -> bytes:
    frame: bytes = lz4.frame.compress(data, block_linked=False, store_size=False)
    return frame


def _unlz4(data: Buffer, limit: int) -> bytes:
    out = bytearray()
    while True:
        stream = lz4.frame.LZ4FrameDecompressor()
        out += stream.decompress(data, max_length=limit + 1 - len(out))
        if len(out) > limit:
            raise _too_large(Codec.LZ4, limit)
        if not stream.eof:
            raise _cut_short(Codec.LZ4)
        data = stream.unused_data
        if not data:
            return bytes(out)


def _zstd(data: Buffer) -> bytes:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)


def _unzstd(data: Buffer, limit: int) -> bytes:
    """The library's streams have no output limit, so they get slices that cannot expand by much more.

    The smallest block is four bytes and stands for 128 KiB at most.
    """
    view = memoryview(data)
    step = max(64, limit // (_ZSTD_BLOCK_BYTES // 2))
    stream = zstandard.ZstdDecompressor().decompressobj()
    out = bytearray()
    pos = 0
    while True:
        out += stream.decompress(view[pos : pos + step])
        pos += step
        if len(out) > limit:
            raise _too_large(Codec.ZSTD, limit)
        if stream.eof:
            pos = min(pos, len(view)) - len(stream.unused_data)
            if pos == len(view):
                return bytes(out)
            stream = zstandard.ZstdDecompressor().decompressobj()
        elif pos >= len(view):
            raise _cut_short(Codec.ZSTD)


_COMPRESS: dict[Codec, Callable[[Buffer], bytes]] = {
    Codec.NONE: bytes,
    Codec.GZIP: _gzip,
    Codec.SNAPPY: _snappy,
    Codec.LZ4: _lz4,
    Codec.ZSTD: _zstd,
}
_DECOMPRESS: dict[Codec, Callable[[Buffer, int], bytes]] = {
    Codec.NONE: _copy,
    Codec.GZIP: _gunzip,
    Codec.SNAPPY: _unsnappy,
    Codec.LZ4: _unlz4,
    Codec.ZSTD: _unzstd,
}
