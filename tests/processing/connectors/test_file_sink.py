"""Files that appear whole and hold each record once, however often it is written."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.connectors import file_sink, folder
from tests.processing.connectors.outflows import one_task


def lines(directory: Path) -> list[Any]:
    """What is in all files, in the order of their names."""
    return [json.loads(line) for path in sorted(directory.iterdir()) for line in path.open()]


def files_app(directory: Path, format: Any = "ndjson", **options: Any) -> sk.App:
    app = sk.App("files")
    sink = sk.FileSink(directory, format, max_wait=0, **options)
    app.stream("numbers").to(sink, on_error=sk.DeadLetter("dead"))
    return app


async def test_a_file_is_named_by_what_it_holds(tmp_path: Path) -> None:
    async with one_task(files_app(tmp_path / "out", max_rows=3)) as one:
        one.offer(range(5))
        await one.until_committable(5)
    assert [(path.name, path.read_text()) for path in sorted((tmp_path / "out").iterdir())] == [
        (f"numbers-0-{0:020d}-{2:020d}.ndjson", "0\n1\n2\n"),
        (f"numbers-0-{3:020d}-{4:020d}.ndjson", "3\n4\n"),
    ]


class InMemory:
    """A folder."""

    longest_name = 255

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def open(self) -> list[str]:
        return list(self.files)

    async def put(self, name: str, data: bytes) -> None:
        self.files[name] = data

    async def remove(self, name: str) -> None:
        del self.files[name]

    def numbers(self) -> list[int]:
        return [int(line) for name in sorted(self.files) for line in self.files[name].split()]


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(0, 20)), max_size=8))
async def test_replays_in_other_batches_leave_every_record_once(runs: list[tuple[int, int, int]]) -> None:
    """Each run writes some batches, of which the last rows are not committed when it is killed."""
    out, committed = InMemory(), 0
    for size, batches, uncommitted in runs:
        sink = sk.FileSink("out")
        with patch.object(file_sink, "folder_of", lambda *_: out):
            await sink.open()
        at = committed
        for _ in range(batches):
            rows = [sk.Row(n, topic="t-0", partition=0, offset=n) for n in range(at, at + size)]
            await sink.write(rows)
            at += size
        committed = max(committed, at - uncommitted)
    found = [n for n in out.numbers() if n < committed]
    assert found == list(range(committed))


async def test_who_slept_through_the_loss_of_its_task_harms_nothing(tmp_path: Path) -> None:
    def rows(first: int, end: int) -> list[sk.Row]:
        return [sk.Row(n, topic="t", partition=0, offset=n) for n in range(first, end)]

    sleeper, successor = sk.FileSink(tmp_path), sk.FileSink(tmp_path)
    await sleeper.open()
    await successor.open()
    await successor.write(rows(0, 150))
    await successor.write(rows(150, 160))
    await sleeper.write(rows(0, 100))
    assert set(lines(tmp_path)) == set(range(160)), "some are there twice, none is gone"


async def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def full(file: int) -> None:
        seen.append(os.listdir(tmp_path))
        raise OSError(28, "No space left on device")

    sink = sk.FileSink(tmp_path)
    await sink.open()
    monkeypatch.setattr(folder.os, "fsync", full)
    with pytest.raises(sk.Unavailable, match="No space left"):
        await sink.write([sk.Row(1, topic="t", partition=0, offset=0)])
    assert [name for name in seen[0] if not name.startswith(".")] == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", ["ndjson", "csv"])
@pytest.mark.parametrize("length", [180, 190, 195, 249])
async def test_a_topic_may_have_any_name_that_kafka_takes(tmp_path: Path, length: int, format: Any) -> None:
    topics = ["t" * (length - 1) + last for last in "ab"]

    async def write(first: int, end: int) -> None:
        sink = sk.FileSink(tmp_path, format)
        await sink.open()
        for topic in topics:
            rows = [sk.Row({"n": n}, topic=topic, partition=7, offset=n) for n in range(first, end)]
            await sink.write(rows)

    await write(0, 3)
    await write(1, 4)
    names = os.listdir(tmp_path)
    assert len(names) == 2 * len(topics), "what comes again is known by its file"
    whole = [name.startswith(f"{topic}-7-") for name in names for topic in topics]
    assert sum(whole) == (len(names) if length < 200 else 0), "names that fit are the topic's own"


def a_file(path: Path) -> None:
    path.write_text("in the way")


def a_full_one(path: Path) -> None:
    (path / f"numbers-0-{0:020d}-{1:020d}.ndjson").mkdir(parents=True)


def a_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("in_the_way", [a_file, a_full_one, a_loop])
async def test_what_waiting_does_not_mend_ends_the_worker(
    tmp_path: Path, in_the_way: Callable[[Path], None]
) -> None:
    in_the_way(tmp_path / "out")
    async with one_task(files_app(tmp_path / "out")) as one:
        one.offer([1, 2])
        async with asyncio.timeout(10):
            while one.runner.failure is None:
                await asyncio.sleep(0.01)
    assert isinstance(one.runner.failure, UsageError)
    assert str(tmp_path) in one.runner.failure.message
    assert one.letters == [], "no row is at fault"


async def test_what_a_crash_left_unfinished_goes_later(tmp_path: Path) -> None:
    for name, age_s in (("old", 7200.0), ("new", 0.0)):
        path = tmp_path / f".{name}.tmp"
        path.touch()
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    await sk.FileSink(tmp_path).open()
    assert os.listdir(tmp_path) == [".new.tmp"], "whose writer may be at it"


async def test_rows_of_several_topics_go_into_files_of_their_own(tmp_path: Path) -> None:
    sink = sk.FileSink(tmp_path)
    await sink.open()
    at = [("a", 0), ("b", 4), ("a", 1), ("b", 5)]
    await sink.write([sk.Row(name, topic=name, partition=3, offset=offset) for name, offset in at])
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"a-3-{0:020d}-{1:020d}.ndjson",
        f"b-3-{4:020d}-{5:020d}.ndjson",
    ]


async def test_csv_has_the_columns_of_its_rows(tmp_path: Path) -> None:
    async with one_task(files_app(tmp_path, "csv")) as one:
        one.offer([{"a": 1, "b": 'x,"y'}, {"b": [1]}, {"c": 3}, None])
        await one.until_committable(4)
    (path,) = tmp_path.iterdir()
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", 'x,"y'], ["", "[1]"]]
    assert one.letters == [None, b'{"c":3}']


async def test_a_value_that_has_no_json_meets_the_policy(tmp_path: Path) -> None:
    app = sk.App("files")
    app.stream("numbers").map(lambda n: object() if n == 1 else n).to(
        sk.FileSink(tmp_path, max_wait=0), on_error=sk.DeadLetter("dead")
    )
    async with one_task(app) as one:
        one.offer([0, 1, 2])
        await one.until_committable(3)
    assert (lines(tmp_path), one.letters) == ([0, 2], [b"1"])
