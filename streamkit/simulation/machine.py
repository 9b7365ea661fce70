"""One machine of a simulated cluster: its disk, clocks and host name last; incarnations of the node come
and go.

An incarnation is `broker.server.node.Broker` itself, given simulated ports and otherwise nothing that the
production process would not give it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.node import Broker, start_unless
from streamkit.errors import StreamkitError
from streamkit.runtime.contracts.ports import Ports
from streamkit.runtime.os.spawn import TaskSpawn
from streamkit.simulation.clock import SimulatedClock
from streamkit.simulation.disk import Image, SimulatedDisk
from streamkit.simulation.loop import VirtualLoop
from streamkit.simulation.network import Network
from streamkit.simulation.owner import Life, MachineClock, Owner
from streamkit.simulation.rng import Seed, SeededRng
from streamkit.simulation.trace import Trace
from streamkit.telemetry.instruments import Registry


class Machine:
    def __init__(
        self,
        config: BrokerConfig,
        *,
        host: str,
        loop: VirtualLoop,
        network: Network,
        seed: Seed,
        trace: Trace,
    ) -> None:
        self.config = config
        self.host = host
        self.clock = MachineClock()
        self.image = Image(loop, seed.generator(f"{host}/disk"), trace)
        self.incarnation = 0
        self.owner: Owner | None = None
        """The incarnation that runs, or is paused."""
        self.broker: Broker | None = None
        self.held_down = 0
        """How many faults keep the machine down: nobody starts it meanwhile."""
        self.on_ended: Callable[[Machine, StreamkitError | None], None] = lambda machine, error: None
        """Hears of an incarnation that ended by itself, and why."""
        self.on_defect: Callable[[Machine, str], None] = lambda machine, what: None
        """Hears of a background task that failed: no fault of the world may cause that."""
        self._loop = loop
        self._network = network
        self._rng = SeededRng(seed, host)
        self._trace = trace
        self._dead: list[Owner] = []

    @property
    def is_up(self) -> bool:
        return self.owner is not None

    @property
    def is_ready(self) -> bool:
        return self.broker is not None and self.broker.is_ready and self.broker.failure is None

    def start(self) -> None:
        """Begin a new incarnation; it is ready when `is_ready`."""
        assert self.owner is None, f"{self.host} runs already"
        self.incarnation += 1
        self.owner = owner = Owner(f"{self.host}.{self.incarnation}", self.clock)
        self._trace.say(owner.name, "starts")
        owner.run(self._loop.create_task, self._live(owner), name=f"{owner.name} lives")

    async def _live(self, owner: Owner) -> None:
        """As the production process does: start, serve until the end, stop."""
        self._told_to_end = ended = asyncio.Event()

        def task_failed(name: str, error: BaseException) -> None:
            self.on_defect(self, f"{name} failed: {error!r}")
            broker.task_failed(name, error)

        self.broker = broker = Broker(
            self.config, self.ports(owner, task_failed), Registry(), on_end=ended.set
        )
        failure: StreamkitError | None = None
        try:
            if await start_unless(broker, ended):
                self._trace.say(owner.name, "is ready")
                await ended.wait()
        except StreamkitError as error:
            failure = error
        await broker.stop()
        self._ended(failure or broker.failure)

    def ports(self, owner: Owner, on_task_failure: Callable[[str, BaseException], None]) -> Ports:
        return Ports(
            clock=SimulatedClock(self._loop, self.clock),
            disk=SimulatedDisk(self.image, owner),
            network=self._network.port_for(self.host, owner),
            rng=self._rng,
            spawn=TaskSpawn(on_task_failure),
        )

    def _ended(self, error: StreamkitError | None) -> None:
        owner = self.owner
        assert owner is not None
        self._trace.say(owner.name, f"ended: {error.message if error is not None else 'stopped'}")
        self._loop.call_soon(self._exit, owner, error, context=self._loop.world.context)

    def _exit(self, owner: Owner, error: StreamkitError | None) -> None:
        if self.owner is owner:
            self._end(has_power=True)
            self.on_ended(self, error)

    # -- what may happen to it

    def stop(self) -> None:
        """SIGTERM."""
        if self.owner is not None and self.broker is not None and self.owner.life is Life.RUNNING:
            self.owner.run(self._told_to_end.set)

    def kill(self) -> None:
        """The process is gone, the machine goes on: files keep what was written, peers are told."""
        if self.owner is not None:
            self._trace.say(self.owner.name, "is killed")
            self._end(has_power=True)

    def lose_power(self) -> None:
        """Everything stops at once, and what was not flushed is partly lost."""
        if self.owner is not None:
            name = self.owner.name
            self._end(has_power=False)
            lost = self.image.lose_power()
            self._trace.say(name, f"loses power, and {lost} sectors")

    def pause(self) -> None:
        if self.owner is not None and self.owner.life is Life.RUNNING:
            self._trace.say(self.owner.name, "is paused")
            self.owner.life = Life.PAUSED

    def resume(self) -> None:
        if self.owner is not None and self.owner.life is Life.PAUSED:
            self._trace.say(self.owner.name, "goes on")
            self._loop.resume(self.owner)

    def bury(self) -> None:
        """After the simulation: let go of everything that any incarnation left."""
        if self.owner is not None:
            self._end(has_power=False)
        for owner in self._dead:
            owner.bury()

    def _end(self, *, has_power: bool) -> None:
        owner, self.owner, self.broker = self.owner, None, None
        assert owner is not None
        owner.die()
        self._dead.append(owner)
        self.image.release_locks()
        self._network.host_lost(owner, has_power=has_power)
