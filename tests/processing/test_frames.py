"""Batches as frames: columns from the values' types, rows that find their records again."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.frames import Frame
from streamkit.processing.record import Record
from streamkit.processing.testing import StoredRecord

if TYPE_CHECKING:
    import polars as only_typed


class Size(enum.Enum):
    SMALL = "s"


class Part(msgspec.Struct, frozen=True):
    name: str


class Order(msgspec.Struct):
    product: str
    amount: float
    count: int = 1
    note: str | None = None
    size: Size = Size.SMALL
    at: datetime.datetime = datetime.datetime(2026, 1, 1)
    tags: list[str] = []
    part: Part = Part("p")
    price: decimal.Decimal = decimal.Decimal("1.5")


@dataclasses.dataclass
class Data:
    product: str
    note: str | None = None


class Model(pydantic.BaseModel):
    product: str
    note: str | None = None


def records(count: int) -> list[Record[Any]]:
    return [Record(StoredRecord(("t", 3, n), (None, None), 0), f"k{n}", 1000 * n) for n in range(count)]


def test_columns_have_the_types_of_the_class() -> None:
    values = [Order("pump", 1, tags=["a"]), None, Order("hose", 2.5)]
    frame = Frame("polars").of(values, records(3))
    assert dict(frame.schema) == {
        "product": pl.String,
        "amount": pl.Float64,
        "count": pl.Int64,
        "note": pl.String,
        "size": pl.String,
        "at": pl.Datetime("us", "UTC"),
        "tags": pl.List(pl.String),
        "part": pl.Struct({"name": pl.String}),
        "price": frame.schema["price"],
        "_key": pl.String,
        "_timestamp": pl.Datetime("us", "UTC"),
        "_partition": pl.Int64,
        "_offset": pl.Int64,
    }
    assert frame["price"].sum() == decimal.Decimal(3)
    assert frame["amount"].to_list() == [1.0, None, 2.5]
    assert frame["note"].to_list() == [None] * 3
    table = Frame("arrow").of(values, records(3))
    assert table.schema.field("note").type == pa.string()
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    assert table.schema.field("tags").type == pa.list_(pa.string())
    assert table.column("_offset").to_pylist() == [0, 1, 2]
    assert table.column("_key").to_pylist() == ["k0", "k1", "k2"]
    assert table.column("part").to_pylist() == [{"name": "p"}, None, {"name": "p"}]
    batch = Frame("arrow", single=True).of(values, records(3))
    assert isinstance(batch, pa.RecordBatch)
    assert batch.schema == table.schema


@pytest.mark.parametrize("kind", ["polars", "arrow"])
@pytest.mark.parametrize("cls", [Data, Model])
def test_other_classes_are_columns_too(kind: Any, cls: Any) -> None:
    frame = Frame(kind).of([cls(product="pump")], records(1))
    assert rows(frame) == [{"product": "pump", "note": None, **about(0)}]


@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_dicts_are_columns_by_what_is_there_and_other_values_are_one(kind: Any) -> None:
    frame = Frame(kind).of([{"a": 1}, {"b": b"x"}, None], records(3))
    assert [(row["a"], row["b"]) for row in rows(frame)] == [(1, None), (None, b"x"), (None, None)]
    assert [row["value"] for row in rows(Frame(kind).of([1.5, None], records(2)))] == [1.5, None]
    mixed = Frame(kind).of([Data("pump"), {"product": "hose", "_key": "own"}], records(2))
    assert [(row["product"], row["_key"]) for row in rows(mixed)] == [("pump", None), ("hose", "own")]


def rows(frame: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = frame.to_dicts() if isinstance(frame, pl.DataFrame) else frame.to_pylist()
    return found


def about(n: int) -> dict[str, Any]:
    at = datetime.datetime.fromtimestamp(n, datetime.UTC)
    return {"_key": f"k{n}", "_timestamp": at, "_partition": 3, "_offset": n}


def test_a_frame_that_is_returned_goes_on_as_records() -> None:
    app = sk.App("frames")
    orders = app.topic("orders", key=str, value=Order, partitions=2)

    @app.agent(orders, sink=app.topic("scores", key=str))
    @sk.batch(10)
    async def score(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select("product", double=pl.col("amount") * 2)

    with app.test() as t:
        t.send_all(orders, [(Order(f"p{n}", n), f"k{n}", n) for n in range(20)])
        seen = sorted((r.value["double"], r.value, r.key, r.timestamp_ms) for r in t.records("scores"))
        assert seen == [
            (2.0 * n, {"product": f"p{n}", "double": 2.0 * n}, f"k{n}", 1000 * n) for n in range(20)
        ]


def test_rows_may_be_dropped_and_sorted_where_they_keep_their_place() -> None:
    app = sk.App("frames")
    orders = app.topic("orders", key=str, value=Order)

    @app.agent(orders, sink=app.topic("large", key=str))
    @sk.batch(10)
    async def large(table: pa.Table) -> pa.Table:
        kept = pc.filter(table, pc.greater(table["amount"], 1.0))
        return kept.sort_by([("amount", "descending")]).select(["product", "_partition", "_offset"])

    with app.test() as t:
        t.send_all(orders, [(Order(f"p{n}", n), f"k{n}") for n in range(4)])
        assert [(r.key, r.value) for r in t.records("large")] == [
            ("k2", {"product": "p2"}),
            ("k3", {"product": "p3"}),
        ]
        assert t.committed(orders) == 4


@pytest.mark.parametrize("frame", ["polars", "arrow"])
def test_an_option_says_it_as_well_and_columns_and_lists_are_results(frame: Any) -> None:
    app = sk.App("frames")
    numbers = app.topic("numbers", key=str, value=float)

    @app.agent(numbers, sink="same")
    @sk.batch(10, frame=frame)
    async def same(values, records):  # type: ignore[no-untyped-def]
        assert len(records) == len(values)
        return values["value"]

    @app.agent(numbers, sink="listed")
    @sk.batch(10, frame=frame)
    async def listed(values: Any) -> list[float]:
        return [-row["value"] for row in rows(values)]

    @app.agent(numbers, sink="single")
    @sk.batch(10, frame=frame)
    async def single(values: Any) -> Any:
        return values.select(["value", "_offset"])

    with app.test() as t:
        t.send_all(numbers, [(1.5, "a"), (2.5, "b")])
        assert t.read("same") == t.read("single") == [1.5, 2.5]
        assert t.read("listed") == [-1.5, -2.5]
        assert t.run(single.ask(3.5, key="c")) == 3.5


def test_a_frame_of_results_that_find_no_record_is_an_error_of_the_batch() -> None:
    app = sk.App("frames")
    numbers = app.topic("numbers", key=str, value=int)

    @app.agent(numbers, sink="out", on_error=sk.DeadLetter("bad"))
    @sk.batch(10, frame="polars")
    async def twice(frame: Any) -> Any:
        if frame["value"][0] == 0:
            return pl.concat([frame, frame])
        return frame.drop("_offset").head(0) if frame["value"][0] == 1 else frame.lazy()

    with app.test() as t:
        t.send_all(numbers, [(n, "k") for n in range(3)])
        said = [dict(letter.headers)["streamkit.dlq.message"] for letter in t.records("bad")]
        assert said[0] == b"a batch of 1 was answered with two rows for one record"
        assert said[1].startswith(b"a batch of 1 was answered with a list of 0")
        assert said[2].startswith(b"a batch was answered with a LazyFrame")


def test_merged_topics_have_no_offsets_of_their_own() -> None:
    app = sk.App("frames")
    streams = [app.stream(app.topic(name, key=str, value=int)) for name in ("a", "b")]

    @app.agent(streams[0].merge(streams[1]), sink="out")
    @sk.batch(2, max_wait="1s")
    async def same(frame: pl.DataFrame) -> pl.DataFrame:
        return frame

    with app.test() as t:
        for name, value in (("a", 1), ("b", 2)):
            t.send_all(name, [(value, "k")])
        assert sorted(t.read("out")) == [1, 2]


def test_what_is_declared_for_the_type_checker_only_is_understood() -> None:
    @sk.batch(10)
    async def one(frame: only_typed.DataFrame) -> None: ...

    @sk.batch(10)
    async def other(values: list[int]) -> None: ...

    assert one.frame is None, "it has no name that says what it is"
    assert other.frame is None
    assert sk.batch(10)(_named).frame is not None


async def _named(frame: pl.DataFrame) -> None: ...


_named.__annotations__["frame"] = "pl.DataFrame"


def test_what_cannot_be_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(frame: Any) -> None: ...

    async def table(frame: pa.Table) -> None: ...

    with pytest.raises(UsageError, match='frame is "polars" or "arrow", got \'pandas\''):
        sk.batch(10, frame="pandas")(take)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="takes a frame of arrow, and frame='polars'"):
        sk.batch(10, frame="polars")(table)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match="batches as polars frames need polars") as error:
        sk.batch(10, frame="polars")(take)
    assert error.value.hint == "pip install 'streamkit-log[polars]'"
