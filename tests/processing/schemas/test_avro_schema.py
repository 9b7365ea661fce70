"""The Avro schema of a class is one that fastavro takes, and records survive it, also from older classes."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import typing
import uuid
from typing import Any

import fastavro
import msgspec
import pydantic
import pytest

import streamkit as sk
from streamkit.errors import UsageError
from streamkit.processing.avro_schema import avro_schema
from tests.processing.schemas.confluents import Theirs, in_memory


class Colour(enum.Enum):
    RED = "red"


class Line(msgspec.Struct):
    sku: str
    count: int = 1


@dataclasses.dataclass
class Address:
    street: str
    tags: list[str] = dataclasses.field(default_factory=list)


class Customer(msgspec.Struct, rename={"name": "fullName"}):
    name: str
    address: Address | None = None


class Tag(pydantic.BaseModel):
    word: str


class Post(pydantic.BaseModel):
    text: str = pydantic.Field(alias="body")
    at: datetime.datetime
    tags: list[Tag] = []
    answer: Tag | None = None


class Extra(typing.TypedDict):
    a: int


class Order(msgspec.Struct, rename="camel"):
    order_id: int
    at: datetime.datetime
    day: datetime.date
    price: decimal.Decimal
    uid: uuid.UUID
    colour: Colour
    data: bytes
    lines: list[Line]
    by_name: dict[str, Line]
    extra: Extra
    customer: Customer
    took: datetime.timedelta
    clock: datetime.time
    first: Line | None = None
    kind: typing.Literal["a", "b"] = "a"
    weight: float = 0
    either: int | str = "none"
    flags: tuple[bool, ...] = ()
    note: str | None = None


ORDER = Order(
    order_id=1,
    at=datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    day=datetime.date(2026, 1, 2),
    price=decimal.Decimal("1.50"),
    uid=uuid.UUID(int=7),
    colour=Colour.RED,
    data=b"\x00\xff",
    lines=[Line("a"), Line("b", 2)],
    by_name={"x": Line("x")},
    extra={"a": 1},
    customer=Customer("Ann", address=Address("High Street", ["home"])),
    took=datetime.timedelta(seconds=5),
    clock=datetime.time(1, 2, 3),
    first=Line("z"),
    either=5,
    flags=(True, False),
)


def test_a_class_of_everything_goes_there_and_back() -> None:
    fastavro.parse_schema(avro_schema(Order, "shop"))
    client = in_memory()
    app = sk.App("orders", schema_registry=client)
    orders = app.topic("orders", value=sk.Avro(Order, namespace="shop"))
    app.stream(orders).to(app.topic("copy", value=sk.Avro(Order)))
    with app.test() as t:
        t.send(orders, ORDER)
        assert t.read("copy") == [ORDER]
        read = Theirs(client).from_avro("orders", orders.value.encode(ORDER))
        assert read["orderId"] == 1
        assert read["price"] == "1.50"
        assert read["customer"] == {"fullName": "Ann", "address": {"street": "High Street", "tags": ["home"]}}


def test_models_may_hold_models() -> None:
    app = sk.App("posts")
    posts = app.topic("posts", value=sk.Avro(Post))
    app.stream(posts).group_by(lambda post: post.text).to(app.topic("copy", value=sk.Avro(Post)))
    post = Post(body="x", at=ORDER.at, tags=[Tag(word="a")], answer=Tag(word="b"))
    with app.test() as t:
        t.send(posts, post)
        assert t.read("copy") == [post]


def test_fields_have_the_defaults_that_avro_can_write() -> None:
    schema: Any = avro_schema(Order, "shop")
    fields = {field["name"]: field for field in schema["fields"]}
    assert schema["namespace"] == "shop"
    assert fields["first"] == {"name": "first", "type": ["null", "Line"], "default": None}
    assert fields["either"] == {"name": "either", "type": ["string", "long"], "default": "none"}
    assert fields["weight"]["default"] == 0.0
    assert isinstance(fields["weight"]["default"], float)
    assert fields["flags"]["default"] == []
    assert "default" not in fields["orderId"]


def test_a_class_that_grew_reads_and_is_read() -> None:
    class Before(msgspec.Struct):
        sku: str

    class After(msgspec.Struct):
        sku: str
        count: int = 1

    Before.__name__ = After.__name__ = "Line"
    before, after = (fastavro.parse_schema(avro_schema(cls)) for cls in (Before, After))
    for written, read, value, expected in (
        (before, after, {"sku": "a"}, {"sku": "a", "count": 1}),
        (after, before, {"sku": "a", "count": 2}, {"sku": "a"}),
    ):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, written, value)
        out.seek(0)
        assert fastavro.schemaless_reader(out, written, read) == expected


@pytest.mark.parametrize("scalar", [str, int, bool, bytes, list[int], dict[str, float]])
def test_what_is_no_record_has_a_schema_too(scalar: Any) -> None:
    fastavro.parse_schema(avro_schema(scalar))


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (typing.Any, "Any"),
        (dict[int, str], "Dict"),
        (tuple[int, str], "Tuple"),
        (complex, "Custom"),
        (list[typing.Any], r"\[\]: Any"),
        (int | float | bytes | bytearray, "bytes"),
        (typing.Literal[1, "a"], "an enumeration of other things"),
    ],
)
def test_what_avro_has_no_type_for_is_named(declared: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        avro_schema(declared)
    assert "schema=" in error.value.hint


def test_two_records_of_one_name_are_refused() -> None:
    Other = msgspec.defstruct("Line", [("x", int)])
    Both = msgspec.defstruct("Both", [("a", Line), ("b", Other)])
    with pytest.raises(UsageError, match=r"Both.b: a second record that is called Line"):
        avro_schema(Both)
