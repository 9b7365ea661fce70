"""Which part of a log may be compacted, and whether it is worth it.

    log start … dirty start … cleanable end … active segment
    [ clean:    ][ dirty:     ][ stays as it is              ]

The clean part was compacted before, the dirty part is to be. Whole segments only, and never one that is
active, that reaches past what is durable, committed and decided (recovery point, high watermark, last stable
offset), or that holds a record younger than `min.compaction.lag.ms`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamkit.broker.log.segment import MAX_RELATIVE_OFFSET, Segment
from streamkit.broker.topic_config import TopicConfig


class SegmentView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A segment as the choice sees it: its extent, and the times of its first batch and newest record."""

    base_offset: int
    end_offset: int
    size: int
    first_timestamp: int
    newest_timestamp: int


class CleanableLog(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a cleaning may touch: the first `segments` of the log, dirty from `dirty_start` on."""

    segments: int
    dirty_start: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool
    """Something dirty is older than `max.compaction.lag.ms`."""

    @property
    def dirty_ratio(self) -> float:
        return self.dirty_bytes / max(self.clean_bytes + self.dirty_bytes, 1)

    def is_worth_it(self, min_dirty_ratio: float) -> bool:
        return self.dirty_bytes > 0 and (self.is_overdue or self.dirty_ratio > min_dirty_ratio)


def cleanable(
    segments: Sequence[SegmentView], *, dirty_start: int, stable_offset: int, now_ms: int, config: TopicConfig
) -> CleanableLog:
    """Judge the sealed `segments` of a log, oldest first; everything below `stable_offset` is there to stay.

    `dirty_start` is what the last cleaning wrote down, where the log still has it, else the log's start.
    """
    count = clean_bytes = dirty_bytes = 0
    end_offset = dirty_start
    oldest_dirty_ms = now_ms
    for segment in segments:
        if segment.end_offset > stable_offset or _is_too_young(segment, now_ms, config):
            break
        count += 1
        if segment.end_offset <= dirty_start:
            clean_bytes += segment.size
            continue
        dirty_bytes += segment.size
        end_offset = segment.end_offset
        if segment.first_timestamp >= 0:
            oldest_dirty_ms = min(oldest_dirty_ms, segment.first_timestamp)
    return CleanableLog(
        segments=count, dirty_start=dirty_start, end_offset=end_offset, clean_bytes=clean_bytes,
        dirty_bytes=dirty_bytes, is_overdue=now_ms - oldest_dirty_ms > config.max_compaction_lag_ms,
    )  # fmt: skip


def _is_too_young(segment: SegmentView, now_ms: int, config: TopicConfig) -> bool:
    lag_ms = config.min_compaction_lag_ms
    return lag_ms > 0 and segment.newest_timestamp > now_ms - lag_ms


def merged(segments: Sequence[Segment], end_offset: int, config: TopicConfig) -> list[list[Segment]]:
    """Neighbours that together make one segment of at most `segment.bytes`; the last ends at `end_offset`."""
    groups: list[list[Segment]] = []
    size = 0
    for number, segment in enumerate(segments):
        following = segments[number + 1].base_offset if number + 1 < len(segments) else end_offset
        fits = groups and size + segment.size <= config.segment_bytes
        if fits and following - 1 - groups[-1][0].base_offset <= MAX_RELATIVE_OFFSET:
            groups[-1].append(segment)
            size += segment.size
        else:
            groups.append([segment])
            size = segment.size
    return groups
