"""Workers with a real registry: formats that others read and write, refusals at the start, and its death."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from tests.compatibility.registry.apicurio import Apicurio
from tests.processing.schemas.confluents import ORDER, Move, Theirs
from tests.support.broker_process import BrokerProcess
from tests.support.worker_process import WorkerProcess

pytestmark = pytest.mark.compat_java

JOB = Path(__file__).parent / "jobs" / "shop.py"
WAIT_S = 60
AT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
WIDER = json.dumps(
    {
        **json.loads(ORDER),
        "fields": [*json.loads(ORDER)["fields"], {"name": "n", "type": "int", "default": 0}],
    }
)


@pytest.fixture
def worker(
    broker: BrokerProcess, registry: Apicurio, name: str, tmp_path: Path
) -> Callable[[], WorkerProcess]:
    """Not started yet; its topics begin with `name`."""
    return lambda: WorkerProcess(
        JOB, broker.bootstrap, cwd=tmp_path, NAME=name, STREAMKIT_SCHEMA_REGISTRY=registry.url
    )


class Wire:
    """Bytes in and out of topics."""

    def __init__(self, bootstrap: str) -> None:
        self._conf = {"bootstrap.servers": bootstrap}

    def send(self, topic: str, *values: bytes) -> None:
        producer = Producer(self._conf)
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(WAIT_S) == 0

    def read(self, topic: str, count: int) -> list[bytes]:
        consumer = Consumer({**self._conf, "group.id": "reader"})
        partitions = consumer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        try:
            found = consumer.consume(count, WAIT_S)
        finally:
            consumer.close()
        assert len(found) == count, f"{len(found)} of {count} records in {topic}"
        return [value for message in found if (value := message.value()) is not None]


def order(amount: float) -> dict[str, Any]:
    return {"product": "pump", "amount": amount, "at": AT, "colour": "red"}


def test_each_format_is_read_from_others_and_by_them(
    broker: BrokerProcess, registry: Apicurio, name: str, worker: Callable[[], WorkerProcess]
) -> None:
    theirs, wire = Theirs(registry.client), Wire(broker.bootstrap)
    with worker() as shop:
        shop.said("worker started")
        wire.send(f"{name}-orders", theirs.avro(f"{name}-orders", order(1.0)))
        wire.send(f"{name}-clicks", theirs.json(f"{name}-clicks", {"page": "/", "ms": 1}))
        wire.send(f"{name}-moves", theirs.protobuf(f"{name}-moves", Move(unit="knight", x=3)))
        (avro,) = wire.read(f"{name}-orders-out", 1)
        written = {"product": "pump", "amount": 2.0, "note": None}
        assert theirs.from_avro(f"{name}-orders-out", avro) == written
        (clicked,) = wire.read(f"{name}-clicks-out", 1)
        assert theirs.from_json(f"{name}-clicks-out", clicked) == {"page": "/", "ms": 2}
        (moved,) = wire.read(f"{name}-moves-out", 1)
        assert theirs.from_protobuf(f"{name}-moves-out", moved, Move) == Move(unit="knight", x=4)
        assert shop.stop() == 0
    assert registry.client.get_versions(f"{name}-orders-value") == [1], "who reads registers nothing"


def test_a_schema_that_is_not_compatible_ends_the_worker_before_it_works(
    registry: Apicurio, name: str, worker: Callable[[], WorkerProcess]
) -> None:
    subject = f"{name}-orders-out"
    Theirs(registry.client).avro(subject, {"product": 7}, _of("Order", product="int"))
    registry.client.set_compatibility(f"{subject}-value", "BACKWARD")
    shop = worker().start()
    assert shop.wait() == 5
    said = "\n".join(shop.log)
    assert f"refuses the Avro schema of {subject} (values), subject {subject}-value" in said
    assert "make the change compatible" in said


def test_a_registry_that_dies_is_waited_for_and_its_schemas_were_in_our_log(
    broker: BrokerProcess, registry: Apicurio, name: str, worker: Callable[[], WorkerProcess]
) -> None:
    theirs, wire = Theirs(registry.client), Wire(broker.bootstrap)
    old = theirs.avro(f"{name}-orders", order(1.0))
    new = theirs.avro(f"{name}-orders", {**order(2.0), "n": 5}, WIDER)
    with worker() as shop:
        shop.said("worker started")
        wire.send(f"{name}-orders", old)
        wire.read(f"{name}-orders-out", 1)
        registry.kill()
        wire.send(f"{name}-orders", old, new, old)
        shop.said("the schema registry does not answer", times=2)
        registry.start()
        out = [theirs.from_avro(f"{name}-orders-out", data) for data in wire.read(f"{name}-orders-out", 4)]
        assert [record["amount"] for record in out] == [2.0, 2.0, 4.0, 2.0]
        assert shop.stop() == 0


def _of(record: str, **fields: str) -> str:
    return json.dumps(
        {"type": "record", "name": record, "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    )
