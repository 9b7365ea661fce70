"""The way to the controller: from a node that does not decide to one that does, and what may go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit.broker.server.cluster.controller_channel import ControllerChannel, NoControllerError
from streamkit.broker.server.controller.active_controller import NotControllerError
from streamkit.broker.server.dispatch import Dispatcher, InnerRequest, Metrics, Route
from streamkit.broker.server.node import Broker
from streamkit.broker.server.principal import ANONYMOUS, encode_principal
from streamkit.broker.server.refusals import refused
from streamkit.broker.server.routes import CONTROLLER_ROUTES
from streamkit.protocol.api import APIS, ApiKey
from streamkit.protocol.codec import encode
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.framing import RequestHeader, decode_response, encode_request
from streamkit.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from streamkit.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest
from streamkit.protocol.messages.create_topics import (
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from streamkit.protocol.messages.delete_topics import DeleteTopicsRequest
from streamkit.protocol.messages.describe_quorum import (
    DescribeQuorumResponse,
    DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseTopicData,
)
from streamkit.protocol.messages.elect_leaders import ElectLeadersRequest
from streamkit.protocol.messages.envelope import EnvelopeRequest
from streamkit.protocol.messages.metadata import MetadataRequest
from streamkit.protocol.schema import Message
from streamkit.runtime.os.network import TcpNetwork
from streamkit.telemetry.instruments import Registry
from tests.broker.server.wire import connected, running

BOTH = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
LOOPBACK = b"\x7f\0\0\1"


class Elsewhere:
    """A quorum as a node sees it that does not lead."""

    is_active = False

    def __init__(self, leader_id: int | None = None, endpoint: tuple[str, int] | None = None) -> None:
        self.leader_id = leader_id
        self.leader_endpoint = endpoint


class Replaying:
    """Notes how far the node had to be before it answered."""

    def __init__(self) -> None:
        self.waited_for: list[int] = []

    async def reached(self, offset: int) -> None:
        self.waited_for.append(offset)


class Far:
    """A node beside a broker that decides; what it asks of its own handlers never works."""

    def __init__(self, quorum: Elsewhere) -> None:
        self.publisher: Any = Replaying()
        self.quorum = quorum
        self.metrics = Registry()

    def channel(self, broker: Broker) -> ControllerChannel:
        return ControllerChannel(
            self.quorum, self.publisher, broker.dispatcher("CONTROLLER"), TcpNetwork(), node_id=2
        )


def of_controller(broker: Broker) -> Elsewhere:
    return Elsewhere(1, ("127.0.0.1", broker.listeners["CONTROLLER"].port))


def telling_its_end(broker: Broker) -> None:
    """Have the broker describe its quorum as far as the channel looks at it."""

    def describe(broker: Broker, request: object, message: object) -> DescribeQuorumResponse:
        end = DescribeQuorumResponsePartitionData(leader_id=1, high_watermark=broker.quorum.high_watermark)
        topics = [DescribeQuorumResponseTopicData(topic_name="__cluster_metadata", partitions=[end])]
        return DescribeQuorumResponse(topics=topics)

    replaced(broker, ApiKey.DESCRIBE_QUORUM, describe)


def replaced(
    broker: Broker, api: ApiKey, handle: Callable[[Any, Any, Any], Message | Awaitable[Message]]
) -> None:
    """Have the broker's controller listener serve `api` by `handle`."""
    dispatcher = broker.dispatcher("CONTROLLER")
    other = Dispatcher(broker, [Route(api, 0, 99, handle)], Metrics(Registry()))
    dispatcher.routes |= other.routes
    dispatcher._served |= other._served


def wanted(*names: str) -> CreateTopicsRequest:
    return CreateTopicsRequest(
        topics=[CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in names]
    )


def of_client(message: Message, version: int) -> InnerRequest:
    header = RequestHeader(api_key=message.KEY, api_version=version, correlation_id=77, client_id="app")
    return InnerRequest(header, listener="PLAINTEXT", client_host="10.1.2.3")


async def test_kip_590_a_clients_request_is_carried_out_by_the_controller_and_true_here_when_answered(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, listeners=BOTH) as broker:
        telling_its_end(broker)
        far = Far(of_controller(broker))
        channel = far.channel(broker)
        message = wanted("orders")
        answer: Any = await channel.pass_on(of_client(message, 5), message)
        assert [(one.name, one.error_code) for one in answer.topics] == [("orders", ErrorCode.NONE)]
        assert "orders" in broker.metadata.topics
        assert far.publisher.waited_for == [broker.quorum.high_watermark]
        channel.close()


