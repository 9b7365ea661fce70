"""What an app says of its formats, and what it hears when that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from confluent_kafka.schema_registry import SchemaRegistryError

import streamkit as sk
from streamkit.errors import DeadlineError, RefusedError, StreamkitError, UsageError
from streamkit.processing.kafka import registry_memory
from streamkit.processing.kafka.schema_registry import opened
from streamkit.processing.schemas import ready, written
from tests.processing.schemas.confluents import CLICK, ORDER, Move, Theirs, in_memory


class Order(msgspec.Struct):
    product: str
    amount: float = 0.0


def test_the_schema_is_in_the_registry_before_a_worker_writes() -> None:
    client = in_memory()
    app = sk.App("shop", schema_registry=client)
    app.stream(app.topic("orders", value=sk.Avro(Order))).to(app.topic("big", value=sk.Avro(Order)))
    app.topic("sent", value=sk.JsonSchema(Order))  # by `send`: nothing reads it
    moves = app.topic("moves", value=sk.Protobuf(Move))
    app.stream(moves).to(moves)
    assert written(app.topology()) == {"big", "sent", "moves"}
    with opened(app.schemas, written(app.topology())):
        assert sorted(client.get_subjects()) == ["big-value", "moves-value", "sent-value"]


def test_a_registry_that_refuses_is_heard_at_the_start() -> None:
    client = in_memory()

    def refuse(*_: Any, **__: Any) -> None:
        raise SchemaRegistryError(409, 409, "READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1")

    client.register_schema_full_response = refuse
    app = sk.App("shop", schema_registry=client)
    app.stream(app.topic("orders", value=sk.Avro(Order))).to(app.topic("big", value=sk.Avro(Order)))
    with pytest.raises(RefusedError) as refused, opened(app.schemas, written(app.topology())):
        pass
    assert "refuses the Avro schema of big (values), subject big-value: READER_FIELD" in refused.value.message
    assert "a new field needs a default" in refused.value.hint


@pytest.mark.parametrize("options", [{"auto_register": False}, {"use_latest": True}])
def test_what_must_be_registered_already_is_looked_for_at_the_start(options: dict[str, bool]) -> None:
    client = in_memory()
    app = sk.App("shop", schema_registry=client)
    big = app.topic("big", value=sk.Avro(schema=ORDER, **options))  # type: ignore[call-overload]
    app.stream(app.topic("orders")).to(big)
    with pytest.raises(RefusedError) as refused, opened(app.schemas, {"big"}):
        pass
    assert "subject big-value: Schema Not Found" in refused.value.message
    assert "auto_register=True" in refused.value.hint
    Theirs(client).avro("big", {"product": "p", "amount": 1, "at": 0, "colour": "red"})
    with opened(app.schemas, {"big"}):
        assert client.get_versions("big-value") == [1]


def test_subjects_are_named_by_topic_by_record_or_by_a_function() -> None:
    client = in_memory()
    app = sk.App("shop", schema_registry=client)
    app.topic("a", value=sk.Avro(Order, namespace="shop", subject="record"))
    app.topic("b", value=sk.Avro(Order, namespace="shop", subject="topic-record"))
    app.topic("c", value=sk.Protobuf(Move, subject=lambda context, record: f"{context.topic}/{record}"))
    app.topic("d", value=sk.JsonSchema(schema=CLICK, subject="record"), key=sk.Avro(int))
    app.topic("e", value=sk.Avro(Order, config={"subject.name.strategy.type": "TOPIC_RECORD"}))
    with opened(app.schemas, {"a", "b", "c", "d", "e"}):
        assert sorted(client.get_subjects()) == [
            *("Click", "b-shop.Order", "c/game.Move", "d-key", "e-Order", "shop.Order")
        ]


def test_send_makes_the_schema_known_first() -> None:
    client = in_memory()
    app = sk.App("shop", schema_registry=client)
    orders = app.topic("orders", value=sk.Avro(Order))
    with pytest.raises(RefusedError, match="while the app runs"):
        orders.value.encode(Order("pump"))
    with opened(app.schemas):
        asyncio.run(ready(orders))
        assert client.get_subjects() == ["orders-value"]


def test_a_registry_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    app = sk.App("shop")
    app.topic("orders", value=sk.Avro(Order))
    with pytest.raises(UsageError, match="no schema registry is named") as error, opened(app.schemas):
        pass
    assert "the values of orders are sk.Avro" in error.value.message
    monkeypatch.setenv("STREAMKIT_SCHEMA_REGISTRY", "mock://environment")
    with opened(app.schemas):
        pass


def test_a_registry_that_is_away_is_waited_for_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_memory, "PATIENCE_S", 0.25)
    app = sk.App("shop", schema_registry="http://user:secret@127.0.0.1:9")
    app.topic("orders", value=sk.Avro(Order))
    with pytest.raises(DeadlineError) as silent, opened(app.schemas, {"orders"}):
        pass
    assert "the schema registry at http://127.0.0.1:9 does not answer" in silent.value.message
    assert "secret" not in str(silent.value)


def test_whoever_must_say_who_he_is_hears_so() -> None:
    client = in_memory()

    def refuse(*_: Any, **__: Any) -> None:
        raise SchemaRegistryError(401, 40101, "Unauthorized")

    client.register_schema_full_response = refuse
    app = sk.App("shop", schema_registry=client)
    app.topic("orders", value=sk.Avro(Order))
    with (
        pytest.raises(RefusedError, match="wants to know who asks") as refused,
        opened(app.schemas, {"orders"}),
    ):
        pass
    assert "basic.auth.user.info" in refused.value.hint


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: sk.Avro(complex), "Avro has no type for complex"),
        (lambda: sk.JsonSchema(complex), "no JSON Schema for"),
        (lambda: sk.Protobuf(Order), "is no Protobuf message"),
        (lambda: sk.Avro(Order, subject="table"), "is no subject name strategy"),  # type: ignore[call-overload]
        (lambda: sk.Avro(Order, auto_register=True, use_latest=True), "use_latest writes by a schema"),
        (lambda: sk.App("a").table("t", key=sk.Avro(Order)), "belong to a topic"),
    ],
)
def test_what_cannot_be_is_said_at_once(declare: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        declare()


@pytest.mark.parametrize(
    ("format", "words"),
    [
        (sk.Avro(schema="no schema"), "the Avro schema of out .values. cannot be used"),
        (sk.Avro(), "is not known, and they are written"),
        (sk.Avro(Order, config={"no.such": 1}), "no.such"),
    ],
)
def test_what_cannot_be_written_by_is_said_at_the_start(format: Any, words: str) -> None:
    app = sk.App("shop", schema_registry=in_memory())
    app.topic("out", value=format)
    with pytest.raises(StreamkitError, match=words), opened(app.schemas, {"out"}):
        pass


def test_a_package_that_is_not_there_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if "schema_registry" in name and name.endswith("avro")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastavro", None)
    app = sk.App("shop")
    app.topic("orders", value=sk.Avro(Order))
    with (
        pytest.raises(UsageError, match="needs packages that are not installed") as error,
        opened(app.schemas),
    ):
        pass
    assert error.value.hint == "pip install 'streamkit-log[avro]'"
