"""Which old segments may go: by age, by size, or because the log now starts behind them.

Deletion runs from the oldest segment on and stops at the first that must stay, so that a log never has a
hole. Nothing at or above the high watermark is deleted. A topic that is compacted and not deleted loses only
what lies before its start.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamkit.broker.topic_config import TopicConfig

UNLIMITED = -1


class SegmentAge(msgspec.Struct, frozen=True, gc=False):
    """A segment as retention sees it: bytes, newest time, and the offset behind its last record."""

    size: int
    newest_ms: int
    end_offset: int


def expired_segments(
    segments: Sequence[SegmentAge],
    *,
    now_ms: int,
    log_start_offset: int,
    high_watermark: int,
    config: TopicConfig,
) -> int:
    """How many of `segments` (oldest first) may be deleted; the active segment counts too."""
    by_policy = "delete" in config.cleanup_policy
    by_age = by_policy and config.retention_ms != UNLIMITED
    excess = sum(s.size for s in segments) - config.retention_bytes
    by_size = by_policy and config.retention_bytes != UNLIMITED
    count = 0
    for segment in segments:
        if segment.end_offset > high_watermark:
            break
        behind_start = segment.end_offset <= log_start_offset and count + 1 < len(segments)
        too_old = by_age and segment.size and now_ms - segment.newest_ms > config.retention_ms
        too_much = by_size and excess - segment.size >= 0 and count + 1 < len(segments)
        if not (behind_start or too_old or too_much):
            break
        excess -= segment.size
        count += 1
    return count
