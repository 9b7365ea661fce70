"""What the active controller does unasked: fence the silent, give leadership back to preferred replicas.

A stall of this process is not held against the brokers: their heartbeats may be waiting to be read, so all
sessions are extended by it.
"""

from __future__ import annotations

from streamkit.broker.config import BrokerConfig
from streamkit.broker.server.active_controller import ActiveController, NotControllerError
from streamkit.broker.server.timers import Timers
from streamkit.errors import StreamkitError
from streamkit.runtime.contracts.clock import Clock
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
    ) -> None:
        self._controller = controller
        self._clock = clock
        self._spawn = spawn
        self._period_ms = max(1, config.broker_session_timeout_ms // LOOKS_PER_SESSION)
        self._due_ms = clock.monotonic_ms() + self._period_ms
        self._running: TaskHandle | None = None
        timers.every(self._period_ms, self._look)
        if config.auto_leader_rebalance_enable:
            timers.every(config.leader_imbalance_check_interval_seconds * 1000, self._balance)

    def _look(self) -> None:
        now_ms = self._clock.monotonic_ms()
        late_ms = now_ms - self._due_ms
        self._due_ms = now_ms + self._period_ms
        if late_ms > self._period_ms:
            self._controller.stalled(late_ms)
        self._controller.look_around()
        if self._controller.is_active and (self._running is None or self._running.done()):
            self._running = self._spawn.start(self._fence_the_silent(), name="fence silent brokers")

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
