"""A worker process: an app, a cluster, and everything that stands between.

run(app)         what `app.run()` does: `python app.py` is a worker
work(...)        the same for `streamkit worker`, with the command's options
connect(app)     no worker, only `await topic.send(...)` and `agent.ask(...)`, from any asyncio program
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from streamkit import __version__
from streamkit.errors import StreamkitError, UsageError
from streamkit.processing.app import App
from streamkit.processing.importing import check_not_importing
from streamkit.processing.kafka.asking import KafkaAsking, KafkaReplies
from streamkit.processing.kafka.changelog_reader import KafkaChangelogReader
from streamkit.processing.kafka.inflow_group import KafkaInflowGroup
from streamkit.processing.kafka.inflow_writer import KafkaInflowWriter
from streamkit.processing.kafka.roster import KafkaRoster
from streamkit.processing.kafka.schema_registry import running
from streamkit.processing.kafka.sender import KafkaSender
from streamkit.processing.kafka.settings import check_settings, producer_settings, refresh_s
from streamkit.processing.kafka.sink import KafkaSink
from streamkit.processing.kafka.source import KafkaSource
from streamkit.processing.kafka.topics import Topics
from streamkit.processing.kafka.transactional_sink import KafkaTransactionalSink
from streamkit.processing.schemas import written
from streamkit.processing.state.store import Store
from streamkit.processing.topology import Plan
from streamkit.processing.worker.deleted_topics import DeletedTopics
from streamkit.processing.worker.inflows import Inflows
from streamkit.processing.worker.member import Member
from streamkit.processing.worker.new_topics import NewTopics
from streamkit.processing.worker.preparation import create_declared, prepare
from streamkit.processing.worker.purge import Purge
from streamkit.processing.worker.queries import TableQueries, is_loopback, not_served, reached_at
from streamkit.processing.worker.rocksdb import StateDirectory
from streamkit.processing.worker.standby import Standbys
from streamkit.runtime.os.clock import SystemClock
from streamkit.telemetry import logs
from streamkit.telemetry.exposition import TelemetryServer
from streamkit.telemetry.instruments import Registry

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
INTERRUPTED = 130
DELETED_S = 5.0  # how often a worker looks whether what it reads is still there
GC_THRESHOLDS = (100_000, 50, 100)
NO_ASKING = "a reply leaves after a commit, and the commit would wait for whoever waits for the reply"

Http = tuple[str, int] | socket.socket | None  # an address, or a socket that a parent listens with

T = TypeVar("T")
log = structlog.get_logger("worker")


def run(app: App) -> None:
    """Work until SIGTERM or Ctrl-C. Ends the process on failure, with one line that says why."""
    check_not_importing()
    logs.configure()
    try:
        code = run_on_loop(work(app))
    except StreamkitError as error:
        sys.stderr.write(
            f"error: {error.message}\nnext:  {error.hint}\n" if error.hint else f"error: {error}\n"
        )
        sys.exit(error.exit_code)
    if code:
        sys.exit(code)


async def work(app: App, *, bootstrap: str | None = None, http: Http = None, slot: int = 0) -> int:
    """Join the app's group and process until a signal; the exit code. Raises StreamkitError on failure.

    `http`: where /metrics, /healthz, /readyz and /tables are served. `slot`: which worker of the app this is;
    no two that run at one time have the same.
    """
    registry = Registry()
    registry.gauge("build_info", "1; the version is the label", ["version"]).labels(__version__).value = 1
    server = _serve_telemetry(registry, http)
    try:
        async with assembled(app, registry, bootstrap, slot, server) as member:
            ending = Ending(member.stop)
            _settle_memory()
            with ending:
                log.info("worker started", app=app.id, pid=os.getpid())
                await member.run()
    finally:
        if server is not None:
            server.close()
    log.info("worker stopped", app=app.id)
    return ending.exit_code


@asynccontextmanager
async def assembled(
    app: App,
    registry: Registry,
    bootstrap: str | None = None,
    slot: int = 0,
    server: TelemetryServer | None = None,
) -> AsyncIterator[Member]:
    """The app's member on its cluster, all topics in place, not running yet. `server` shows its tables."""
    async with (
        running(app.schemas, written(app.topology())),
        _member(app, registry, bootstrap, slot, server) as member,
    ):
        yield member


