"""Files as sources: every record once, from wherever reading stopped."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from time import process_time
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk
from streamkit.errors import StreamkitError, UsageError
from streamkit.processing.connectors import file_source
from streamkit.processing.connectors.sources import Portion


def reading(source: sk.Source, position: dict[str, Any]) -> Any:
    return aclosing(cast("AsyncGenerator[Portion, None]", source.read(position)))


async def all_of(source: sk.Source, position: dict[str, Any], portions: int = 10**9) -> list[Any]:
    """Values of so many portions; `position` moves as it would in the topic of positions."""
    found: list[Any] = []
    async with reading(source, dict(position)) as read:
        async for rows, changes in read:
            found += [row.value for row in rows]
            moved(position, changes)
            portions -= 1
            if portions == 0:
                break
    return found


def moved(position: dict[str, Any], changes: Any) -> None:
    for name, state in changes.items():
        if state is None:
            position.pop(name, None)
        else:
            position[name] = state


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_a_directory_is_read_once_and_then_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "b.ndjson").write_bytes(b"1\n2\r\n\n3")
    (tmp_path / "a.ndjson").write_bytes(b"4\n")
    (tmp_path / ".hidden").write_bytes(b"5\n")
    source, position = sk.FileSource(tmp_path, "ndjson"), dict[str, Any]()
    assert await all_of(source, position) == [b"4", b"1", b"2", b"3"]
    assert position == {"a.ndjson": 2, "b.ndjson": 7}
    assert await all_of(source, position) == []
    append(tmp_path / "a.ndjson", b"6\n")
    (tmp_path / "0.ndjson").write_bytes(b"7\n")
    (tmp_path / "b.ndjson").unlink()
    assert await all_of(source, position) == [b"7", b"6"]
    assert position == {"a.ndjson": 4, "0.ndjson": 2}, "what is gone is forgotten"


async def test_patterns_and_single_files(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "1.csv").write_text("n\n1\n")
    (tmp_path / "x" / "2.csv").write_text("n\n2\n")
    position: dict[str, Any] = {}
    assert await all_of(sk.FileSource(tmp_path / "**" / "*.csv"), position) == [{"n": "2"}, {"n": "1"}]
    assert sorted(position) == ["x/2.csv", "x/y/1.csv"]
    position = {}
    assert await all_of(sk.FileSource(tmp_path / "x" / "2.csv"), position) == [{"n": "2"}]
    assert sorted(position) == ["2.csv"]
    with pytest.raises(sk.Unavailable, match="no file"):
        await all_of(sk.FileSource(tmp_path / "absent.csv"), {})
    with pytest.raises(UsageError, match="format is not known"):
        sk.FileSource(tmp_path / "x.dat")


async def test_a_file_that_grows_is_followed_by_whole_lines(tmp_path: Path) -> None:
    path, position = tmp_path / "log.ndjson", dict[str, Any]()
    path.write_bytes(b"1\n2")
    source = sk.FileSource(path, follow=True, interval="5ms")
    async with reading(source, position) as read:
        assert [row.value for row in (await anext(read))[0]] == [b"1"]
        later = asyncio.ensure_future(anext(read))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(later), 0.05)
        append(path, b"3\n")
        rows, changes = await asyncio.wait_for(later, 5)
        assert ([row.value for row in rows], changes) == ([b"23"], {"log.ndjson": 5})
        path.write_bytes(b"4\n")  # shorter: a new one under the old name
        assert await asyncio.wait_for(anext(read), 5) == ([], {"log.ndjson": 0})
        rows, changes = await asyncio.wait_for(anext(read), 5)
        assert ([row.value for row in rows], changes) == ([b"4"], {"log.ndjson": 2})


async def test_a_file_that_was_emptied_may_outgrow_its_old_self(tmp_path: Path) -> None:
    path = tmp_path / "log.ndjson"
    path.write_bytes(b"1\n")
    async with reading(sk.FileSource(path, follow=True, interval="5ms"), {}) as read:
        await asyncio.wait_for(anext(read), 5)
        path.write_bytes(b"")
        assert await asyncio.wait_for(anext(read), 5) == ([], {"log.ndjson": 0})
        append(path, b"2\n3\n")
        rows, _ = await asyncio.wait_for(anext(read), 5)
        assert [row.value for row in rows] == [b"2", b"3"]


async def test_a_quote_that_is_never_closed_costs_no_time(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_bytes(b'a\n"' + b"\n" * 950_000)
    began = process_time()
    with pytest.raises(StreamkitError, match="the record at byte 2 is longer"):
        await all_of(sk.FileSource(path), {})
    assert process_time() - began < 5, "as many copies of it as it has lines take minutes"


async def test_a_header_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"stra\xdfe\n1\n")
    with pytest.raises(StreamkitError, match=r"latin\.csv: the names of its columns"):
        await all_of(sk.FileSource(path), {})


async def test_a_directory_that_is_empty_at_once_is_not_taken_for_deleted(tmp_path: Path) -> None:
    position: dict[str, Any] = {"a.ndjson": 7}
    source = sk.FileSource(tmp_path, "ndjson", follow=True, interval="1ms")
    async with reading(source, position) as read:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(read), 0.05)


async def test_csv_rows_become_what_is_declared(tmp_path: Path) -> None:
    class Order(msgspec.Struct):
        id: int
        amount: float
        note: str = ""

    path = tmp_path / "orders.csv"
    path.write_bytes(b'\xef\xbb\xbfid;amount;note\r\n1;2.5;"a;""b\nc"\r\nx;1;\r\n3;4\r\n')
    found = await all_of(sk.FileSource(path, sk.Csv(delimiter=";"), type=Order), {})
    assert found == [Order(1, 2.5, 'a;"b\nc'), b'{"id":"x","amount":"1","note":""}', b"3;4"]
    path.write_bytes(b"1,2\n")
    assert await all_of(sk.FileSource(path, sk.Csv(columns=["id", "amount"]), type=Order), {}) == [
        Order(1, 2)
    ]


async def test_a_record_that_is_too_long_ends_the_worker_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "long.ndjson"
    path.write_bytes(b"1\n" + b"x" * 3000)
    with pytest.raises(StreamkitError, match="the record at byte 2 is longer than 1000 bytes"):
        await all_of(sk.FileSource(path, max_record_bytes=1000), {})


CELLS = st.text(st.sampled_from('a,;"\n\r \u00e4'), max_size=6)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=8),
    stops=st.lists(st.integers(1, 3), max_size=6),
    chunk=st.integers(4, 40),  # the header is in the first
)
async def test_csv_of_any_cells_read_in_any_pieces(
    rows: list[list[str]], stops: list[int], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.getvalue().encode())
    wanted = [{"a": a, "b": b} for a, b in csv.reader(io.StringIO(text.getvalue(), newline=""))][1:]
    source, position, found = sk.FileSource(path), dict[str, Any](), list[Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_source, "CHUNK_BYTES", chunk)
        for portions in (*stops, 10**9):
            found += await all_of(source, position, portions)
    assert found == wanted