async def test_what_a_node_asks_for_itself_goes_the_same_way(tmp_path: Path) -> None:
    async with running(tmp_path, listeners=BOTH) as broker:
        telling_its_end(broker)
        channel = Far(of_controller(broker)).channel(broker)
        epoch = broker.controller_client.broker_epoch
        block = await channel.ask(AllocateProducerIdsRequest(broker_id=1, broker_epoch=epoch))
        assert (block.error_code, block.producer_id_len) == (ErrorCode.NONE, 1000)
        answer = await channel.ask(wanted("ours"))
        assert answer.topics[0].error_code == ErrorCode.NONE
        channel.close()


async def test_it_waits_for_a_controller_to_be_known(tmp_path: Path) -> None:
    async with running(tmp_path, listeners=BOTH) as broker:
        telling_its_end(broker)
        far = Far(Elsewhere())
        channel = far.channel(broker)
        asking = asyncio.ensure_future(channel.ask(wanted("late")))
        await asyncio.sleep(0.05)
        assert not asking.done()
        far.quorum.leader_id, far.quorum.leader_endpoint = 1, of_controller(broker).leader_endpoint
        assert (await asking).topics[0].error_code == ErrorCode.NONE
        channel.close()


async def test_a_node_that_decides_no_more_is_asked_again_until_the_deadline(tmp_path: Path) -> None:
    asked = 0

    async def inactive(broker: Broker, request: object, message: object) -> Message:
        nonlocal asked
        asked += 1
        raise NotControllerError("not me")

    async with running(tmp_path, listeners=BOTH) as broker:
        channel = Far(of_controller(broker)).channel(broker)
        replaced(broker, ApiKey.ALLOCATE_PRODUCER_IDS, inactive)
        with pytest.raises(NoControllerError, match=r"within 200 ms: .*does not decide"):
            await channel.ask(AllocateProducerIdsRequest(), timeout_ms=200)
        assert asked > 1
        channel.close()


async def test_a_controller_that_is_silent_is_left_when_another_is_elected(tmp_path: Path) -> None:
    arrived = asyncio.Event()

    async def silent(broker: Broker, request: object, message: object) -> Message:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        running(tmp_path / "old", listeners=BOTH) as old,
        running(tmp_path / "new", listeners=BOTH) as new,
    ):
        far = Far(of_controller(old))
        channel = far.channel(new)
        telling_its_end(new)
        replaced(old, ApiKey.ENVELOPE, silent)
        asking = asyncio.ensure_future(channel.ask(wanted("orders")))
        await asyncio.wait_for(arrived.wait(), 10)
        far.quorum.leader_endpoint, far.quorum.leader_id = of_controller(new).leader_endpoint, 2
        answer = await asyncio.wait_for(asking, 10)
        assert answer.topics[0].error_code == ErrorCode.NONE
        assert "orders" in new.metadata.topics
        channel.close()


async def test_a_heartbeat_does_not_wait_for_a_clients_slow_request(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(broker: Broker, request: object, message: object) -> Message:
        arrived.set()
        await go_on.wait()
        raise NotControllerError("not me")

    async with running(tmp_path, listeners=BOTH) as broker:
        channel = Far(of_controller(broker)).channel(broker)
        replaced(broker, ApiKey.ENVELOPE, slow)
        asking = asyncio.ensure_future(channel.ask(wanted("orders"), timeout_ms=60_000))
        await asyncio.wait_for(arrived.wait(), 10)
        epoch = broker.controller_client.broker_epoch
        beat = await channel.ask(BrokerHeartbeatRequest(broker_id=1, broker_epoch=epoch), timeout_ms=10_000)
        assert beat.error_code == ErrorCode.NONE
        assert not asking.done()
        asking.cancel()
        go_on.set()
        channel.close()


async def test_a_controller_that_cannot_be_reached_is_tried_until_the_deadline(tmp_path: Path) -> None:
    async with running(tmp_path, listeners=BOTH) as broker:
        port = broker.listeners["CONTROLLER"].port
        far = Far(Elsewhere(1, ("127.0.0.1", port)))
        channel = far.channel(broker)
        broker.listeners["CONTROLLER"].stop_accepting()
        with pytest.raises(NoControllerError):
            await channel.ask(AllocateProducerIdsRequest(), timeout_ms=100)


async def test_a_client_hears_in_its_own_format_that_nobody_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as broker, connected(broker) as client:

        async def nobody(request: InnerRequest, message: Message) -> Message:
            raise NoControllerError("nobody decided")

        monkeypatch.setattr(broker.channel, "pass_on", nobody)
        answer = await client.ask(wanted("a", "b"), 5)
        assert [(one.name, one.error_code) for one in answer.topics] == [
            ("a", ErrorCode.REQUEST_TIMED_OUT),
            ("b", ErrorCode.REQUEST_TIMED_OUT),
        ]


async def test_a_node_that_does_not_decide_says_so_of_each_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running(tmp_path, listeners=BOTH) as broker,
        connected(broker, "CONTROLLER") as node,
    ):
        monkeypatch.setattr(type(broker.quorum), "is_active", False)
        answer = await node.ask(wanted("a"), 5)
        assert answer.topics[0].error_code == ErrorCode.NOT_CONTROLLER
        enveloped = await node.ask(in_envelope(wanted("a"), 5), 0)
        assert (enveloped.error_code, enveloped.response_data) == (ErrorCode.NOT_CONTROLLER, None)
        ids = await node.ask(AllocateProducerIdsRequest(), 0)
        assert ids.error_code == ErrorCode.NOT_CONTROLLER