@asynccontextmanager
async def _member(
    app: App, registry: Registry, bootstrap: str | None, slot: int, server: TelemetryServer | None
) -> AsyncIterator[Member]:
    address, kafka = bootstrap_of(app, bootstrap), kafka_of(app)
    clock, topics = SystemClock(), Topics(address, kafka)
    state_bytes = app.state_memory_bytes // 2  # for RocksDB, and as much for what is kept decoded
    state = None
    if app.state_dir:
        state = StateDirectory(Path(app.state_dir), app.id, slot, memory_bytes=state_bytes)
    plan = await asyncio.to_thread(prepare, app.topology(), topics, app.commit_interval_ms, app.abandon)
    retention_ms = await asyncio.to_thread(topics.retention_ms, _sink_topics(plan))
    transactions = None
    if app.guarantee == "exactly_once":
        transactions = KafkaTransactionalSink(address, kafka, clock, retention_ms, f"{app.id}-{slot}")
        _check_interval(app, transactions.timeout_s)
    make_stores = None if state is None else partial(_stores, plan, state)
    reader, roster = KafkaChangelogReader(address, kafka), KafkaRoster(address, app.id, kafka)
    sender = KafkaSender(address, kafka)
    asking = KafkaAsking(address, kafka, app.id, sender, NO_ASKING if transactions else "")
    app.producer, app.caller = sender, asking
    try:
        shown = server is not None and (app.serve_tables or is_loopback(server.host))
        source = KafkaSource(
            address,
            app.id,
            leaders(plan),
            kafka,
            pass_over_lost=app.on_lost_records == "continue",
            address=reached_at(server.host, server.port) if server and shown else None,
            follows=plan.matched if plan.has_patterns else None,
            whole=[topic.name for topic in plan.topics if topic.internal],
        )
        member = Member(
            plan,
            source,
            transactions or KafkaSink(producer_settings(address, kafka), clock, retention_ms),
            reader,
            clock=clock,
            registry=registry,
            commit_interval_s=app.commit_interval_ms / 1000,
            transactions=transactions,
            make_stores=make_stores,
            cache_bytes=state_bytes,
            standbys=Standbys(plan, app.standby_replicas, roster, reader, make_stores)
            if app.standby_replicas
            else None,
            replies=KafkaReplies(address, kafka),
            purge=Purge(plan, roster, topics.delete_records),
            new_topics=NewTopics(plan, source, topics.partition_counts, refresh_s(kafka))
            if plan.has_patterns
            else None,
            deleted_topics=DeletedTopics(plan, topics.missing, DELETED_S),
        )
        if server is not None:
            server.readiness = member.not_ready
            queries = TableQueries(plan, list(leaders(plan)), roster, member.tasks.named)
            server.rooms["/tables/"] = queries.reply if shown else not_served
        async with inflows_at_work(plan, address, kafka, registry, member.failed):
            yield member
    finally:
        await roster.close()
        if state is not None:
            state.close()
        app.producer = app.caller = None
        await asking.close()
        await sender.close()


@asynccontextmanager
async def inflows_at_work(
    plan: Plan,
    address: str,
    kafka: Mapping[str, Any],
    registry: Registry,
    failed: Callable[[BaseException], None],
) -> AsyncIterator[None]:
    """The app's sources, as far as they fall to this worker."""
    found = plan.topology.inflows
    if not found:
        yield
        return
    group = KafkaInflowGroup(address, kafka, plan.topology.app_id, [inflow.positions for inflow in found])
    inflows = Inflows(found, group, partial(KafkaInflowWriter, address, kafka), registry, failed)
    await inflows.start()
    try:
        yield
    finally:
        await inflows.close()


