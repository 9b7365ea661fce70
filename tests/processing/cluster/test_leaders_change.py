"""Where a changelog ends is told by its leader, whoever that is by now; silence is not an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from confluent_kafka.admin import OffsetSpec

from streamkit.cli.admin import Cluster
from streamkit.processing.kafka.transactional_sink import KafkaTransactionalSink
from streamkit.runtime.os.clock import SystemClock
from tests.processing.cluster.members import WAIT_S
from tests.support.broker_cluster import Nodes
from tests.support.worker_process import Outside

PLACE = ("changelog", 0)


async def test_the_end_is_known_again_after_its_leader_was_killed(
    new_cluster: Callable[..., Nodes[Any]], name: str
) -> None:
    cluster = await asyncio.to_thread(new_cluster(3).start)
    outside = Outside(cluster.bootstrap)
    await asyncio.to_thread(outside.create, *PLACE[:1])
    await asyncio.to_thread(outside.send, PLACE[0], range(10))
    sink = KafkaTransactionalSink(cluster.bootstrap, {}, SystemClock(), {}, name)
    commands = Cluster(cluster.bootstrap)
    assert await sink.ends([PLACE]) == commands.offsets([PLACE], OffsetSpec.latest()) == {PLACE: 10}
    await asyncio.to_thread(cluster[outside.leader(*PLACE)].kill)
    async with asyncio.timeout(WAIT_S):
        while not (found := await sink.ends([PLACE])):
            await asyncio.sleep(0.1)
    assert found == {PLACE: 10}
    assert await asyncio.to_thread(commands.offsets, [PLACE], OffsetSpec.latest()) == {PLACE: 10}
    await sink.close()
