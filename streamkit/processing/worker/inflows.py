"""The sources of an app at one worker: those that the group gives it run here, and nowhere else.

    group ──given / taken──► Inflows ── one Task for each ──► read ──► write (rows and position, all or
    nothing)

Losing a source is noticed late by whoever slept; the writer's cluster knows better, and refuses all but the
newest one that began. So a source that is torn between two workers writes nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol, cast

import structlog

from streamkit.errors import DeadlineError, StreamkitError
from streamkit.processing.connectors.blocking import blocking
from streamkit.processing.connectors.sinks import BadRow, Row, Unavailable
from streamkit.processing.connectors.sources import Encoded, Inflow, Portion, Position
from streamkit.telemetry.instruments import Registry

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
GIVE_BACK_S = 5.0  # so long a source may take to end before another worker has it

log = structlog.get_logger("worker")


class InflowWriter(Protocol):
    """What one source writes with. Raises Unavailable where the cluster is: begin again."""

    async def begin(self) -> Position:
        """Become the one who writes for this source; where it is to go on."""
        ...

    async def write(self, rows: Sequence[Encoded], changes: Position) -> None:
        """Rows and what they change of the position: all, acknowledged, or nothing. Raises BadRow for one
        that the cluster never takes; the others may be written without it.
        """
        ...

    async def close(self) -> None:
        """Give up what is not written."""
        ...


class InflowListener(Protocol):
    """What a group tells, on the loop."""

    async def given(self, topics: Sequence[str]) -> None:
        """The sources with these topics of positions are this worker's."""
        ...

    async def taken(self, topics: Sequence[str]) -> None:
        """They are not any more; on return somebody else may have them."""
        ...

    def failed(self, error: BaseException) -> None: ...


class InflowGroup(Protocol):
    """Divides sources among workers."""

    async def start(self, listener: InflowListener) -> None: ...
    async def close(self) -> None: ...


class InflowMetrics:
    """What one source counts."""

    def __init__(self, registry: Registry, inflow: Inflow) -> None:
        labels, words = (inflow.app_id, inflow.name), ("app", "source")
        counters, gauges = registry.counter, registry.gauge
        self.records = counters("source_records_total", "Records taken in", words).labels(*labels)
        self.pauses = counters(
            "source_pauses_total", "Times that a source had to be begun anew", words
        ).labels(*labels)
        self.running = gauges("source_running", "1 where the source runs", words).labels(*labels)


class Inflows:
    """An `InflowListener`. `failed` hears of errors that end the worker."""

    def __init__(
        self,
        inflows: Sequence[Inflow],
        group: InflowGroup,
        make_writer: Callable[[Inflow], InflowWriter],
        registry: Registry,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.failed = failed
        self._group = group
        self._inflows: Mapping[str, Inflow] = {inflow.positions: inflow for inflow in inflows}
        self._make_writer = make_writer
        self._metrics = {inflow.name: InflowMetrics(registry, inflow) for inflow in inflows}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def start(self) -> None:
        await self._group.start(self)

    async def close(self) -> None:
        """Stop what runs, then tell the group."""
        self._closing = True
        await self.taken(list(self._running))
        await self._group.close()

    async def given(self, topics: Sequence[str]) -> None:
        for topic in () if self._closing else topics:
            inflow = self._inflows[topic]
            running = asyncio.create_task(self._run(inflow), name=f"source-{inflow.name}")
            running.add_done_callback(self._ended)
            self._running[topic] = running

    async def taken(self, topics: Sequence[str]) -> None:
        leaving = [self._running.pop(topic) for topic in topics if topic in self._running]
        for running in leaving:
            running.cancel()
        if leaving:
            await asyncio.wait(leaving, timeout=GIVE_BACK_S)

    def _ended(self, running: asyncio.Task[None]) -> None:
        if not running.cancelled() and (error := running.exception()) is not None:
            self.failed(error)

    async def _run(self, inflow: Inflow) -> None:
        writer, metrics = self._make_writer(inflow), self._metrics[inflow.name]
        metrics.running.value = 1
        try:
            await self._read_on(inflow, writer, metrics)
            log.info("source has nothing more to read", source=inflow.name)
        finally:
            metrics.running.value = 0
            await writer.close()

    async def _read_on(self, inflow: Inflow, writer: InflowWriter, metrics: InflowMetrics) -> None:
        """To the end of what there is, beginning anew at the last position where something is away."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                position = await writer.begin()
                log.info("source started", source=inflow.name, detail=inflow.source.detail)
                reading = cast("AsyncGenerator[Portion, None]", inflow.source.read(position))
                async with aclosing(reading):
                    portion = await anext(reading, None)
                    while portion is not None:
                        portion = await self._write(inflow, reading, portion, writer, metrics)
                        pause_s = FIRST_PAUSE_S
                return
            except (Unavailable, DeadlineError, OSError) as error:
                metrics.pauses.value += 1
                log.warning("source unavailable", source=inflow.name, error=str(error), again_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _write(
        self,
        inflow: Inflow,
        reading: AsyncGenerator[Portion, None],
        portion: Portion,
        writer: InflowWriter,
        metrics: InflowMetrics,
    ) -> Portion | None:
        """Returns the next portion; None at the end."""
        rows, changes = portion
        try:
            if rows or changes:
                await writer.write(await _records(inflow, rows), changes)
        except BadRow as bad:
            return await _told_of(reading, bad)
        metrics.records.value += len(rows)
        return await anext(reading, None)


async def _told_of(reading: AsyncGenerator[Portion, None], bad: BadRow) -> Portion | None:
    """What the source makes of it: another portion, or the end of the worker."""
    try:
        return await reading.athrow(bad)
    except StopAsyncIteration:
        return None
    except BadRow as unheeded:
        raise unheeded.cause from None


async def _records(inflow: Inflow, rows: Sequence[Row]) -> list[Encoded]:
    """Beside the loop, where that may wait for a schema registry."""
    return await blocking(_encoded, inflow, rows) if inflow.asks else _encoded(inflow, rows)


def _encoded(inflow: Inflow, rows: Sequence[Row]) -> list[Encoded]:
    records = [_record(inflow, index, row) for index, row in enumerate(rows)]
    keyless = sum(key is None for _, key, *_ in records)
    if inflow.key is not None and keyless:
        log.warning("no key can be made of some values", source=inflow.name, records=keyless)
    return records


def _record(inflow: Inflow, index: int, row: Row) -> Encoded:
    try:
        return inflow.encode(row)
    except StreamkitError:
        raise
    except Exception as error:
        raise BadRow(index, error) from error
