"""Where changelogs end, said once nobody else's row is the newest of its key there.

A commit names the end of each changelog that its task has written to, and a restore takes the newest row of
each key below. Without transactions, nothing keeps a former owner of the task from appending: it was stopped
or cut off past its session, its rows were on their way, and they arrive when it wakes up, behind newer ones
of its successor. Its commit is fenced, its rows are not. So the successor outdoes them before it commits:

    flush ─► end ─┬─ as many rows as it wrote since the last look ──────────► commit
              ▲   └─ more: read them, and write what it commits of each key
            flush ◄────── whose newest row says something else

An idempotent producer's rows arrive once each, so the end alone says whether there is anything to read. Where
it says so for another reason (rows repeated by a producer that is not idempotent, markers of transactions)
nothing is found to be written. What arrives after the look lies past the commit: an orphan for a restore
(`state.changelog`), and for the owner a matter of the next commit. A former owner that looks before it has
heard that it is one writes its own values; they are outdone like the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from streamkit.errors import StreamkitError
from streamkit.processing.record import RawRecord
from streamkit.processing.tasks.checkpoint import Checkpoint
from streamkit.processing.tasks.inflight import Place
from streamkit.processing.worker.restore import ChangelogReader, Span
from streamkit.processing.worker.sink import Sink
from streamkit.processing.worker.source import Source
from streamkit.processing.worker.task_runner import TaskRunner
from streamkit.runtime.contracts.clock import Clock

ENDS_PAUSE_S = 0.2
LOST_MS = 60_000  # acknowledged rows that do not show for so long are gone

Owners = Mapping[Place, TaskRunner]
Newest = dict[bytes, bytes | None]  # key → the value of its newest row

log = structlog.get_logger("worker.commits")


class ChangelogEnds:
    """For the tasks of one worker. The changelogs of a task that is closed meanwhile are let be."""

    def __init__(self, source: Source, sink: Sink, reader: ChangelogReader, clock: Clock) -> None:
        self._source = source
        self._sink = sink
        self._reader = reader
        self._clock = clock

    async def after(self, delivered: Mapping[TaskRunner, Checkpoint]) -> dict[Place, int]:
        """The ends of the changelogs that these checkpoints wrote to; every row of theirs is acknowledged."""
        written, owners = dict[Place, int](), dict[Place, TaskRunner]()
        for runner, checkpoint in delivered.items():
            for topic, rows in checkpoint.changelog.items():
                place = topic, runner.task.partition
                written[place], owners[place] = len(rows), runner
        looked = {place: runner.changelog_ends.get(place, 0) for place, runner in owners.items()}
        while written:
            least = {place: looked[place] + rows for place, rows in written.items()}
            ends = await self._known(least, owners)
            longer = {place: (looked[place], end) for place, end in ends.items() if end > least[place]}
            looked |= ends
            written = await self._outdo(longer, owners) if longer else {}
        for place, runner in owners.items():  # at last, so that a look that is cancelled begins anew
            runner.changelog_ends[place] = looked[place]
        return looked

    async def _known(self, least: Mapping[Place, int], owners: Owners) -> dict[Place, int]:
        """The ends, not before they show what was acknowledged."""
        found: dict[Place, int] = {}
        began_ms = self._clock.monotonic_ms()
        while missing := [p for p in least if p not in found and owners[p].ready]:
            answers = await self._source.ends(missing)
            found |= {place: end for place, end in answers.items() if end >= least[place]}
            short = [place for place in answers if place not in found]
            if short and self._clock.monotonic_ms() - began_ms > LOST_MS:
                raise _lost(short[0], answers[short[0]], least[short[0]])
            if len(answers) < len(missing) or short:
                await asyncio.sleep(ENDS_PAUSE_S)
        return found

    async def _outdo(self, spans: Mapping[Place, Span], owners: Owners) -> dict[Place, int]:
        """Write again what others have overwritten; how many rows went to which changelog."""
        written: dict[Place, int] = {}
        for place, newest in (await self._newest(spans)).items():
            runner = owners[place]
            rows = runner.task.outdoing(place[0], newest, self._clock.now_ms()) if runner.ready else []
            if rows:
                log.warning(
                    "rows of a former owner outdone", changelog=place[0], partition=place[1], keys=len(rows)
                )
                self._sink.send(place[0], rows)
                written[place] = len(rows)
        if written:
            await self._sink.flush()
        return written

    async def _newest(self, spans: Mapping[Place, Span]) -> dict[Place, Newest]:
        newest: dict[Place, Newest] = {place: {} for place in spans}

        def take(place: Place, records: Sequence[RawRecord]) -> None:
            newest[place] |= {key: r.value() for r in records if (key := r.key()) is not None}

        await self._reader.read(spans, take)
        return newest


def _lost(place: Place, end: int, least: int) -> StreamkitError:
    return StreamkitError(
        f"the changelog {place[0]}-{place[1]} ends at {end}, but rows up to {least} were acknowledged",
        hint="a broker has lost them; start the worker again: nothing of them is committed",
    )
