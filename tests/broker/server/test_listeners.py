"""What is served where: clients at their listeners, other nodes at the controllers'."""

from __future__ import annotations

import struct
from pathlib import Path

from streamkit.protocol.api import ApiKey
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.api_versions import ApiVersionsRequest
from streamkit.protocol.messages.describe_cluster import DescribeClusterRequest
from streamkit.protocol.messages.metadata import MetadataRequest
from tests.broker.server.wire import Wire, connected, running

BOTH = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
FOR_CLIENTS_ONLY = {ApiKey.PRODUCE, ApiKey.METADATA, ApiKey.JOIN_GROUP, ApiKey.FIND_COORDINATOR}
BROKERS, CONTROLLERS = 1, 2


async def advertised(wire: Wire) -> set[int]:
    return {one.api_key for one in (await wire.ask(ApiVersionsRequest(), 0)).api_keys}


async def test_a_controller_listener_advertises_and_serves_what_belongs_there(tmp_path: Path) -> None:
    async with (
        running(tmp_path, listeners=BOTH) as broker,
        connected(broker) as client,
        connected(broker, "CONTROLLER") as node,
    ):
        assert await advertised(client) >= FOR_CLIENTS_ONLY
        assert await advertised(node) == broker.dispatcher("CONTROLLER").routes.keys()
        assert not await advertised(node) & FOR_CLIENTS_ONLY
        node.send_raw(struct.pack(">hhih", ApiKey.METADATA, 9, 1, -1) + bytes(10))
        assert await node.is_closed()
        assert await advertised(client)


async def test_clients_are_not_told_of_a_controller_listener(tmp_path: Path) -> None:
    async with running(tmp_path, listeners=BOTH) as broker, connected(broker) as client:
        metadata = await client.ask(MetadataRequest(topics=None), 9)
        assert [one.port for one in metadata.brokers] == [broker.listeners["PLAINTEXT"].port]
        assert [one.name for one in broker.metadata.brokers[1].endpoints] == ["PLAINTEXT"]


async def test_kip_919_controllers_are_described_at_their_listener_and_brokers_at_theirs(
    tmp_path: Path,
) -> None:
    async with (
        running(tmp_path, listeners=BOTH) as broker,
        connected(broker) as client,
        connected(broker, "CONTROLLER") as node,
    ):
        controllers = await node.ask(DescribeClusterRequest(endpoint_type=CONTROLLERS), 1)
        assert (controllers.error_code, controllers.endpoint_type) == (ErrorCode.NONE, CONTROLLERS)
        assert controllers.cluster_id == broker.directory.cluster_id
        assert controllers.controller_id == 1
        brokers = await client.ask(DescribeClusterRequest(endpoint_type=BROKERS), 1)
        assert [one.broker_id for one in brokers.brokers] == [1]
        for wire, wrong in ((node, BROKERS), (client, CONTROLLERS)):
            refused = await wire.ask(DescribeClusterRequest(endpoint_type=wrong), 1)
            assert refused.error_code == ErrorCode.MISMATCHED_ENDPOINT_TYPE
        unknown = await node.ask(DescribeClusterRequest(endpoint_type=9), 1)
        assert unknown.error_code == ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