def connect(app: App) -> AbstractAsyncContextManager[None]:
    """`async with app:`: makes missing topics, and lets `topic.send` and `agent.ask` through."""
    return _connected(app)


@asynccontextmanager
async def _connected(app: App) -> AsyncIterator[None]:
    logs.to_stderr()
    address, kafka = bootstrap_of(app, None), kafka_of(app)
    await asyncio.to_thread(create_declared, app.topics, Topics(address, kafka))
    before, sender = (app.producer, app.caller), KafkaSender(address, kafka)
    asking = KafkaAsking(address, kafka, app.id, sender)
    app.producer, app.caller = sender, asking
    try:
        async with running(app.schemas):
            yield
    finally:
        app.producer, app.caller = before
        await asking.close()
        await sender.close()


def bootstrap_of(app: App, flag: str | None) -> str:
    """The flag, `STREAMKIT_BOOTSTRAP`, what the app says, the default: the first that is given."""
    return flag or os.environ.get("STREAMKIT_BOOTSTRAP") or app.bootstrap or DEFAULT_BOOTSTRAP


def kafka_of(app: App) -> Mapping[str, Any]:
    """The user's librdkafka settings, checked."""
    check_settings(app.kafka, exactly_once=app.guarantee == "exactly_once")
    return {"auto.offset.reset": app.auto_offset_reset, **app.kafka}


def _stores(plan: Plan, state: StateDirectory, index: int, partition: int) -> Mapping[str, Store]:
    return state.stores(plan.subtopologies[index].stores, partition)


def _check_interval(app: App, timeout_s: float) -> None:
    if app.commit_interval_ms > timeout_s * 500:
        raise UsageError(
            f"commit_interval={app.commit_interval_ms} ms is too long for a transaction of {timeout_s:g} s",
            hint='shorten it, or raise "transaction.timeout.ms" in App(kafka=...) to more than twice of it',
        )


def leaders(plan: Plan) -> dict[str, Sequence[tuple[str, int]]]:
    """For each subtopology the topic that stands for its tasks, and those that follow it. Topics of patterns
    stand for themselves.
    """
    found: dict[str, Sequence[tuple[str, int]]] = {}
    for sub in plan.subtopologies[: len(plan.subtopologies) - len(plan.matched)]:
        by_size = sorted(sub.topics, key=lambda topic: -plan.partition_counts[topic])
        found[by_size[0]] = [(topic, plan.partition_counts[topic]) for topic in by_size[1:]]
    return found


def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is installed, on asyncio's own loop elsewhere."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


class Ending:
    """Signals while a worker runs: the first asks it to drain, the second ends the process at once."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.exit_code = 0
        self._stop = stop
        self._asked = False

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        code = INTERRUPTED if number == signal.SIGINT else 0
        if self._asked:
            os._exit(code or 1)
        self._asked, self.exit_code = True, code
        log.info("draining; once more ends at once", signal=number.name)
        self._stop()


def _serve_telemetry(registry: Registry, http: Http) -> TelemetryServer | None:
    if http is None:
        return None
    listening = http if isinstance(http, socket.socket) else None
    host, port = http.getsockname() if isinstance(http, socket.socket) else http
    server = TelemetryServer(registry, host=host, port=port, readiness=_starting, listening=listening)
    log.info("telemetry", url=server.url)
    return server


def _starting() -> Sequence[str]:
    return ["the worker is starting"]


def _sink_topics(plan: Plan) -> set[str]:
    internal = {topic.name for topic in plan.topics if topic.internal}
    return {topic for node in plan.topology.nodes for topic in node.writes} - internal


def _settle_memory() -> None:
    """What exists now lives as long as the process: take it out of every later collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
