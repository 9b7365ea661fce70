"""A registry is asked once for each schema, never on the event loop; while it is silent, records wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from confluent_kafka.schema_registry import SchemaRegistryError

import streamkit as sk
from streamkit.processing.kafka import registry_memory
from streamkit.processing.kafka.registry_memory import Memory, Waiting
from streamkit.processing.kafka.schema_registry import _without_password, opened
from streamkit.processing.tasks.task import Batch, Task, TaskOutput
from streamkit.processing.testing import StoredRecord
from tests.processing.schemas.confluents import Theirs, in_memory

V1 = '{"type": "record", "name": "Order", "fields": [{"name": "product", "type": "string"}]}'
V2 = V1.replace("]}", ', {"name": "amount", "type": "double", "default": 0}]}')
PATIENCE_S = 10


class Order(msgspec.Struct):
    product: str
    amount: float = -1.0


class Counting:
    """A registry that counts questions, from which thread, and that may be silent."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.asked: Counter[str] = Counter()
        self.threads: set[str] = set()
        self.answers = threading.Event()
        self.answers.set()
        self.done = threading.Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_schema(self, *arguments: Any, **options: Any) -> Any:
        self.asked["get_schema"] += 1
        self.threads.add(threading.current_thread().name)
        try:
            if not self.answers.is_set():
                raise ConnectionRefusedError("nobody is there")
            return self._client.get_schema(*arguments, **options)
        finally:
            self.done.release()

    def get_latest_version(self, *arguments: Any, **options: Any) -> Any:
        self.asked["get_latest_version"] += 1
        return self._client.get_latest_version(*arguments, **options)


class Reader:
    """A task over one partition of `orders`, fed by hand."""

    def __init__(self, registry: Counting) -> None:
        self.registry = registry
        app = sk.App("shop", schema_registry=registry, on_error=sk.DeadLetter("bad"))
        orders = app.topic("orders", value=sk.Avro(Order))
        app.stream(orders).map(lambda order: [order.product, order.amount]).to("out")
        self.schemas = app.schemas
        plan = app.topology().plan({"orders": 1})
        self.task = Task(plan, plan.subtopologies[0], 0)
        self.task.start()
        self.records: list[StoredRecord] = []
        self.now_ms = 0

    def offer(self, *values: bytes) -> TaskOutput:
        for value in values:
            place = ("orders", 0, len(self.records))
            self.records.append(StoredRecord(place, (None, value), 0))
        position = self.task.position(("orders", 0))
        return self.task.process(Batch("orders", 0, self.records[position:]), self.now_ms)

    def offer_until(self, topic: str, count: int) -> list[Any]:
        """Offer again whenever the registry has said something, until so much has come out."""
        seen: list[Any] = []
        for _ in range(100):
            output = self.offer()
            seen += output.sinks.get(topic, [])
            if len(seen) >= count:
                return [record[0] for record in seen]
            assert output.wake_at_ms == self.now_ms + 20
            answered()
            self.now_ms += 20
        raise AssertionError(f"nothing came out in {topic}")


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader(Counting(in_memory()))
    with opened(reader.schemas):
        yield reader


def test_an_unknown_schema_is_asked_for_once_and_not_on_the_loop(reader: Reader) -> None:
    theirs = Theirs(reader.registry._client)
    old = theirs.avro("orders", {"product": "pump"}, V1)
    new = theirs.avro("orders", {"product": "hose", "amount": 2.0}, V2)
    assert not reader.offer(old, old, new, new).sinks, "its schema is not known yet"
    assert reader.offer_until("out", 4) == [b'["pump",-1.0]'] * 2 + [b'["hose",2.0]'] * 2
    assert reader.offer(old, new, new).consumed == 3
    assert reader.registry.asked["get_schema"] == 2
    assert reader.registry.threads == {"schemas"}


def test_while_the_registry_is_silent_records_wait_and_none_is_poison(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_memory, "PAUSE_S", (0.01, 0.02))
    data = Theirs(reader.registry._client).avro("orders", {"product": "pump"}, V1)
    reader.registry.answers.clear()
    output = reader.offer(data, b"no avro")
    for _ in range(5):
        assert reader.registry.done.acquire(timeout=PATIENCE_S), "it is asked again"
        reader.now_ms += 20
        output = reader.offer()
        assert not output.sinks
        assert output.consumed == 0
        assert output.failure is None
    reader.registry.answers.set()
    assert reader.offer_until("out", 1) == [b'["pump",-1.0]']
    assert reader.task.dead_letters.total() == 1, "what is no Avro is an error of its record"


def test_what_no_schema_is_known_for_is_an_error_of_its_record(reader: Reader) -> None:
    unknown = b"\x00\x00\x00\x00\x63" + b"\x08pump"
    reader.offer(unknown, b'{"product": "pump"}', b"\x00", b"")
    assert reader.offer_until("bad", 4) == [unknown, b'{"product": "pump"}', b"\x00", b""]
    assert {error for _, error in reader.task.dead_letters} == {"SchemaRegistryError", "SerializationError"}


def test_what_fits_its_schema_and_not_the_class_is_an_error_of_its_record(reader: Reader) -> None:
    other = V1.replace("product", "name")
    reader.offer(Theirs(reader.registry._client).avro("orders", {"name": "pump"}, other))
    assert len(reader.offer_until("bad", 1)) == 1
    assert {error for _, error in reader.task.dead_letters} == {"ValidationError"}


def test_the_latest_version_is_asked_for_again_while_the_old_one_serves() -> None:
    registry = Counting(in_memory())
    registry.register_schema_full_response("s", _schema(V1))
    waiting = Waiting(memory := Memory(registry, "mock://", latest_ttl_s=60.0))
    assert waiting.get_latest_version("s").version == 1
    assert waiting.get_latest_version("s").version == 1
    assert registry.asked["get_latest_version"] == 1
    registry.register_schema_full_response("s", _schema(V2))
    memory.latest_ttl_s = 0.0
    assert waiting.get_latest_version("s").version == 1
    answered()
    assert waiting.get_latest_version("s").version == 2


def test_an_unknown_schema_may_be_known_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    client = in_memory()
    waiting = Waiting(Memory(client, "mock://"))
    with pytest.raises(SchemaRegistryError):
        waiting.get_schema(1)
    client.register_schema_full_response("s", _schema(V1))
    with pytest.raises(SchemaRegistryError):
        waiting.get_schema(1)
    monkeypatch.setattr(registry_memory, "REFUSAL_S", 0.0)
    assert waiting.get_schema(1).schema_str == V1


def test_refusals_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_memory, "REFUSAL_S", 0.0)
    waiting = Waiting(memory := Memory(in_memory(), "mock://"))
    for number in range(10):
        with pytest.raises(SchemaRegistryError):
            waiting.get_schema(number)
    assert len(memory._answers) == 1


def test_questions_may_hold_dicts() -> None:
    waiting = Waiting(Memory(in_memory(), "mock://"))
    for _ in range(2):
        with pytest.raises(SchemaRegistryError):
            waiting.get_latest_with_metadata("s", {"owner": "ann"})


def answered() -> None:
    """Nobody asks any more."""
    for thread in threading.enumerate():
        if thread.name == "schemas":
            thread.join(PATIENCE_S)


def _schema(text: str) -> Any:
    from confluent_kafka.schema_registry import Schema

    return Schema(text, "AVRO")


@pytest.mark.parametrize("password", ["secret", "p@secret", "a@b@secret"])
def test_passwords_in_its_address_are_not_told(password: str) -> None:
    assert _without_password(f"http://ann:{password}@host:8081/v1") == "http://host:8081/v1"
