"""What a worker counts, under the names that dashboards know.

Operators count in their tasks; the sums are taken when somebody scrapes. Tasks come and go with rebalances,
so what a closed task counted is kept here and counters never fall.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from time import monotonic

from streamkit.processing.tasks.inflight import Place
from streamkit.processing.tasks.watermark import NEVER
from streamkit.processing.worker.source import Arrival
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.contracts.clock import Clock
from streamkit.telemetry.instruments import Registry


class CommitMetrics:
    def __init__(self, registry: Registry, app: str) -> None:
        self.changelog_records = registry.counter(
            "changelog_records_total", "State changes written to changelogs", ["app"]
        ).labels(app)
        self._app = app
        self._commits = registry.counter("commits_total", "Commits by how they ended", ["app", "result"])
        self._seconds = registry.histogram(
            "commit_seconds", "From the freeze of a commit to its offsets being durable", ["app"]
        ).labels(app)
        self._last = registry.gauge(
            "last_commit_timestamp_seconds", "When offsets were last committed", ["app"]
        ).labels(app)
        for result in ("ok", "postponed", "aborted"):
            self._commits.labels(app, result)

    def ended(self, result: str, seconds: float, now_ms: int) -> None:
        self._commits.labels(self._app, result).value += 1
        self._seconds.observe(seconds)
        if result == "ok":
            self._last.value = now_ms / 1000


class WorkerMetrics:
    """The families of one worker. `runners` gives the tasks of the moment, `ends` the known ends."""

    def __init__(
        self,
        registry: Registry,
        app: str,
        clock: Clock,
        runners: Callable[[], Iterable[TaskRunner]],
        ends: Callable[[], dict[Place, int]],
    ) -> None:
        self.registry = registry
        self.commits = CommitMetrics(registry, app)
        self._app = app
        self._clock = clock
        self._runners = runners
        self._ends = ends
        self._closed: Tally[tuple[str, ...]] = Tally()
        self._declare(registry, app)
        registry.on_scrape.append(self.collect)

    def _declare(self, registry: Registry, app: str) -> None:
        self.up = registry.gauge("worker_up", "1 while the worker runs", ["app"]).labels(app)
        self.loop_lag = registry.gauge(
            "event_loop_lag_seconds", "How late the event loop ran a timer, at worst since the last look"
        ).labels()
        self._records = registry.counter(
            "agent_records_total", "Records by operator and what became of them", ["app", "agent", "result"]
        )
        self.batch_seconds = registry.histogram(
            "agent_batch_seconds", "Time of the loop for one slice of records", ["app"]
        ).labels(app)
        times = registry.counter(
            "agent_time_seconds_total", "What the worker's loop did with its time", ["app", "state"]
        )
        self.busy, self.idle, self.blocked = (times.labels(app, s) for s in ("busy", "idle", "blocked"))
        self._queue = registry.gauge(
            "agent_queue_records", "Records received and not processed, in flight included", ["app"]
        ).labels(app)
        self.e2e = registry.histogram(
            "e2e_latency_seconds", "From a record's timestamp to its processing, sampled", ["app"]
        ).labels(app)
        self._lag = registry.gauge(
            "source_lag_records",
            "Records between what is processed and the end",
            ["app", "topic", "partition"],
        )
        self._watermark = registry.gauge(
            "watermark_timestamp_seconds",
            "How far event time has come, in the slowest task",
            ["app", "agent"],
        )
        self._late = registry.counter(
            "late_records_total", "Records that came after their window", ["app", "action"]
        )
        self._open = registry.gauge("windows_open", "Windows (by key) that are open", ["app"]).labels(app)
        self._windows_closed = registry.counter("windows_closed_total", "Windows (by key) closed", ["app"])
        self._keys = registry.gauge("store_keys", "Entries of a store in this process", ["app", "store"])
        self.restoring = registry.gauge(
            "store_restore_remaining_records",
            "Changelog records still to be replayed",
            ["store", "partition"],
        )
        self.standby = registry.gauge(
            "store_standby_remaining_records",
            "Committed changelog records that a standby copy lacks",
            ["store", "partition"],
        )
        self._dead = registry.counter(
            "dlq_records_total", "Records sent to a dead-letter topic", ["app", "agent", "error_class"]
        )

    def closed(self, runner: TaskRunner) -> None:
        """Keep what this task counted; forget its partitions."""
        self._closed += _tally(runner)
        for topic, partition in runner.task.places:
            self._lag.forget(self._app, topic, str(partition))

    def sample_latency(self, arrivals: Iterable[Arrival]) -> None:
        """By the last record of each."""
        now_ms = self._clock.now_ms()
        for arrival in arrivals:
            if arrival.records:
                self.e2e.observe(max(0, now_ms - arrival.records[-1].timestamp()[1]) / 1000)

    def collect(self) -> None:
        """Set families from the tasks."""
        tally, runners = Tally(self._closed), list(self._runners())
        for runner in runners:
            tally += _tally(runner)
        for (kind, name, result), count in tally.items():
            if kind == "records":
                self._records.labels(self._app, name, result).value = count
            elif kind == "dead":
                self._dead.labels(self._app, name, result).value = count
            elif kind == "late":
                self._late.labels(self._app, result).value = count
            else:
                self._windows_closed.labels(self._app).value = count
        self._queue.value = sum(runner.queued + runner.task.in_flight for runner in runners)
        self._open.value = sum(runner.task.windows_open for runner in runners)
        self._collect_state(runners)
        self._collect_watermarks(runners)
        self._collect_lag(runners)

    def _collect_state(self, runners: list[TaskRunner]) -> None:
        sizes: Tally[str] = Tally()
        for runner in runners:
            for store, kept in runner.task.stores.items():
                sizes[store] += len(kept)
        for store, size in sizes.items():
            self._keys.labels(self._app, store).value = size

    def _collect_watermarks(self, runners: list[TaskRunner]) -> None:
        slowest: dict[str, int] = {}
        for runner in runners:
            if runner.task.clock.inputs and runner.task.clock.watermark_ms > NEVER:
                for node in runner.task.sub.windows:
                    known = slowest.get(node.name, runner.task.clock.watermark_ms)
                    slowest[node.name] = min(known, runner.task.clock.watermark_ms)
        for name, watermark_ms in slowest.items():
            self._watermark.labels(self._app, name).value = watermark_ms / 1000

    def _collect_lag(self, runners: list[TaskRunner]) -> None:
        ends = self._ends()
        for runner in runners:
            for place in runner.task.places:
                position = runner.task.committable(place)
                if place in ends and position is not None:
                    lag = max(0, ends[place] - position)
                    self._lag.labels(self._app, place[0], str(place[1])).value = lag


def _tally(runner: TaskRunner) -> Tally[tuple[str, ...]]:
    """(kind, operator, result) → count."""
    tally: Tally[tuple[str, ...]] = Tally()
    task = runner.task
    for name, counts in task.operator_counts.items():
        tally["records", name, "read"] += counts.records
        tally["records", name, "ok"] += counts.done
        tally["records", name, "skipped"] += counts.skipped
        tally["records", name, "retried"] += counts.retries
        tally["records", name, "failed"] += counts.failed
        tally["records", name, "null_key"] += counts.null_keys
        tally["records", name, "duplicate"] += counts.duplicates
        tally["records", name, "dead_letter"] += counts.dead_letters
    for (name, error), count in task.dead_letters.items():
        tally["dead", name, error] += count
    for node in task.sub.stateful:
        sent_on = task.children(node, "late") or task.children(node, "late-right")
        action = "sent_on" if sent_on else "dropped"
        tally["late", "", action] += task.counts(node).late
    tally["closed", "", ""] = task.windows_closed
    return +tally


class LoopLag:
    """How late timers run: call `tick` at an even pace."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._before = monotonic()

    def tick(self) -> float:
        """Seconds beyond the interval since the last call or `restart`."""
        late = monotonic() - self._before - self._interval_s
        self.restart()
        return max(0.0, late)

    def restart(self) -> None:
        self._before = monotonic()