# -- what is in an envelope ----------------------------------------------------------------------------------


def in_envelope(message: Message, version: int, **fields: Any) -> EnvelopeRequest:
    frame = b"".join(encode_request(message, version, correlation_id=77, client_id="app"))
    return EnvelopeRequest(
        **{
            "request_data": frame[4:],
            "request_principal": encode_principal(ANONYMOUS),
            "client_host_address": LOOPBACK,
            **fields,
        }
    )


async def test_an_envelope_is_answered_with_the_clients_correlation_id(tmp_path: Path) -> None:
    async with (
        running(tmp_path, listeners=BOTH) as broker,
        connected(broker, "CONTROLLER") as node,
    ):
        response = await node.ask(in_envelope(wanted("orders"), 5), 0)
        assert response.error_code == ErrorCode.NONE
        correlation_id, answer = decode_response(CreateTopicsResponse, response.response_data, 5)
        assert correlation_id == 77
        assert answer.topics[0].name == "orders"


@pytest.mark.parametrize(
    ("unfit", "code"),
    [
        (in_envelope(MetadataRequest(), 5), ErrorCode.INVALID_REQUEST),
        (in_envelope(AllocateProducerIdsRequest(), 0), ErrorCode.INVALID_REQUEST),
        (in_envelope(in_envelope(wanted("a"), 5), 0), ErrorCode.INVALID_REQUEST),
        (in_envelope(wanted("a"), 5, request_data=b"\0"), ErrorCode.INVALID_REQUEST),
        (in_envelope(wanted("a"), 5, client_host_address=b"\1\2"), ErrorCode.INVALID_REQUEST),
        (in_envelope(wanted("a"), 5, request_principal=b"?"), ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE),
        (in_envelope(wanted("a"), 5, request_principal=None), ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE),
    ],
)
async def test_what_may_not_be_in_an_envelope_is_refused(
    tmp_path: Path, unfit: EnvelopeRequest, code: ErrorCode
) -> None:
    async with (
        running(tmp_path, listeners=BOTH) as broker,
        connected(broker, "CONTROLLER") as node,
    ):
        response = await node.ask(unfit, 0)
        assert (response.error_code, response.response_data) == (code, None)
        assert not broker.metadata.topics


async def test_envelopes_are_not_for_clients(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as client:
        client.send(in_envelope(wanted("a"), 5), 0)
        assert await client.is_closed()


# -- refusing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [one for one in CONTROLLER_ROUTES if one.by_controller])
def test_whatever_is_passed_on_can_be_refused_in_its_own_format(route: Route) -> None:
    api = APIS[route.api]
    response = refused(api.request(), ErrorCode.NOT_CONTROLLER)
    assert isinstance(response, api.response)
    for version in range(route.min_version, route.max_version + 1):
        encode(response, version)


def test_a_refusal_names_every_item() -> None:
    answer: Any = refused(DeleteTopicsRequest(topic_names=["a", "b"]), ErrorCode.NOT_CONTROLLER)
    assert [(one.name, one.error_code) for one in answer.responses] == [("a", 41), ("b", 41)]
    elections: Any = refused(ElectLeadersRequest(), ErrorCode.NOT_CONTROLLER)
    assert elections.error_code == 41
