"""What the active controller does unasked: fence the silent, give leadership back to preferred replicas.

A stall of this process is not held against the brokers: their heartbeats may be waiting to be read, so all
sessions are extended by it.

Whether a broker that hung up is gone is asked of its machine: where connections are refused there is no
process any more, and it is fenced at once. Anything else, above all no answer, leaves it its session. A new
controller asks the same about the node that decided before it.
"""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.cluster.knocking import nobody_listens
from streamkit.broker.server.controller.active_controller import ActiveController, NotControllerError
from streamkit.broker.server.timers import Timers
from streamkit.errors import StreamkitError
from streamkit.runtime.contracts.clock import Clock
from streamkit.runtime.contracts.network import Network
from streamkit.runtime.contracts.spawn import Spawn, TaskHandle

LOOKS_PER_SESSION = 20


class ControllerDuties:
    def __init__(
        self,
        controller: ActiveController,
        config: BrokerConfig,
        *,
        clock: Clock,
        timers: Timers,
        spawn: Spawn,
        network: Network,
    ) -> None:
        self._controller = controller
        self._network = network
        self._listener = config.endpoints()[0].name
        self._patience_ms = config.broker_session_timeout_ms
        self._clock = clock
        self._spawn = spawn
        self._period_ms = max(1, config.broker_session_timeout_ms // LOOKS_PER_SESSION)
        self._due_ms = clock.monotonic_ms() + self._period_ms
        self._running: TaskHandle | None = None
        controller.on_begun = self._ask_about_former_leader
        timers.every(self._period_ms, self._look)
        if config.auto_leader_rebalance_enable:
            timers.every(config.leader_imbalance_check_interval_seconds * 1000, self._balance)

    def _look(self) -> None:
        now_ms = self._clock.monotonic_ms()
        late_ms = now_ms - self._due_ms
        self._due_ms = now_ms + self._period_ms
        if late_ms > self._period_ms:
            self._controller.stalled(late_ms)
        if self._controller.is_active and (self._running is None or self._running.done()):
            self._running = self._spawn.start(self._fence_the_silent(), name="fence silent brokers")

    def hung_up(self, broker_id: int, broker_epoch: int) -> None:
        """The connection of a broker's heartbeats is closed."""
        self._controller.hung_up(broker_id, broker_epoch)
        if self._controller.is_active:
            self._spawn.start(self._fence_if_gone(broker_id, broker_epoch), name="fence if gone")

    def _ask_about_former_leader(self) -> None:
        former = self._controller.former_leader
        broker = None if former is None else self._controller.broker(former)
        if broker is not None:
            self._spawn.start(
                self._fence_if_gone(broker.broker_id, broker.epoch),
                name="fence if gone",
            )

    async def _fence_if_gone(self, broker_id: int, broker_epoch: int) -> None:
        broker = self._controller.broker(broker_id)
        endpoint = None if broker is None else broker.endpoint(self._listener)
        if endpoint is None:
            return
        if await nobody_listens(self._network, endpoint.host, endpoint.port, timeout_ms=self._patience_ms):
            self._controller.gone(broker_id, broker_epoch)
            await self._fence_the_silent()

    async def _fence_the_silent(self) -> None:
        try:
            while await self._controller.submit(lambda controller: controller.fence_expired()) is not None:
                pass
        except (NotControllerError, StreamkitError):
            return  # whoever decides now has these duties

    def _balance(self) -> None:
        if self._controller.is_active:
            self._spawn.start(self._give_back_leadership(), name="balance leaders")

    async def _give_back_leadership(self) -> None:
        try:
            await self._controller.submit(lambda controller: controller.balance_leaders())
        except (NotControllerError, StreamkitError):
            return
