"""What each group is configured with, as far as its share-partitions go; worked out once per metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from streamkit.broker.coordination.share.share_partition import Limits
from streamkit.broker.group_config import GroupConfig
from streamkit.broker.offset_reset import OffsetReset, parse_reset

READ_COMMITTED = "read_committed"
MOST_GROUPS = 10_000


class ShareSettings(NamedTuple):
    limits: Limits
    reset: OffsetReset
    read_committed: bool
    renews: bool
    """Whether locks may be renewed."""


class ShareGroupSettings:
    """`group_config` tells what a group is configured with now."""

    def __init__(self, group_config: Callable[[str], GroupConfig]) -> None:
        self._group_config = group_config
        self._known: dict[str, ShareSettings] = {}

    def refresh(self) -> None:
        """The metadata changed."""
        self._known.clear()

    def of(self, group_id: str) -> ShareSettings:
        known = self._known.get(group_id)
        if known is None:
            if len(self._known) >= MOST_GROUPS:
                self._known.clear()
            known = self._known[group_id] = _settings(self._group_config(group_id))
        return known


def _settings(config: GroupConfig) -> ShareSettings:
    reset = parse_reset(config.share_auto_offset_reset)
    assert reset is not None, "a group's configuration is checked when it is altered"
    return ShareSettings(
        Limits(
            delivery_count=config.share_delivery_count_limit,
            record_locks=config.share_partition_max_record_locks,
            lock_ms=config.share_record_lock_duration_ms,
        ),
        reset,
        config.share_isolation_level == READ_COMMITTED,
        config.share_renew_acknowledge_enable,
    )
