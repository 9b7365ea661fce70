"""Records without a key where one is needed belong to nobody: they are counted, passed over, and told of.

Whoever writes to a topic that declares `key=` and forgets the key would otherwise see nothing come out, and
nothing that says why. A `group_by` whose function answers None means what it does.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from streamkit.processing.operators.group_by import GroupBy
from streamkit.processing.tasks.task import Task

log = structlog.get_logger("worker")


class Keyless:
    """Remembers which operators it has told of."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            for node in task.sub.nodes:
                if node.name in self._told or isinstance(node, GroupBy):
                    continue
                passed_over = task.counts(node).null_keys
                if passed_over:
                    self._told.add(node.name)
                    log.warning(
                        "records without a key are passed over",
                        operator=node.name,
                        reads=[f"{topic}-{number}" for topic, number in task.places],
                        records=passed_over,
                        next="write them with a key, or make one by .group_by(...)",
                    )
