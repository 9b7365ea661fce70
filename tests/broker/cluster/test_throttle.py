"""A throttled move on real brokers: as fast as its bound, and nobody but the new replica notices."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamkit.cli.asking import ask
from streamkit.client.cluster import Partition, partitions
from tests.support.broker_cluster import BrokerCluster
from tests.support.broker_process import BrokerProcess
from tests.support.command_line import Cli

RECORD_BYTES, RECORDS = 100_000, 240
RATE = 6_000_000
FIRST_WINDOW_S = 1
"""Within which as much may be copied as in any second, and at once."""


def fill(bootstrap: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5})
    for n in range(RECORDS):
        producer.produce("t", bytes([n]) * RECORD_BYTES, partition=0)
    assert producer.flush(60) == 0


def read_all(bootstrap: str) -> float:
    """How long it takes to read what was filled in."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers"})
    consumer.assign([TopicPartition("t", 0, 0)])
    began_s, left = time.monotonic(), RECORDS
    while left:
        assert time.monotonic() < began_s + 30
        left -= sum(one.error() is None for one in consumer.consume(left, 1))
    consumer.close()
    return time.monotonic() - began_s


def written_s(producer: Producer) -> float:
    """How long an acknowledgement by everybody in sync takes."""
    began_s = time.monotonic()
    producer.produce("t", b"meanwhile", partition=0)
    assert producer.flush(30) == 0
    return time.monotonic() - began_s


def state(cluster: BrokerCluster) -> Partition:
    (one,) = ask(cluster.bootstrap, lambda node: partitions(node, ["t"]))
    return one


def metric(node: BrokerProcess, name: str, role: str) -> float:
    with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    (value,) = re.findall(rf'^streamkit_{name}{{role="{role}"}} (\S+)$', text, re.MULTILINE)
    return float(value)


@pytest.mark.timeout(120)
def test_a_throttled_move(new_cluster: Callable[..., BrokerCluster]) -> None:
    cluster = new_cluster(3, "--http", "127.0.0.1:0").start()
    cli = Cli(cluster.bootstrap)
    cli.out("topic", "create", "t", "-r", "2")
    first, second = state(cluster).replicas
    third = ({1, 2, 3} - {first, second}).pop()
    fill(cluster.bootstrap)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "linger.ms": 0})
    written_s(producer)

    words = ("partition", "move", "t", "--to", f"{first},{second},{third}", "--throttle", "6MB", "--yes")
    with ThreadPoolExecutor(2) as aside:
        moving = aside.submit(cli.run, *words)
        while not cli.json("partition", "list", "--moving") and not moving.done():
            pass
        began_s = time.monotonic()
        reading = aside.submit(read_all, cluster.bootstrap)
        slowest_s, limit = 0.0, 0.0
        while third not in (now := state(cluster)).isr:
            assert {first, second} <= set(now.isr), "nobody left the ISR"
            slowest_s = max(slowest_s, written_s(producer))
            limit = metric(cluster[third], "replication_throttle_limit_bytes_per_second", "follower")
            if moving.done():
                assert moving.result().returncode == 0, moving.result().stderr
                break
            assert time.monotonic() < began_s + 60
        took_s = time.monotonic() - began_s
        done, read_s = moving.result(), reading.result()

    assert (done.returncode, done.stderr.decode().splitlines()[-1]) == (0, "the throttle is lifted")
    expected_s = RECORDS * RECORD_BYTES / RATE - FIRST_WINDOW_S
    print(
        f"moved in {took_s:.1f} s (>= {expected_s:.1f}), read in {read_s:.1f} s, written in {slowest_s:.2f} s"
    )
    assert 0.75 * expected_s <= took_s <= 3 * expected_s + 5
    assert read_s < 0.75 * took_s and slowest_s < took_s / 2
    assert limit == RATE
    for node, role in ((third, "follower"), (first, "leader")):
        assert metric(cluster[node], "replication_throttled_bytes_total", role) >= RECORDS * RECORD_BYTES
        assert metric(cluster[node], "replication_throttle_limit_bytes_per_second", role) == float("inf")
