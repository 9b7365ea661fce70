"""Both ways of messaging: shared within a group, seen whole by each group."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException

from apps.orders import Invoice, Order, Parcel, billing, orders, parcels, place, warehouse
from streamkit.cli.admin import Cluster
from tests.support.broker_process import REPOSITORY, BrokerProcess, environment, streamkit
from tests.support.worker_process import eventually


def test_an_order_leaves_the_next_shelf_of_its_product() -> None:
    with warehouse.test() as driver:
        for number, product in enumerate(("Laptop", "Phone", "Laptop"), 1):
            driver.send(orders, Order(number, product, 10.0), key=product)
        assert driver.read(parcels) == [
            Parcel(1, "Laptop", shelf=1), Parcel(2, "Phone", shelf=1), Parcel(3, "Laptop", shelf=2),
        ]  # fmt: skip


def test_an_order_as_the_guide_writes_it_is_understood() -> None:
    with billing.test() as driver:
        driver.send("orders", b'{"order_id": 101, "product": "Laptop"}', key=b"101")
        driver.send("orders", Order(102, "Phone", 100.0), key="102")
        assert driver.read("invoices") == [Invoice(101, total=0.0), Invoice(102, total=119.0)]


def test_one_group_shares_the_orders_and_another_sees_them_all(
    new_broker: Callable[[], BrokerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = new_broker().start()
    monkeypatch.setenv("STREAMKIT_BOOTSTRAP", broker.bootstrap)
    workers = [
        start_worker(broker, "apps.orders:warehouse", "-w", "2"),
        start_worker(broker, "apps.orders:billing"),
    ]
    try:
        wait_for_members(broker, {"warehouse": 2, "billing": 1})
        asyncio.run(place(60, ["Laptop", "Phone", "Tablet"]))
        packed = [msgspec.json.decode(value, type=Parcel) for value in read(broker, "parcels", 60)]
        invoiced = [msgspec.json.decode(value, type=Invoice) for value in read(broker, "invoices", 60)]
    finally:
        codes = [stop(worker) for worker in workers]
    assert codes == [0, 0]
    assert Counter(parcel.order_id for parcel in packed) == Counter(range(1, 61))
    for product in ("Laptop", "Phone", "Tablet"):
        own = [parcel for parcel in packed if parcel.product == product]
        assert [parcel.shelf for parcel in own] == list(range(1, 21))
        assert [parcel.order_id for parcel in own] == sorted(parcel.order_id for parcel in own)
    assert {invoice.order_id for invoice in invoiced} == set(range(1, 61))


def start_worker(broker: BrokerProcess, *words: str) -> subprocess.Popen[bytes]:
    command = streamkit("worker", *words, "--bootstrap", broker.bootstrap)
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stderr=subprocess.DEVNULL)


def stop(worker: subprocess.Popen[bytes]) -> int:
    worker.send_signal(signal.SIGTERM)
    return worker.wait(30)


def wait_for_members(broker: BrokerProcess, members: dict[str, int], timeout_s: float = 30) -> None:
    """Until each group is stable with so many members."""
    admin = Cluster(broker.bootstrap).admin
    found: dict[str, tuple[str, int]] = {}

    def settled() -> bool:
        for name, answer in admin.describe_consumer_groups(list(members)).items():
            with suppress(KafkaException):  # a coordinator may still be on its way
                group = answer.result(10)
                found[name] = (group.state.name, len(group.members))
        return found == {name: ("STABLE", count) for name, count in members.items()}

    eventually(settled, lambda: f"groups are {found}", patience_s=timeout_s)


def read(broker: BrokerProcess, topic: str, count: int) -> list[bytes]:
    """The first `count` values of a topic."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "test", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    try:
        consumer.subscribe([topic])
        values: list[bytes] = []
        deadline = time.monotonic() + 30
        while len(values) < count and time.monotonic() < deadline:
            values += [m.value() for m in consumer.consume(count - len(values), 0.2) if not m.error()]
        assert len(values) == count
        return values
    finally:
        consumer.close()
