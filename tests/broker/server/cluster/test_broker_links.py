"""Connections to other brokers: whoever waits for one that is fenced is told so at once."""

from __future__ import annotations

import asyncio

import pytest

from streamkit.broker.controller.image import MetadataChanges, MetadataImage
from streamkit.broker.controller.records import (
    BrokerEndpoint,
    BrokerRegistrationChangeRecord,
    RegisterBrokerRecord,
)
from streamkit.broker.server.cluster.broker_links import BrokerLinks
from streamkit.net.peer import PeerLostError
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.runtime.os.network import TcpNetwork
from tests.net.test_peer import far_node


async def test_a_call_to_a_broker_that_is_fenced_meanwhile_fails_at_once() -> None:
    async with far_node() as far:
        image = MetadataImage()
        endpoint = BrokerEndpoint(name="PLAINTEXT", host="127.0.0.1", port=far.port)
        registered = RegisterBrokerRecord(broker_id=2, broker_epoch=7, fenced=False, end_points=[endpoint])
        image.replay(registered, 0, MetadataChanges())
        links = BrokerLinks(TcpNetwork(), lambda: image, node_id=1, listener="PLAINTEXT")
        call = asyncio.ensure_future(links.call(2, DescribeClusterRequest(), 1, 30_000))
        await far.received(1)
        links.refresh()
        assert not call.done(), "it is alive"
        fenced = BrokerRegistrationChangeRecord(broker_id=2, broker_epoch=7, fenced=1)
        image.replay(fenced, 1, MetadataChanges())
        links.refresh()
        with pytest.raises(PeerLostError):
            await asyncio.wait_for(call, 1)
        links.close()
