"""One client host: it does its operations in order, and may crash in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any

import msgspec

from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.network import Network
from streamkit.simulation.owner import Owner
from streamkit.simulation.quorum_risk import QuorumRisk
from streamkit.simulation.tape import Operation
from streamkit.simulation.workload.attendance import Place, StaticMember, Visitor
from streamkit.simulation.workload.client import Address, Client
from streamkit.simulation.workload.consumer import AssignedConsumer, GroupConsumer
from streamkit.simulation.workload.history import History
from streamkit.simulation.workload.operator import Operator
from streamkit.simulation.workload.producer import Producer
from streamkit.simulation.workload.transactor import Places, Transactor

CRASH = "crash"
STATIC_GROUP = "desk"
KEYS = 12
"""Of each partition of the table."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all clients share."""

    loop: VirtualLoop
    network: Network
    bootstrap: Sequence[Address]
    places: Places
    partitions: int
    """Of what is read and written without transactions."""
    group: str
    controllers: list[Address]
    """Where each node listens as a controller."""
    voters: int
    quorum_risk: QuorumRisk
    history: History


def key_of(update: str) -> bytes:
    """Of `key=value`."""
    return update.partition("=")[0].encode()


class Participant:
    def __init__(
        self,
        number: int,
        operations: Sequence[Operation],
        surroundings: Surroundings,
        random: Random,
    ) -> None:
        self.host = f"client-{number}"
        self._number = number
        self._operations = [one for one in operations if one.kind != CRASH]
        self._crashes_ms = [one.at_ms for one in operations if one.kind == CRASH]
        self._all = surroundings
        self._loop = surroundings.loop
        self._random = random
        self._static_places: list[Place] = []
        self._visits: list[int] = []
        self._incarnation = 0
        self._values = 0
        self._dead: list[Owner] = []
        self._crashed: asyncio.Future[None] = self._loop.create_future()
        self._come_up()

    async def run(self, began_s: float) -> None:
        """All operations, each at its time or as soon as the one before is done."""
        for at_ms in self._crashes_ms:
            self._loop.call_at(began_s + at_ms / 1000, self._crash)
        for operation in self._operations:
            await asyncio.sleep(began_s + operation.at_ms / 1000 - self._loop.now_s)
            task = self._owner.run(self._loop.create_task, self._perform(operation))
            await asyncio.wait((task, self._crashed), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()

    def bury(self) -> None:
        for owner in (*self._dead, self._owner):
            owner.bury()

    def _perform(self, operation: Operation) -> Coroutine[Any, Any, None]:
        match operation.kind:
            case "send":
                values = tuple(self._next_value() for _ in range(operation.count))
                return self._producer.send(operation.partition, values)
            case "burst":
                batches = [(self._next_value(), self._next_value()) for _ in range(operation.count)]
                return self._producer.send_together(operation.partition, batches)
            case "hasty":
                values = tuple(self._next_value() for _ in range(operation.count))
                return self._producer.send_hastily(operation.partition, values)
            case "update":
                values = tuple(
                    f"{self._random.randrange(KEYS)}={self._next_value()}" for _ in range(operation.count)
                )
                return self._updater.send(operation.partition, values)
            case "poll":
                return self._consumer.poll(operation.partition)
            case "seek":
                return self._consumer.seek(operation.partition)
            case "member":
                return self._member.poll()
            case "write":
                return self._transactor.write(operation.partition, operation.count, operation.end)
            case "copy":
                return self._transactor.copy(operation.partition, operation.count, operation.end)
            case "wake":
                return self._transactor.wake()
            case "read":
                return self._auditor.poll(operation.partition)
            case "operate":
                return self._operator.change(operation.partition)
            case "static":
                return self._static.attend()
            case "visit":
                return self.visitor.visit()
        raise ValueError(f"no client knows how to {operation.kind}")

    def _next_value(self) -> str:
        self._values += 1
        return f"{self.host}:{self._values}"

    def stop(self) -> None:
        """The process is gone, whatever it was doing."""
        self._owner.die()
        self._dead.append(self._owner)
        self._all.network.host_lost(self._owner, has_power=True)

    def _crash(self) -> None:
        """Its successor knows nothing of it."""
        self.stop()
        self._come_up()
        crashed, self._crashed = self._crashed, self._loop.create_future()
        crashed.set_result(None)

    def _come_up(self) -> None:
        self._incarnation += 1
        name = f"{self.host}.{self._incarnation}"
        self._owner = Owner(name)
        port = self._all.network.port_for(self.host, self._owner)
        client = Client(name, port, self._all.bootstrap, self._random)
        history, places = self._all.history, self._all.places
        self._producer = Producer(client, places.source, history, history.sends)
        self._updater = Producer(client, places.table, history, history.updates, key_of)
        self._consumer = AssignedConsumer(client, places.source, self._all.partitions, history)
        self._member = GroupConsumer(client, places.source, self._all.partitions, self._all.group, history)
        self._operator = Operator(
            client, self._all.voters, self._all.controllers, self._all.quorum_risk, history.voter_changes
        )
        self._transactor = Transactor(client, places, history)
        self._auditor = AssignedConsumer(
            client, places.ledger, places.ledger_partitions, history, committed=True
        )
        self._static = StaticMember(
            client,
            places.source,
            group=STATIC_GROUP,
            instance=self.host,
            former=self._static_places,
            history=history,
        )
        self.visitor = Visitor(client, places.source, f"{self.host}-visits", self._visits, history)
