"""What a simulated client believes of the cluster."""

from __future__ import annotations

from random import Random

from streamkit.protocol.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from streamkit.simulation.loop import virtual_loop
from streamkit.simulation.network import Network
from streamkit.simulation.owner import Owner
from streamkit.simulation.trace import Trace
from streamkit.simulation.workload.client import Client


def led_by(leader_id: int, leader_epoch: int) -> MetadataResponse:
    return MetadataResponse(
        brokers=[MetadataResponseBroker(node_id=one, host=f"node-{one}", port=9092) for one in (1, 2)],
        topics=[
            MetadataResponseTopic(
                name="orders",
                partitions=[
                    MetadataResponsePartition(
                        partition_index=0, leader_id=leader_id, leader_epoch=leader_epoch
                    )
                ],
            )
        ],
    )


def test_a_leader_that_was_replaced_is_not_believed_again() -> None:
    with virtual_loop() as loop:
        network = Network(loop, Random(1), Trace(loop))
        client = Client("client", network.port_for("client", Owner("client")), [], Random(1))
        client.learn(led_by(2, 1))
        client.mistrust("orders", 0)
        client.learn(led_by(1, 0))
        assert client._leaders == {}
        client.learn(led_by(1, 2))
        assert client._leaders == {("orders", 0): (1, 2)}
