"""Negotiation and refusals: PROTOCOL's framing traps as they appear on a socket."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from streamkit.broker.server.handlers.produce import PendingProduce
from streamkit.protocol.api import ApiKey
from streamkit.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tests.broker.server.wire import Wire, batch, connected, produce_request, running, topic

UNSUPPORTED_VERSION = 35
INVALID_REQUEST = 42
SOFTWARE = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")


async def versions(wire: Wire, version: int = 3) -> dict[int, tuple[int, int]]:
    response: ApiVersionsResponse = await wire.ask(SOFTWARE, version)
    assert response.error_code == 0
    return {one.api_key: (one.min_version, one.max_version) for one in response.api_keys}


@pytest.mark.parametrize("version", range(5))
async def test_trap_1_the_response_header_of_api_versions_has_no_tags_in_any_version(
    tmp_path: Path, version: int
) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        correlation_id = wire.send(SOFTWARE, version)
        frame = await wire.frame()
        assert struct.unpack_from(">ih", frame) == (correlation_id, 0)


async def test_trap_1_the_client_id_is_a_legacy_string_in_flexible_headers(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        for client_id in (struct.pack(">h", -1), struct.pack(">h", 2) + b"me"):
            wire.send_raw(struct.pack(">hhi", 18, 3, 7) + client_id + b"\0" + b"\x05test\x041.0\0")
            assert struct.unpack_from(">ih", await wire.frame()) == (7, 0)


async def test_trap_2_an_unknown_version_of_api_versions_is_answered_in_version_0(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        wire.send_raw(struct.pack(">hhih", 18, 99, 7, -1) + b"\0" + b"whatever this version has")
        correlation_id, response = await wire.receive(ApiVersionsResponse, 0)
        assert correlation_id == 7
        assert response.error_code == UNSUPPORTED_VERSION
        assert [(one.api_key, one.min_version, one.max_version) for one in response.api_keys] == [(18, 0, 4)]
        await versions(wire)  # and the connection lives on


@pytest.mark.parametrize(
    ("name", "version"),
    [("", "1"), ("x", ""), ("-x", "1"), ("x-", "1"), ("a b", "1"), ("x", "1.0\n"), ("ü", "1")],
)
async def test_trap_3_names_of_client_software_are_checked(tmp_path: Path, name: str, version: str) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        request = ApiVersionsRequest(client_software_name=name, client_software_version=version)
        assert (await wire.ask(request, 3)).error_code == INVALID_REQUEST


async def test_trap_4_produce_is_advertised_from_0_and_refused_below_3(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert (await versions(wire))[ApiKey.PRODUCE] == (0, 13)
        wire.send_raw(struct.pack(">hhih", ApiKey.PRODUCE, 2, 1, -1) + bytes(10))
        assert await wire.is_closed()


async def test_trap_7_the_tag_section_of_api_versions_3_is_empty(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        wire.send(SOFTWARE, 3)
        frame = await wire.frame()
        throttle_time_ms_and_no_tags = bytes(4) + b"\0"
        assert frame.endswith(throttle_time_ms_and_no_tags)


async def test_trap_8_fetch_is_advertised_beyond_12(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert (await versions(wire))[ApiKey.FETCH] == (4, 18)


async def test_what_is_advertised_is_what_is_routed(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        routed = broker.dispatcher("PLAINTEXT").routes
        unwanted = {ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY}  # nobody asks for metrics
        assert (await versions(wire)).keys() == routed.keys() - unwanted


async def test_trap_10_answers_of_pipelined_requests_come_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        await topic(broker)
        sent = []
        for n in range(200):
            sent.append(wire.send(produce_request(batch(b"%d" % n)), 9))
            sent.append(wire.send(SOFTWARE, 3))
        received = [struct.unpack_from(">i", await wire.frame())[0] for _ in sent]
        assert received == sent
        assert await wire.values() == [b"%d" % n for n in range(200)]


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(struct.pack(">hhih", 999, 0, 1, -1), id="unknown API"),
        pytest.param(struct.pack(">hhih", -1, 0, 1, -1), id="negative API"),
        pytest.param(struct.pack(">hhih", ApiKey.FETCH, 99, 1, -1), id="unknown version"),
        pytest.param(struct.pack(">hhih", ApiKey.FETCH, -1, 1, -1), id="negative version"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\0", id="one byte"),
        pytest.param(struct.pack(">hhih", ApiKey.PRODUCE, 9, 1, 30_000), id="client id beyond the end"),
        pytest.param(struct.pack(">hhih", ApiKey.PRODUCE, 9, 1, -2), id="client id of -2 bytes"),
        pytest.param(struct.pack(">hhih", ApiKey.API_VERSIONS, 3, 1, -1) + b"\0", id="body cut off"),
        pytest.param(
            struct.pack(">hhih", ApiKey.LIST_OFFSETS, 1, 1, -1) + struct.pack(">ii", -1, 2**31 - 1),
            id="array of 2^31-1 elements",
        ),
        pytest.param(
            struct.pack(">hhih", ApiKey.API_VERSIONS, 3, 1, -1) + b"\xff\xff\xff\xff\x0f", id="tag bomb"
        ),
    ],
)
async def test_what_cannot_be_answered_closes_its_connection_and_no_other(
    tmp_path: Path, request_bytes: bytes
) -> None:
    async with running(tmp_path) as broker, connected(broker) as bystander, connected(broker) as wire:
        await versions(wire)
        wire.send_raw(request_bytes)
        assert await wire.is_closed()
        await versions(bystander)


async def test_a_frame_beyond_socket_request_max_bytes_disconnects(tmp_path: Path) -> None:
    async with (
        running(tmp_path, socket_request_max_bytes="1000") as broker,
        connected(broker) as bystander,
        connected(broker) as wire,
    ):
        wire.writer.write(struct.pack(">i", 1001))
        assert await wire.is_closed()
        await versions(bystander)
        assert broker.metrics.families["streamkit_connections_closed_total"].labels("frame_size").value == 1


async def test_a_handler_that_fails_closes_its_connection_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: PendingProduce) -> None:
        raise RuntimeError("a defect")

    async with running(tmp_path) as broker, connected(broker) as bystander, connected(broker) as wire:
        await versions(wire)
        with monkeypatch.context() as patched:
            patched.setattr(PendingProduce, "start", fail)
            wire.send(produce_request(batch(b"x")), 9)
            assert await wire.is_closed()
        await versions(bystander)
