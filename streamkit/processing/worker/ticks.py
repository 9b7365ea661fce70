"""Time passes for tasks: twice a second each hears what time it is, and which partitions are caught up."""

from __future__ import annotations

import asyncio

from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.active_tasks import ActiveTasks
from streamkit.processing.worker.metrics import LoopLag, WorkerMetrics
from streamkit.processing.worker.source import Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.contracts.clock import Clock

TICK_S = 0.5


async def tick(tasks: ActiveTasks, source: Source, clock: Clock, metrics: WorkerMetrics) -> None:
    """Until cancelled."""
    lag = LoopLag(TICK_S)
    while True:
        await asyncio.sleep(TICK_S)
        metrics.loop_lag.value = lag.tick()
        tasks.ends |= await source.known_ends(tasks.places)
        for runner in tasks:
            caught_up = await _caught_up(runner, source, clock)
            if runner.ready and runner.intake_open:  # who leaves makes nothing more
                runner.tick(clock.now_ms(), caught_up)
        lag.restart()


async def _caught_up(runner: TaskRunner, source: Source, clock: Clock) -> set[Place]:
    """The partitions of which everything is processed. Before they count as idle, the broker confirms
    that nothing was added: an end seen long ago may be the last word of a broker that is gone.
    """
    idle_at_ms = runner.task.clock.idle_at_ms()
    if idle_at_ms is None or clock.now_ms() < idle_at_ms:
        return set(runner.at_end)
    ends = await source.ends(list(runner.at_end))
    return {place for place, end in runner.at_end.items() if ends.get(place) == end}
