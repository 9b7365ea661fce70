"""One task at work: its intake of records, its slices on the event loop, its asynchronous agents.

    arrivals ─► intake ─► slice (≤ 1 ms of the loop) ─► sink
                             │▲
                        agents, in flight

The runner decides *when* the task may have records, and how many at once. It holds back while the task waits
for a retry, while agents have as much in hand as they finish in a quarter of a second, and while a commit
needs the task at its barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from streamkit.processing.tasks.assembly import AgentPort
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.intake import Intake
from streamkit.processing.tasks.task import Batch, Task, TaskOutput
from streamkit.processing.worker.agents import AgentRunner
from streamkit.processing.worker.replies import NoReplies, Replies
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Arrival

SLICE_S = 0.001
SLICE_RECORDS = (16, 4_000)  # bounds of what may be tried in one slice
AGENT_BACKLOG_S = 0.25
AGENT_BACKLOG_RECORDS = (64, 10_000)
LONGEST_WAIT_S = 1.0  # of a batch, as far as the backlog makes allowance for it


class TaskRunner:
    """`wake()` is called whenever the task may have become able to go on."""

    def __init__(
        self, task: Task, sink: Sink, wake: Callable[[], None], replies: Replies | None = None
    ) -> None:
        self.task = task
        self.ready = False  # restored and opened
        self.intake_open = True  # false: the task is leaving, records are dropped
        self.batch_seconds = 0.0
        self.changelog_ends: dict[Place, int] = {}  # below, every row of another is known
        self._sink = sink
        self._replies = replies or NoReplies()
        self._wake = wake
        self._agents = AgentRunner(task, self._agents_moved)
        self._intake = Intake(task.places, task.places_looked_up)
        self._stalled = False  # the task refused records at the last slice: a retry is due at `wake_at_ms`
        self._moved = False  # agents finished something since the last `drain`
        self._ends: dict[Place, int] = {}  # partitions read to this end, with nothing after it so far
        self._slice_records = 256
        self._at_barrier = False
        self._least_backlog = max([AGENT_BACKLOG_RECORDS[0], *map(_room_for_batches, task.agents.values())])
        self._backlog_limit = max(AGENT_BACKLOG_RECORDS[0] * 4, self._least_backlog)
        self._backlog_s = AGENT_BACKLOG_S + max([0.0, *map(_waiting_s, task.agents.values())])
        self._finished_before = (0, perf_counter())
        self._admitted = 0
        self.wake_at_ms: int | None = None

    # -- life -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """State is restored: start."""
        self.task.start()
        self._agents.start()
        self.ready = True
        self._wake()

    def open_intake(self) -> None:
        """Take records from here on."""
        self.intake_open = True
        self._agents.hurry(self._at_barrier)

    def stop_intake(self) -> None:
        """Take no more records and forget those that were not begun."""
        self.intake_open = False
        self._agents.hurry(True)
        self._intake.clear()
        self._ends.clear()

    async def close(self) -> None:
        """Cancel what is in flight. Late results reach nobody."""
        self.stop_intake()
        self.ready = False
        self.task.close()
        await self._agents.stop()

    @property
    def at_barrier(self) -> bool:
        """Does a commit wait for what is in flight? Then there are no new records."""
        return self._at_barrier

    @at_barrier.setter
    def at_barrier(self, waits: bool) -> None:
        self._at_barrier = waits
        self._agents.hurry(waits or not self.intake_open)

    # -- records --------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Records in the intake."""
        return self._intake.queued

    def offer(self, arrival: Arrival) -> None:
        """Records from the source."""
        if not self.intake_open:
            return
        place = (arrival.topic, arrival.partition)
        if arrival.records:
            self._ends.pop(place, None)
        if arrival.records or arrival.end_offset is not None:
            self._intake.offer(arrival)

    @property
    def waits_for_input(self) -> bool:
        """Records are held back until another partition of the task has some."""
        return self.ready and self._intake.queued > 0 and self._intake.turn(self._ends) is None

    def can_run(self, now_ms: int) -> bool:
        """Is there a slice to run now? Who leaves makes nothing more: its last commit is under way."""
        if not (self.ready and self.intake_open) or not (self.task.behind or self._intake.turn(self._ends)):
            return False
        if self.at_barrier and (self.task.in_flight or self.task.can_checkpoint()):
            return False
        if self.wake_at_ms is not None and self._stalled and now_ms < self.wake_at_ms:
            return False
        return self.task.failure is None and self._has_room()

    def run_slice(self, now_ms: int) -> None:
        """Process about a millisecond's worth of records, or do a portion of what is due before them."""
        if self.task.behind:
            self._take(self.task.follow(now_ms))
            if self.task.agents:
                self._agents.wake()
            return
        place = self._intake.turn(self._ends)
        assert place is not None
        records, consumed = self._intake.records(place, self._slice_records), 0
        if records:
            began = perf_counter()
            output = self.task.process(Batch(*place, records), now_ms)
            self._take(output)
            self._adapt(len(records), perf_counter() - began)
            consumed = output.consumed
            self._admitted += consumed
            self._stalled = consumed < len(records)
        arrival = self._intake.took(place, consumed)
        if arrival is not None:
            self._reached_end(arrival)
        if self.task.agents:
            self._agents.wake()

    def tick(self, now_ms: int, caught_up: set[Place]) -> None:
        """Time passes; `caught_up`: of `at_end`, those whose end was confirmed."""
        self._take(self.task.tick(now_ms, caught_up))
        self._measure_agents()
        if self.task.agents:
            self._agents.wake()

    @property
    def at_end(self) -> dict[Place, int]:
        """Partitions of which everything up to their last known end is processed, and that end."""
        if not self.ready:
            return {}
        waiting = self._intake.places
        return {place: end for place, end in self._ends.items() if place not in waiting}

    def drain(self) -> None:
        """Hand over what agents emitted."""
        if self._moved and self.ready:
            self._moved = False
            self._take(self.task.drain())

    @property
    def failure(self) -> BaseException | None:
        """An error of the agents' machinery; the task's own failure is `task.failure`."""
        return self._agents.failure

    # -- inside ---------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """May agents get more? If not, a batch must not wait for it."""
        has_room = self.task.in_flight < self._backlog_limit
        self._agents.hurry(not has_room or self._at_barrier or not self.intake_open)
        return has_room

    def _take(self, output: TaskOutput) -> None:
        for topic, records in output.sinks.items():
            self._sink.send(topic, records)
        if output.replies:
            self._replies.send(output.replies)
        self.wake_at_ms = output.wake_at_ms

    def _reached_end(self, arrival: Arrival) -> None:
        if arrival.end_offset is None:
            return
        place = (arrival.topic, arrival.partition)
        self.task.skip_to(place, arrival.end_offset)
        self._ends[place] = arrival.end_offset

    def _agents_moved(self) -> None:
        if self.ready:
            self._moved = True
            self._wake()

    def _adapt(self, records: int, seconds: float) -> None:
        """Twofold at most, up or down: a slice may be long because the loop lost the processor in it."""
        self.batch_seconds += seconds
        before = self._slice_records
        if records < before // 2:
            return
        wanted = int(records * SLICE_S / max(seconds, 1e-6))
        low, high = SLICE_RECORDS
        self._slice_records = max(low, before // 2, min(high, before * 2, wanted))

    def _measure_agents(self) -> None:
        """Let agents hold what they finish in `AGENT_BACKLOG_S`: enough to be busy, soon at a barrier."""
        finished, now = self._admitted - self.task.in_flight, perf_counter()
        before, then = self._finished_before
        self._finished_before = finished, now
        low, high = self._least_backlog, max(self._least_backlog, AGENT_BACKLOG_RECORDS[1])
        rate = (finished - before) / max(now - then, 1e-3)
        self._backlog_limit = max(low, min(high, int(rate * self._backlog_s)))


def _waiting_s(port: AgentPort) -> float:
    """How long a record may be in hand only because its batch is not full."""
    batch = port.node.batch
    return 0.0 if batch is None else min(batch.max_wait_ms / 1000, LONGEST_WAIT_S)


def _room_for_batches(port: AgentPort) -> int:
    """A batch that could never fill up would always wait."""
    batch = port.node.batch
    return 0 if batch is None else 2 * batch.max_size * port.node.concurrency
