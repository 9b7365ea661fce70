"""kill -9 of the broker under load: nothing acknowledged is lost, nothing is written twice, groups resume.

An idempotent producer and a committing group member run through every kill. Afterwards the partitions are
read by a client that saw none of it, and compared with what was acknowledged.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.load import PARTITIONS, Group, Load, nothing_lost_or_doubled, read_all, wait_for
from tests.support.broker_process import BrokerProcess


@pytest.mark.parametrize(
    "kills", [pytest.param(3, id="3-kills"), pytest.param(20, id="20-kills", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_kill_9_of_the_broker_loses_and_duplicates_nothing(
    new_broker: Callable[..., BrokerProcess], name: str, kills: int
) -> None:
    seed = int(os.environ.get("STREAMKIT_CHAOS_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    moments = random.Random(seed)
    broker = new_broker().start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
    load = Load(broker.bootstrap, name)
    group = Group(broker.bootstrap, name, f"g-{name}")
    load.thread.start()
    group.thread.start()
    try:
        for kill in range(kills):
            acknowledged, consumed = len(load.acknowledged), group.consumed
            wait_for(
                lambda a=acknowledged: len(load.acknowledged) > a + 100,  # type: ignore[misc]
                f"writes go on before kill {kill + 1}",
            )
            if kill % 4 == 3:
                wait_for(lambda c=consumed: group.consumed > c, "the group goes on")  # type: ignore[misc]
            time.sleep(moments.uniform(0, 1))
            broker.kill()
            broker.start()
    finally:
        load.stopping.set()
        group.stopping.set()
    load.finish()
    wait_for(lambda: not group.thread.is_alive(), "the group member leaves")
    group.finish()

    stored = nothing_lost_or_doubled([load], read_all(broker.bootstrap, name))
    assert group.committed, "the group committed during the run"
    survivor = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"g-{name}"})
    places = [TopicPartition(name, p) for p in group.committed]
    for entry in survivor.committed(places, timeout=30):
        assert entry.offset >= group.committed[entry.partition], "a commit was acknowledged and lost"
    survivor.close()
    print(
        f"{kills} kills: {len(load.acknowledged)} acknowledged, {stored} stored, 0 lost, 0 duplicated; "
        f"the group consumed {group.consumed}, commits {sorted(group.committed.items())}"
    )
