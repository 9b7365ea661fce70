"""What share groups do here: records handed out, what consumers said of them, locks that ran out."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.broker.coordination.share.share_partition import Acknowledgement, AcknowledgeType
from streamkit.telemetry.instruments import Registry


class ShareMetrics:
    def __init__(self, registry: Registry) -> None:
        self._acquired = registry.counter(
            "share_records_acquired_total", "Records handed out to members of share groups", ("group",)
        )
        self._acknowledged = registry.counter(
            "share_records_acknowledged_total",
            "Acknowledgements of records in share groups, by what they say",
            ("group", "type"),
        )
        self._locks = registry.counter(
            "share_lock_timeouts_total", "Records that were not acknowledged in time", ("group",)
        )

    def acquired(self, group_id: str, count: int) -> None:
        self._acquired.labels(group_id).value += count

    def acknowledged(self, group_id: str, acknowledgements: Sequence[Acknowledgement]) -> None:
        for one in acknowledgements:
            size = one.last - one.first + 1
            weight = size if len(one.types) == 1 else 1
            for kind in set(one.types):
                name = AcknowledgeType(kind).name.lower()
                count = weight * sum(1 for each in one.types if each == kind)
                self._acknowledged.labels(group_id, name).value += count

    def locks_ran_out(self, group_id: str, count: int) -> None:
        self._locks.labels(group_id).value += count
