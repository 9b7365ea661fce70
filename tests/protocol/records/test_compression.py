"""Compression: what other clients write is read, and nothing decompresses to more than its limit."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tracemalloc
import zlib

import cramjam
import kafka.codec
import lz4.frame
import pytest
import zstandard
from aiokafka.codec import snappy_encode as aiokafka_snappy_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.protocol.errors import MalformedMessageError
from streamkit.protocol.records.compression import (
    LEAST_LIMIT_BYTES,
    LIMIT_BYTES,
    Codec,
    CompressedDataError,
    compress,
    decompress,
    decompression_limit,
)

COMPRESSING = [codec for codec in Codec if codec is not Codec.NONE]
TEXT = b"".join(b'{"order": %d, "amount": %d}' % (n, n * 7919 % 1000) for n in range(5_000))


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("data", [b"", b"x", TEXT], ids=["empty", "byte", "text"])
def test_what_is_compressed_comes_back(codec: Codec, data: bytes) -> None:
    compressed = compress(codec, data)
    for form in (compressed, bytearray(compressed), memoryview(compressed)):
        assert decompress(codec, form) == data


@pytest.mark.parametrize(
    ("codec", "theirs"),
    [
        (Codec.GZIP, kafka.codec.gzip_decode),
        (Codec.LZ4, lz4.frame.decompress),
        (Codec.ZSTD, lambda data: zstandard.ZstdDecompressor().decompress(data)),
    ],
    ids=["gzip", "lz4", "zstd"],
)
def test_others_read_ours(codec: Codec, theirs: object) -> None:
    assert callable(theirs)
    assert theirs(compress(codec, TEXT)) == TEXT


def test_our_snappy_has_the_framing_that_java_reads() -> None:
    framed = compress(Codec.SNAPPY, TEXT)
    assert framed[:16] == b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    pos, out = 16, b""
    while pos < len(framed):
        (size,) = struct.unpack_from(">i", framed, pos)
        block = cramjam.snappy.decompress_raw(framed[pos + 4 : pos + 4 + size])
        assert len(block) <= 32 * 1024
        out, pos = out + bytes(block), pos + 4 + size
    assert out == TEXT


def test_snappy_is_read_raw_and_framed() -> None:
    assert decompress(Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(TEXT))) == TEXT
    assert decompress(Codec.SNAPPY, aiokafka_snappy_encode(TEXT, xerial_compatible=True)) == TEXT


def test_our_lz4_blocks_are_independent() -> None:
    assert not lz4.frame.get_frame_info(compress(Codec.LZ4, TEXT))["block_linked"]
    linked = lz4.frame.compress(TEXT, block_linked=True)
    assert decompress(Codec.LZ4, linked) == TEXT


def test_zstd_without_a_content_size_is_read() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    frame = stream.compress(TEXT) + stream.flush()
    assert zstandard.frame_content_size(frame) == -1
    assert decompress(Codec.ZSTD, frame) == TEXT


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD])
def test_several_frames_in_a_row_are_one_value(codec: Codec) -> None:
    assert decompress(codec, compress(codec, b"one") + compress(codec, TEXT)) == b"one" + TEXT


def test_the_limit_follows_from_the_compressed_size() -> None:
    assert decompression_limit(10) == LEAST_LIMIT_BYTES
    assert decompression_limit(100_000) == 10_000_000
    assert decompression_limit(10 << 20) == LIMIT_BYTES


@pytest.mark.parametrize("codec", COMPRESSING)
def test_exactly_the_limit_passes_and_one_byte_more_does_not(codec: Codec) -> None:
    compressed = compress(codec, TEXT)
    assert decompress(codec, compressed, len(TEXT)) == TEXT
    with pytest.raises(CompressedDataError, match=f"more than {len(TEXT) - 1} bytes"):
        decompress(codec, compressed, len(TEXT) - 1)


@pytest.mark.parametrize("codec", COMPRESSING)
def test_a_bomb_never_allocates_beyond_its_limit(codec: Codec) -> None:
    bomb = compress(codec, bytes(32 << 20))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(CompressedDataError, match="more than 1048576 bytes"):
            decompress(codec, bomb, limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * limit


@pytest.mark.parametrize("size", [-1, -(2**31), 0, 2**31 - 1, 100])
def test_a_snappy_block_with_an_impossible_length_is_refused(size: int) -> None:
    """CVE-2023-34455."""
    data = b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, size) + b"short"
    with pytest.raises(CompressedDataError, match="claims"):
        decompress(Codec.SNAPPY, data)


@pytest.mark.parametrize("claim", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x04"])
def test_a_raw_snappy_length_is_not_believed(claim: bytes) -> None:
    with pytest.raises(CompressedDataError):
        decompress(Codec.SNAPPY, claim + b"short")


def test_a_content_size_is_not_believed() -> None:
    frame = bytearray(lz4.frame.compress(b"hello", store_size=True))
    frame[6:14] = (2**62).to_bytes(8, "little")
    with pytest.raises(CompressedDataError):
        decompress(Codec.LZ4, frame)
    zstd = bytearray(zstandard.ZstdCompressor().compress(b"h" * 70_000))
    zstd[5:9] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(CompressedDataError):
        decompress(Codec.ZSTD, zstd)


@pytest.mark.parametrize("codec", COMPRESSING)
def test_data_cut_short_anywhere_is_refused(codec: Codec) -> None:
    data = compress(codec, TEXT[:2_000])
    empty = len(compress(codec, b"")) if codec is Codec.SNAPPY else None  # a whole value of its own
    for cut in range(len(data)):
        if cut != empty:
            with pytest.raises(MalformedMessageError):
                decompress(codec, data[:cut])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    codec=st.sampled_from(COMPRESSING), edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=9)))
)
def test_damaged_data_is_refused_or_read_within_the_limit(
    codec: Codec, edits: list[tuple[int, bytes]]
) -> None:
    data = bytearray(compress(codec, TEXT[:3_000]))
    for position, replacement in edits:
        data[position : position + len(replacement)] = replacement
    with contextlib.suppress(CompressedDataError):
        assert len(decompress(codec, data, 1 << 20)) <= 1 << 20


def test_gzip_of_the_standard_library_is_read() -> None:
    assert decompress(Codec.GZIP, gzip.compress(TEXT)) == TEXT
    with pytest.raises(CompressedDataError):
        decompress(Codec.GZIP, zlib.compress(TEXT))
