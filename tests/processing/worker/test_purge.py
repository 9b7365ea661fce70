"""Repartition topics lose what the group has committed, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import streamkit as sk
from streamkit.processing.worker.purge import Purge
from streamkit.processing.worker.roster import Roster
from streamkit.processing.worker.source import Partition, Position

MOVED = "app-move-repartition"


class Commits:
    def __init__(self) -> None:
        self.offsets: dict[Partition, int] | None = {}

    async def committed(self, partitions: Sequence[Partition]) -> Sequence[Position] | None:
        assert {topic for topic, _ in partitions} == {MOVED}
        if self.offsets is None:
            return None
        return [Position(*place, self.offsets[place]) for place in partitions if place in self.offsets]


async def test_what_is_committed_is_deleted_once() -> None:
    app = sk.App("app")
    app.stream("in").repartition(2, name="move").to("out")
    commits, deleted = Commits(), list[Mapping[Partition, int]]()
    purge = Purge(app.topology().plan({}), cast(Roster, commits), deleted.append)
    ours = [("in", 0), (MOVED, 0), (MOVED, 1)]
    await purge.once(ours)
    commits.offsets = {(MOVED, 0): 5, (MOVED, 1): 0}
    await purge.once(ours)
    await purge.once(ours)
    commits.offsets = None  # nobody can say
    await purge.once(ours)
    commits.offsets = {(MOVED, 0): 5, (MOVED, 1): 7}
    await purge.once([("in", 0)])
    await purge.once(ours)
    assert deleted == [{(MOVED, 0): 5}, {(MOVED, 1): 7}]


async def test_without_repartition_topics_there_is_nothing_to_do() -> None:
    app = sk.App("app")
    app.stream("in").to("out")
    await Purge(app.topology().plan({}), cast(Roster, Commits()), lambda _: None).run(list)
