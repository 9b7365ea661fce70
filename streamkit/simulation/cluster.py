"""A cluster of simulated machines, and the supervisor that starts again what ended by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from streamkit.broker.config import BrokerConfig
from streamkit.broker.controller.image import MetadataImage
from streamkit.errors import StreamkitError
from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.machine import Machine
from streamkit.simulation.network import Network
from streamkit.simulation.owner import Life
from streamkit.simulation.quorum_risk import QuorumRisk
from streamkit.simulation.rng import Seed
from streamkit.simulation.tape import Shape
from streamkit.simulation.trace import Trace

CLIENT_PORT = 9092
CONTROLLER_PORT = 9093
SUPERVISOR_S = 1.0
"""How long a supervisor waits before it starts a process that ended by itself again."""


class Cluster:
    def __init__(self, shape: Shape, loop: VirtualLoop, seed: Seed, trace: Trace) -> None:
        self.shape = shape
        self.loop = loop
        self.trace = trace
        self.network = Network(loop, seed.generator("network"), trace)
        self.quorum_risk = QuorumRisk(loop)
        self.ended: list[str] = []
        """Why incarnations ended by themselves."""
        self.on_defect: Callable[[str], None] = lambda what: None
        self.machines = {number: self._machine(number, seed) for number in range(1, shape.nodes + 1)}

    @property
    def bootstrap(self) -> list[tuple[str, int]]:
        return [(machine.host, CLIENT_PORT) for machine in self.machines.values()]

    @property
    def controllers(self) -> list[tuple[str, int]]:
        return [(machine.host, CONTROLLER_PORT) for machine in self.machines.values()]

    def _machine(self, number: int, seed: Seed) -> Machine:
        machine = Machine(
            BrokerConfig.from_properties(properties(self.shape, number)),
            host=host(number), loop=self.loop, network=self.network, seed=seed, trace=self.trace,
        )  # fmt: skip
        machine.clock.rate = self.shape.rates[number - 1]
        machine.on_ended = self._supervise
        machine.on_defect = lambda machine, what: self.on_defect(f"{machine.host}: {what}")
        return machine

    def _supervise(self, machine: Machine, error: StreamkitError | None) -> None:
        """An incarnation ended by itself: begin another."""
        self.ended.append(f"{machine.host}: {error.message if error is not None else 'stopped'}")

        def again() -> None:
            if not machine.is_up and not machine.held_down:
                machine.start()

        self.loop.call_later(SUPERVISOR_S, again)

    def start(self) -> None:
        for machine in self.machines.values():
            machine.start()

    async def until(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        """Whether it became true in time."""
        give_up_s = self.loop.now_s + within_s
        while not condition():
            if self.loop.now_s >= give_up_s:
                return False
            await asyncio.sleep(0.05)
        return True

    @property
    def all_ready(self) -> bool:
        return all(machine.is_ready for machine in self.machines.values())

    @property
    def image(self) -> MetadataImage | None:
        """The metadata of whoever knows most."""
        images = [
            machine.broker.metadata
            for machine in self.machines.values()
            if machine.broker is not None and machine.broker.is_ready
        ]
        return max(images, key=lambda image: image.offset, default=None)

    def target(self, words: str, random: Random) -> Machine:
        """The machine that a fault means: `node:N`, `leader:PARTITION` of the topic, or `controller`."""
        kind, _, number = words.partition(":")
        found = None
        if kind == "node":
            found = self.machines.get(int(number))
        elif kind == "leader":
            found = self._leader(int(number))
        elif kind == "controller":
            found = self._controller()
        return found or random.choice(list(self.machines.values()))

    def _leader(self, partition: int) -> Machine | None:
        image = self.image
        registration = None if image is None else image.partition(TOPIC, partition)
        return None if registration is None else self.machines.get(registration.leader)

    def _controller(self) -> Machine | None:
        return next((m for m in self.machines.values() if m.is_ready and is_active_controller(m)), None)

    def bury(self) -> None:
        for machine in self.machines.values():
            machine.bury()

    @property
    def running(self) -> list[Machine]:
        return [
            machine
            for machine in self.machines.values()
            if machine.owner is not None and machine.owner.life is Life.RUNNING
        ]


TOPIC = "orders"
LEDGER = "ledger"
"""What transactions write to."""
TABLE = "table"
"""What is compacted."""
GROUP = "shop"
COPIERS = "copiers"
"""The group whose positions are committed in transactions."""


def is_active_controller(machine: Machine) -> bool:
    broker = machine.broker
    return broker is not None and broker.quorum.is_active


def host(number: int) -> str:
    return f"node-{number}"


def properties(shape: Shape, number: int) -> dict[str, str]:
    """What an operator would put into this node's configuration."""
    given = {
        "node.id": str(number),
        "listeners": f"PLAINTEXT://{host(number)}:{CLIENT_PORT}",
        "log.dirs": "/data",
        **shape.settings,
    }
    if shape.nodes > 1:
        given["listeners"] += f",CONTROLLER://{host(number)}:{CONTROLLER_PORT}"
        given["controller.listener.names"] = "CONTROLLER"
        given["controller.quorum.voters"] = ",".join(
            f"{voter}@{host(voter)}:{CONTROLLER_PORT}" for voter in range(1, shape.voters + 1)
        )
    return given
