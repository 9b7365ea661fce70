"""Parquet, and an object store: files in S3's protocol, judged by moto's server and read back by pyarrow."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as arrow
import pytest
from pyarrow import fs, parquet

import streamkit as sk
from tests.processing.connectors.outflows import one_task
from tests.processing.connectors.test_file_source import all_of
from tests.support.broker_cluster import free_ports
from tests.support.broker_process import environment

pytestmark = pytest.mark.connectors

WAIT_S = 30.0


class Reading(msgspec.Struct):
    meter: str
    value: float
    tags: list[str] = []


MADE = [Reading("a", 1.0), Reading("b", 2.0, ["new"]), Reading("c", 3.0)]


def readings_app(sink: sk.FileSink) -> sk.App:
    app = sk.App("readings")
    app.stream(app.topic("readings", value=Reading)).to(sink, on_error=sk.DeadLetter("dead"))
    return app


async def test_parquet_files_are_read_by_whoever_reads_parquet(tmp_path: Path) -> None:
    schema = arrow.schema(
        [("meter", arrow.string()), ("value", arrow.float32()), ("tags", arrow.list_(arrow.string()))]
    )
    for format in ("parquet", sk.Parquet(schema=schema, compression="snappy")):
        async with one_task(readings_app(sk.FileSink(tmp_path, format, max_wait=0))) as one:
            one.offer(MADE)
            await one.until_committable(3)
        (path,) = tmp_path.iterdir()
        assert parquet.read_table(path).to_pylist() == [msgspec.to_builtins(one) for one in MADE]
    assert parquet.read_schema(path).field("value").type == arrow.float32()


async def test_a_row_that_does_not_fit_the_schema_meets_the_policy(tmp_path: Path) -> None:
    app = sk.App("readings")
    schema = arrow.schema([("n", arrow.int8())])
    app.stream("numbers").to(
        sk.FileSink(tmp_path, sk.Parquet(schema=schema), max_wait=0), on_error=sk.DeadLetter("dead")
    )
    async with one_task(app) as one:
        one.offer([{"n": 1}, {"n": 1000}, {"n": 3}])
        await one.until_committable(3)
    assert one.letters == [b'{"n":1000}']
    tables = [parquet.read_table(path) for path in sorted(tmp_path.iterdir())]
    assert arrow.concat_tables(tables).column("n").to_pylist() == [1, 3]


async def test_rows_of_one_record_stay_in_one_file_where_another_is_at_fault(tmp_path: Path) -> None:
    app = sk.App("files")
    stream = app.stream(app.topic("numbers", value=list)).flat_map(lambda rows: rows)
    stream.to(sk.FileSink(tmp_path, "parquet", max_wait=0), on_error=sk.DeadLetter("dead"))
    async with one_task(app) as one:
        one.offer([[{"n": 1}, {"n": "two"}, {"n": 3}, {"n": 4}]])
        await one.until_committable(1)
    (path,) = tmp_path.iterdir()
    assert parquet.read_table(path).column("n").to_pylist() == [1, 3, 4]


async def test_parquet_is_read_from_where_reading_stopped(tmp_path: Path) -> None:
    rows = [{"n": n, "text": str(n)} for n in range(2500)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    source, position = sk.FileSource(tmp_path / "*.parquet"), dict[str, Any]()
    first = await all_of(source, position, 1)
    assert 0 < len(first) < 2500 and position == {"a.parquet": len(first)}
    position["a.parquet"] -= 1  # in the middle of a batch
    assert first[:-1] + await all_of(source, position) == rows
    assert await all_of(source, position) == []


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an object store with a bucket."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(name, "test")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            address = f"127.0.0.1:{port}"
            _until_it_answers(process, address)
            yield address
    finally:
        process.kill()
        process.wait()


def _client(address: str) -> Any:
    return fs.S3FileSystem(
        endpoint_override=address, scheme="http", region="us-east-1", allow_bucket_creation=True
    )


def _until_it_answers(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return _client(address).create_dir("bucket")
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "the object store does not answer"
            time.sleep(0.1)


def uri(address: str, prefix: str) -> str:
    return f"s3://bucket/{prefix}?endpoint_override={address}&scheme=http&region=us-east-1"


def in_store(address: str, prefix: str) -> dict[str, list[Any]]:
    client = _client(address)
    found = client.get_file_info(fs.FileSelector(f"bucket/{prefix}"))
    return {
        info.base_name: parquet.read_table(info.path, filesystem=client).column("value").to_pylist()
        for info in found
    }


@pytest.mark.parametrize("by", ["uri", "filesystem"])
async def test_objects_hold_each_record_once_after_a_replay(store: str, by: str) -> None:
    def sink(max_rows: int) -> sk.FileSink:
        if by == "uri":
            return sk.FileSink(uri(store, by), "parquet", max_rows=max_rows, max_wait=0)
        client = _client(store)
        return sk.FileSink(f"bucket/{by}", "parquet", max_rows=max_rows, max_wait=0, filesystem=client)

    async with one_task(readings_app(sink(2))) as one:
        one.offer(MADE)
        await one.until_committable(3)
    names = [f"readings-0-{first:020d}-{last:020d}.parquet" for first, last in ((0, 1), (2, 2), (0, 2))]
    assert in_store(store, by) == {names[0]: [1.0, 2.0], names[1]: [3.0]}
    async with one_task(readings_app(sink(10))) as one:
        one.offer(MADE)
        await one.until_committable(3)
    assert in_store(store, by) == {names[2]: [1.0, 2.0, 3.0]}


async def test_a_store_that_is_not_there_is_waited_for() -> None:
    (port,) = free_ports(1)
    sink = sk.FileSink(uri(f"127.0.0.1:{port}", "x"), "parquet")
    with pytest.raises(sk.Unavailable):
        await sink.open()


def test_credentials_in_an_address_are_not_shown() -> None:
    sink = sk.FileSink("s3://key:secret@bucket/x?endpoint_override=y", "parquet")
    assert sink.detail == "parquet files in s3://bucket/x"
