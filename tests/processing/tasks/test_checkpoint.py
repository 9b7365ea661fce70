"""The metadata of a commit fits the broker's limit, whatever the names and however many upstream tasks."""

from __future__ import annotations

import pytest

from streamkit.errors import UsageError
from streamkit.processing.tasks.checkpoint import METADATA_LIMIT, CommitMetadata, check_room
from streamkit.processing.tasks.watermark import Mark

CHANGELOGS = {f"größen-{i}-changelog": 10**12 for i in range(70)}
MARKS = [Mark(i, 1_700_000_000_000 + i, False) for i in range(500)]


def test_what_fits_is_kept_whole() -> None:
    metadata = CommitMetadata(times={"a": 5}, upstreams=MARKS[:3], changelogs={"c": 1}, stores={"s": "00"})
    assert CommitMetadata.decode(metadata.encode()) == metadata


def test_many_upstreams_share_one_mark() -> None:
    metadata = CommitMetadata(times={"a": 5}, upstreams=MARKS, stores={"s": "00"})
    kept = CommitMetadata.decode(metadata.encode())
    assert kept.upstreams == [Mark(-1, 1_700_000_000_000, False)]
    assert (kept.times, kept.stores) == (metadata.times, metadata.stores)


def test_changelog_positions_are_the_last_to_go() -> None:
    metadata = CommitMetadata(
        times={f"entry-{i}": 10**12 for i in range(100)},
        upstreams=MARKS,
        watermark_ms=7,
        changelogs=CHANGELOGS,
        stores={f"größen-{i}": "01234567" for i in range(70)},
    )
    text = metadata.encode()
    assert len(text.encode()) <= METADATA_LIMIT
    kept = CommitMetadata.decode(text)
    assert (kept.changelogs, kept.watermark_ms) == (CHANGELOGS, 7)


def test_more_stores_than_a_commit_can_name_are_refused_at_the_start() -> None:
    check_room(CHANGELOGS)
    with pytest.raises(UsageError, match="200 stores in one task are too many"):
        check_room(f"app-store-{i}-changelog" for i in range(200))
