"""Sources at a worker: begun where they are given, ended where they are taken, begun anew where they were."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

import streamkit as sk
from streamkit.errors import DeadlineError, StreamkitError, UsageError
from streamkit.processing.connectors.sources import Encoded, Inflow, Position
from streamkit.processing.worker import inflows as inflows_module
from streamkit.processing.worker.inflows import InflowListener, Inflows
from streamkit.telemetry.instruments import Registry


class Numbers(sk.Source):
    """Counts on, two at a time; raises what it is told to at a number."""

    def __init__(self, end: int = 6) -> None:
        self.end = end
        self.raises: dict[int, Exception] = {}
        self.begun: list[Position] = []
        self.closed = 0

    async def read(self, position: Position) -> AsyncIterator[sk.Portion]:
        self.begun.append(dict(position))
        try:
            for n in range(position.get("next", 0), self.end, 2):
                if error := self.raises.pop(n, None):
                    raise error
                yield [sk.Row(n), sk.Row(n + 1, key="k", headers=[("h", b"v")])], {"next": n + 2}
            if self.end > 100:
                await asyncio.Event().wait()
        finally:
            self.closed += 1


class Cluster:
    """A topic, its position, and who may write."""

    def __init__(self) -> None:
        self.records: list[Encoded] = []
        self.position: dict[str, Any] = {}
        self.refusing: list[Exception] = []
        self.written = asyncio.Event()


class Writer:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def begin(self) -> Position:
        return dict(self._cluster.position)

    async def write(self, rows: Sequence[Encoded], changes: Position) -> None:
        await asyncio.sleep(0)
        if self._cluster.refusing:
            raise self._cluster.refusing.pop()
        self._cluster.records += rows
        self._cluster.position |= changes
        self._cluster.written.set()

    async def close(self) -> None:
        return


class Group:
    async def start(self, listener: InflowListener) -> None:
        self.listener = listener

    async def close(self) -> None:
        return


class Worker:
    """One worker whose group is in the hands of the test."""

    def __init__(self, source: sk.Source, cluster: Cluster, **options: Any) -> None:
        app = sk.App("in")
        app.source(source, app.topic("numbers", value=int, key=str), **options)
        app.stream("numbers").to("out")
        self.found: tuple[Inflow, ...] = app.topology().inflows
        self.failures: list[BaseException] = []
        self.failed = asyncio.Event()
        self.registry = Registry()
        self.group = Group()
        self.inflows = Inflows(self.found, self.group, lambda _: Writer(cluster), self.registry, self._hear)

    def _hear(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    async def given(self) -> None:
        await self.inflows.start()
        await self.inflows.given([self.found[0].positions])

    async def finished(self) -> None:
        await asyncio.wait(self.inflows._running.values(), timeout=10)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflows_module, "FIRST_PAUSE_S", 0.001)


async def test_what_a_source_reads_is_written_as_the_topic_wants_it() -> None:
    cluster = Cluster()
    worker = Worker(Numbers(2), cluster)
    await worker.given()
    await worker.finished()
    assert cluster.records == [(b"0", None, None, []), (b"1", b"k", None, [("h", b"v")])]
    assert cluster.position == {"next": 2}
    counted = worker.registry.families["streamkit_source_records_total"].labels("in", "numbers-inflow")
    assert counted.value == 2


@pytest.mark.parametrize("error", [sk.Unavailable("away"), ConnectionResetError()])
async def test_who_is_away_is_begun_anew_at_the_last_position(error: Exception) -> None:
    cluster, source = Cluster(), Numbers()
    source.raises[2] = error
    cluster.refusing = []
    worker = Worker(source, cluster)
    await worker.given()
    await worker.finished()
    assert source.begun == [{}, {"next": 2}]
    assert [value for value, *_ in cluster.records] == [b"%d" % n for n in range(6)]
    assert not worker.failures


async def test_what_could_not_be_written_is_read_again() -> None:
    cluster, source = Cluster(), Numbers()
    cluster.refusing = [sk.Unavailable("no coordinator")]
    worker = Worker(source, cluster)
    await worker.given()
    await worker.finished()
    assert (source.begun, source.closed) == ([{}, {}], 2)
    assert len(cluster.records) == 6


async def test_any_other_error_ends_the_worker() -> None:
    source = Numbers()
    source.raises[2] = KeyError("oops")
    worker = Worker(source, Cluster())
    await worker.given()
    await asyncio.wait_for(worker.failed.wait(), 5)
    assert isinstance(worker.failures[0], KeyError)


class Choosy(Writer):
    """Takes no 3."""

    async def write(self, rows: Sequence[Encoded], changes: Position) -> None:
        for index, (value, *_) in enumerate(rows):
            if value == b"3":
                raise sk.BadRow(index, StreamkitError("no cluster takes a 3"))
        await super().write(rows, changes)


class LeavesOut(Numbers):
    """Yields a portion again without the row that is refused."""

    async def read(self, position: Position) -> AsyncIterator[sk.Portion]:
        for n in range(position.get("next", 0), self.end, 2):
            rows = [sk.Row(n), sk.Row(n + 1)]
            try:
                yield rows, {"next": n + 2}
            except sk.BadRow as bad:
                yield rows[: bad.index], {"next": n + 2}


@pytest.mark.parametrize("source", [Numbers(), LeavesOut()])
async def test_a_row_that_is_refused_is_the_affair_of_the_source(source: Numbers) -> None:
    cluster = Cluster()
    worker = Worker(source, cluster)
    worker.inflows._make_writer = lambda _: Choosy(cluster)
    await worker.given()
    await worker.finished()
    values = [value for value, *_ in cluster.records]
    if isinstance(source, LeavesOut):
        assert (values, cluster.position) == ([b"0", b"1", b"2", b"4", b"5"], {"next": 6})
    else:
        assert (values, cluster.position) == ([b"0", b"1"], {"next": 2})
        assert [str(error) for error in worker.failures] == ["no cluster takes a 3"]


class Odd(LeavesOut):
    """Its 3 is nothing that the topic could write."""

    async def read(self, position: Position) -> AsyncIterator[sk.Portion]:
        rows = [sk.Row(2), sk.Row(object())]
        try:
            yield rows, {"next": 4}
        except sk.BadRow as bad:
            yield rows[: bad.index], {"next": 4}


async def test_so_is_a_row_that_cannot_be_encoded() -> None:
    cluster = Cluster()
    worker = Worker(Odd(), cluster)
    await worker.given()
    await worker.finished()
    assert ([value for value, *_ in cluster.records], worker.failures) == ([b"2"], [])


async def test_a_source_that_is_taken_has_ended_before_another_worker_has_it() -> None:
    cluster, source = Cluster(), Numbers(102)
    first, second = Worker(source, cluster), Worker(source, cluster)
    await first.given()
    await asyncio.wait_for(cluster.written.wait(), 5)
    await first.inflows.taken([first.found[0].positions])
    assert source.closed == 1
    so_far = len(cluster.records)
    await second.given()
    while len(cluster.records) < 102:
        await asyncio.sleep(0)
    assert source.begun[1] == {"next": so_far}
    await second.inflows.close()
    assert source.closed == 2
    assert [value for value, *_ in cluster.records] == [b"%d" % n for n in range(102)]


def inflow(**options: Any) -> Inflow:
    app = sk.App("in")
    app.source(Numbers(), app.topic("numbers", value=dict, key=str), **options)
    app.stream("numbers").to("out")
    return app.topology().inflows[0]


def test_keys_are_made_of_values_encoded_or_not() -> None:
    made = inflow(key=lambda value: value["id"])
    assert made.encode(sk.Row({"id": "a"})) == (b'{"id":"a"}', b"a", None, [])
    assert made.encode(sk.Row(b'{"id": "a"}', timestamp_ms=5)) == (b'{"id": "a"}', b"a", 5, [])
    assert made.encode(sk.Row({"id": "a"}, key="b"))[1] == b"b"
    assert made.encode(sk.Row(b"no json"))[:2] == (b"no json", None), "judged where it is read"
    assert made.encode(sk.Row(None, key="a"))[:2] == (None, b"a")


def test_what_an_app_says_of_its_sources() -> None:
    app = sk.App("in")
    app.source(sk.FileSource("in", "csv", follow=True), "lines", name="files")
    app.stream("lines").to(sk.FileSink("out"))
    with pytest.raises(UsageError, match="the source name files is taken"):
        app.source(Numbers(), "numbers", name="files")
    assert "source files  follows csv of in → lines" in str(app.explain())
    assert app.explain().json()["sources"] == [
        {"name": "files", "detail": "follows csv of in", "writes": "lines"}
    ]
    (positions,) = [topic for topic in app.explain().json()["topics"] if topic["internal"]]
    assert (positions["name"], positions["partitions"]) == ("in-files-positions", 1)
    assert positions["config"]["cleanup.policy"] == "compact"


class Posted(sk.Source):
    """What anybody may send."""

    async def read(self, position: Position) -> AsyncIterator[sk.Portion]:
        yield [sk.Row(body) for body in (b'{"id":"a"}', b"{}", b"[]", b"7", b'{"id":7}', b"no json")], {}


async def test_a_value_without_a_key_ends_no_worker() -> None:
    cluster, app = Cluster(), sk.App("in")
    app.source(Posted(), app.topic("orders", key=str, value=dict), key=lambda order: order["id"])
    app.stream("orders").to("out")
    found, failures = app.topology().inflows, list[BaseException]()
    inflows = Inflows(found, Group(), lambda _: Writer(cluster), Registry(), failures.append)
    await inflows.start()
    await inflows.given([found[0].positions])
    await asyncio.wait(inflows._running.values(), timeout=10)
    assert not failures
    assert [key for _, key, *_ in cluster.records] == [b"a", None, None, None, None, None]


class Slow:
    """A format whose registry is silent at first; nothing of it is for the loop."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.silent = True

    def decode(self, data: bytes) -> Any:
        self.threads.add(threading.current_thread().name)
        if self.silent:
            self.silent = False
            raise DeadlineError("the registry does not answer")
        return {"id": data.decode()}


class Encodings(sk.Source):
    async def read(self, position: Position) -> AsyncIterator[sk.Portion]:
        yield [sk.Row(b"a")], {"done": True}


async def test_a_registry_that_is_silent_holds_up_the_source_and_nobody_else() -> None:
    cluster, app = Cluster(), sk.App("in")
    app.source(Encodings(), app.topic("orders", key=str, value=sk.Avro()), key=lambda order: order["id"])
    app.stream("orders").to("out")
    found, failures, slow = app.topology().inflows, list[BaseException](), Slow()
    app.schemas.codecs[0].engine = cast(Any, slow)
    inflows = Inflows(found, Group(), lambda _: Writer(cluster), Registry(), failures.append)
    await inflows.start()
    await inflows.given([found[0].positions])
    await asyncio.wait(inflows._running.values(), timeout=10)
    assert not failures
    assert [record[:2] for record in cluster.records] == [(b"a", b"a")]
    assert threading.main_thread().name not in slow.threads
