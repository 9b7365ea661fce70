"""InitProducerId over a socket: PROTOCOL's traps 22 and 23 for producers without transactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from tests.broker.server.wire import Wire, connected, running


async def ask(wire: Wire, version: int = 5, **fields: object) -> InitProducerIdResponse:
    request = InitProducerIdRequest(**{"transactional_id": None, "transaction_timeout_ms": 60_000, **fields})  # type: ignore[arg-type]
    response: InitProducerIdResponse = await wire.ask(request, version)
    return response


@pytest.mark.parametrize("version", range(6))
async def test_trap_22_no_transactional_id_gets_a_fresh_id_with_epoch_0(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        first, second = await ask(wire, version), await ask(wire, version)
        assert (first.error_code, first.producer_epoch) == (0, 0)
        assert first.producer_id != second.producer_id >= 0


async def test_trap_22_an_empty_transactional_id_is_invalid(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert (await ask(wire, transactional_id="")).error_code == 42


@pytest.mark.parametrize("known", [{"producer_id": 7}, {"producer_epoch": 0}])
async def test_trap_23_an_id_and_an_epoch_come_together(tmp_path: Path, known: dict[str, int]) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        assert (await ask(wire, **known)).error_code == 42


async def test_trap_23_a_known_id_gets_a_fresh_one(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, connected(broker) as wire:
        first = await ask(wire)
        again = await ask(wire, producer_id=first.producer_id, producer_epoch=0)
        assert again.producer_id != first.producer_id


async def test_an_id_is_given_out_once_over_blocks_and_restarts(tmp_path: Path) -> None:
    given = []
    for _ in range(2):
        async with running(tmp_path) as broker, connected(broker) as wire:
            for _ in range(1100):
                wire.send(InitProducerIdRequest(transactional_id=None), 1)
            for _ in range(1100):
                given.append((await wire.receive(InitProducerIdResponse, 1))[1].producer_id)
    assert len(set(given)) == 2200
