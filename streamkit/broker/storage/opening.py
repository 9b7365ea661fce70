"""Opening one log: from the manifest after a clean stop, else by recovery from what the files say.

Leftovers of interrupted work go first: `.tmp`, `.cleaned`, `.clean` and `.deleted` files are removed; a
`.swap` is the whole result of a replacement, so that is finished, unless the file is damaged and what it
replaces is still there.
"""

from __future__ import annotations

import msgspec

from streamkit.broker.log.checkpoint import DamagedCheckpointError, decode_epochs
from streamkit.broker.log.epochs import LeaderEpochs
from streamkit.broker.log.manifest import CleanLog
from streamkit.broker.log.producers import ProducerEntry
from streamkit.broker.log.recovery import GAPS_ANYWHERE, NO_GAPS, Damage, Replay, Verdict, classify
from streamkit.broker.log.segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SEGMENT_SUFFIXES,
    SNAPSHOT_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
    file_name,
)
from streamkit.broker.storage.partition_log import EPOCHS_FILE, PartitionLog
from streamkit.broker.storage.readable_log import LogShelf
from streamkit.broker.storage.rebuilding import (
    latest_snapshot,
    offsets_of,
    read_snapshot,
    replay_segments,
    run_steps,
    segment_number,
)
from streamkit.broker.topic_config import TopicConfig

LEFTOVER_SUFFIXES = (".tmp", CLEANED_SUFFIX, ".clean", DELETED_SUFFIX)
WRITTEN_AGAIN_BYTES = 1 << 20


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whose log it is, and what the directory's checkpoints say about it (0 if nothing)."""

    path: str
    topic: str
    topic_id: bytes
    partition: int
    config: TopicConfig
    log_start_offset: int = 0
    recovery_point: int = 0
    high_watermark: int = 0
    cleaned_offset: int = 0

    @property
    def durable_offset(self) -> int:
        return max(self.recovery_point, self.high_watermark)


def new_log(shelf: LogShelf, facts: LogFacts) -> PartitionLog:
    """An empty log; its files appear with its first append."""
    start = facts.log_start_offset
    return _log(
        shelf, facts, segments=[Segment(start, shelf.clock.now_ms())], start=start, end=start,
        epochs=LeaderEpochs(), producers={},
    )  # fmt: skip


def open_clean(
    shelf: LogShelf, facts: LogFacts, entries: dict[str, int | None], clean: CleanLog
) -> PartitionLog | None:
    """The log as the manifest has it; None if its files are not as they were left."""
    if any(name.endswith(SWAP_SUFFIX) for name in entries):
        return None
    for name in [name for name in entries if name.endswith(LEFTOVER_SUFFIXES)]:
        shelf.disk.remove(f"{facts.path}/{name}")
        del entries[name]
    bases = offsets_of(entries, LOG_SUFFIX)
    if not bases:
        empty = clean.log_end_offset == clean.log_start_offset == facts.log_start_offset
        return new_log(shelf, facts) if empty else None
    if bases[-1] != clean.active_base or entries[file_name(bases[-1], LOG_SUFFIX)] != clean.active_size:
        return None
    producers: dict[int, ProducerEntry] = {}
    if clean.producers:
        found = read_snapshot(shelf.disk, facts.path, clean.log_end_offset)
        if found is None or len(found) != clean.producers:
            return None
        producers = found
    segments = _found_segments(shelf, bases, entries)
    active = segments[-1]
    active.first_timestamp = clean.first_timestamp
    active.max_timestamp = clean.max_timestamp
    active.max_timestamp_offset = clean.max_timestamp_offset
    _remove_stray_snapshots(shelf, facts.path, entries, {*bases, clean.log_end_offset})
    return _log(
        shelf, facts, segments=segments, start=clean.log_start_offset, end=clean.log_end_offset,
        epochs=LeaderEpochs(clean.epochs), producers=producers,
    )  # fmt: skip


async def recover(shelf: LogShelf, facts: LogFacts, entries: dict[str, int | None]) -> PartitionLog:
    """The log after a crash: a torn tail cut off, or all of it offline if promised bytes are bad."""
    if await _sweep(shelf, facts, entries):
        entries = shelf.disk.entries(facts.path)
    bases = offsets_of(entries, LOG_SUFFIX)
    if not bases:
        log = new_log(shelf, facts)
        if facts.durable_offset > facts.log_start_offset:
            log.found_damaged(f"the segments of {log.name} are gone, {facts.durable_offset} was durable")
        return log
    epochs = _read_epochs(shelf, facts.path)
    snapshot, producers = latest_snapshot(
        shelf.disk, facts.path, offsets_of(entries, SNAPSHOT_SUFFIX),
        lowest=bases[0], highest=facts.recovery_point,
    )  # fmt: skip
    first = min(
        segment_number(bases, facts.recovery_point),
        segment_number(bases, snapshot),
        len(bases) - 1 if epochs is not None else 0,
    )
    epochs = epochs if epochs is not None else LeaderEpochs()
    epochs.truncate_end(bases[first])
    segments = _found_segments(shelf, bases, entries)
    replay = Replay(
        next_offset=bases[first],
        epochs=epochs,
        producers=producers,
        producers_from=snapshot,
        gaps_below=facts.durable_offset if facts.config.is_compacted else NO_GAPS,
        index_interval_bytes=facts.config.index_interval_bytes,
    )
    damage = await replay_segments(shelf.disk, facts.path, segments, first, replay)
    offline = _problem(facts, damage, replay.next_offset)
    if damage is not None and not offline:
        await _truncate(shelf, facts.path, segments, damage)
    start = min(max(facts.log_start_offset, bases[0]), replay.next_offset)
    if offline:
        return _log(
            shelf, facts, segments=segments, start=start, end=replay.next_offset, epochs=epochs,
            producers=producers, offline_reason=offline,
        )  # fmt: skip
    epochs.truncate_start(start)
    _remove_stray_snapshots(shelf, facts.path, entries, {s.base_offset for s in segments})
    if replay.next_offset > facts.recovery_point:
        await _write_again(shelf, facts, segments)
    log = _log(
        shelf, facts, segments=segments, start=start, end=replay.next_offset, epochs=epochs,
        producers=producers,
    )  # fmt: skip
    log.adopt_recovery()
    return log


def _problem(facts: LogFacts, damage: Damage | None, end_offset: int) -> str:
    name = f"{facts.topic}-{facts.partition}"
    if damage is not None and classify(damage, facts.durable_offset) is Verdict.CORRUPTION:
        return (
            f"{name} is damaged at offset {damage.offset} (segment {damage.segment_base}, byte "
            f"{damage.position}), and offsets below {facts.durable_offset} were durable: {damage.reason}"
        )
    if damage is None and end_offset < facts.durable_offset:
        return f"{name} ends at offset {end_offset}, and offsets below {facts.durable_offset} were durable"
    return ""


async def _write_again(shelf: LogShelf, facts: LogFacts, segments: list[Segment]) -> None:
    """Make durable what lies above the recovery point, also where a flush of the last run failed.

    What that was to write counts as clean since and is still read from the page cache, so no sync writes it
    any more: only bytes that are written again are.
    """
    files = []
    bases = [segment.base_offset for segment in segments]
    for segment in segments[segment_number(bases, facts.recovery_point) :]:
        if not segment.size:
            continue
        file = shelf.disk.open(f"{facts.path}/{file_name(segment.base_offset, LOG_SUFFIX)}")
        position = 0
        if segment.indexes is not None and facts.recovery_point > segment.base_offset:
            position = segment.indexes[0].entry_before(facts.recovery_point - segment.base_offset)[0]
        while position < segment.size:
            data = await file.read(position, min(WRITTEN_AGAIN_BYTES, segment.size - position))
            file.write([data], position)
            position += len(data)
        files.append(file)
    await shelf.disk.flush(files, [facts.path])


async def _truncate(shelf: LogShelf, path: str, segments: list[Segment], damage: Damage) -> None:
    """Cut a torn tail off and drop the segments behind it, durably."""
    number = next(i for i, s in enumerate(segments) if s.base_offset == damage.segment_base)
    keep = number + 1 if damage.position or not number else number
    for segment in segments[keep:]:
        for suffix in SEGMENT_SUFFIXES:
            shelf.disk.remove(f"{path}/{file_name(segment.base_offset, suffix)}")
    del segments[keep:]
    torn = shelf.disk.open(f"{path}/{file_name(segments[-1].base_offset, LOG_SUFFIX)}")
    torn.truncate(segments[-1].size)
    await shelf.disk.flush([torn], [path])


async def _sweep(shelf: LogShelf, facts: LogFacts, entries: dict[str, int | None]) -> bool:
    """Remove or finish what was left half done; whether there was anything."""
    leftovers = [name for name in entries if name.endswith(LEFTOVER_SUFFIXES)]
    swaps = [name for name in entries if name.endswith(SWAP_SUFFIX)]
    for name in leftovers:
        shelf.disk.remove(f"{facts.path}/{name}")
    for name in sorted(swaps, reverse=True):
        if name.endswith(LOG_SUFFIX + SWAP_SUFFIX):
            await _finish_swap(shelf, facts, name, entries)
        else:
            shelf.disk.remove(f"{facts.path}/{name}")
    return bool(leftovers or swaps)


async def _finish_swap(shelf: LogShelf, facts: LogFacts, name: str, entries: dict[str, int | None]) -> None:
    """Put a replacement in the place of the segments that it covers."""
    base = int(name.removesuffix(LOG_SUFFIX + SWAP_SUFFIX))
    replay = Replay(
        next_offset=base, epochs=LeaderEpochs(), producers={}, producers_from=0, gaps_below=GAPS_ANYWHERE,
        index_interval_bytes=facts.config.index_interval_bytes,
    )  # fmt: skip
    swap = f"{facts.path}/{name}"
    damage = await run_steps(shelf.disk.open(swap), replay.segment(Segment(base, 0), entries[name] or 0))
    if damage is not None and file_name(base, LOG_SUFFIX) in entries:
        shelf.disk.remove(swap)
        return
    for covered in offsets_of(entries, LOG_SUFFIX):
        if base <= covered < replay.next_offset:
            for suffix in SEGMENT_SUFFIXES if covered > base else (INDEX_SUFFIX, TIME_INDEX_SUFFIX):
                shelf.disk.remove(f"{facts.path}/{file_name(covered, suffix)}")
    await shelf.disk.rename(swap, swap.removesuffix(SWAP_SUFFIX))


def _log(
    shelf: LogShelf, facts: LogFacts, *, segments: list[Segment], start: int, end: int, epochs: LeaderEpochs,
    producers: dict[int, ProducerEntry], offline_reason: str = "",
) -> PartitionLog:  # fmt: skip
    log = PartitionLog(
        shelf, facts.path, topic=facts.topic, topic_id=facts.topic_id, partition=facts.partition,
        config=facts.config, segments=segments, log_start_offset=start, log_end_offset=end,
        recovery_point=facts.recovery_point if offline_reason else end, epochs=epochs, producers=producers,
        high_watermark=min(max(facts.high_watermark, start), end),
        cleaned_offset=facts.cleaned_offset, offline_reason=offline_reason,
    )  # fmt: skip
    log.is_damaged = bool(offline_reason)
    return log


def _found_segments(shelf: LogShelf, bases: list[int], entries: dict[str, int | None]) -> list[Segment]:
    now_ms = shelf.clock.now_ms()
    segments = [Segment(base, now_ms, size=entries[file_name(base, LOG_SUFFIX)] or 0) for base in bases]
    for segment in segments:
        segment.is_checked = False
    return segments


def _read_epochs(shelf: LogShelf, path: str) -> LeaderEpochs | None:
    try:
        return LeaderEpochs(decode_epochs(shelf.disk.read_file(f"{path}/{EPOCHS_FILE}")))
    except (FileNotFoundError, DamagedCheckpointError):
        return None


def _remove_stray_snapshots(
    shelf: LogShelf, path: str, entries: dict[str, int | None], kept: set[int]
) -> None:
    for offset in offsets_of(entries, SNAPSHOT_SUFFIX):
        if offset not in kept:
            shelf.disk.remove(f"{path}/{file_name(offset, SNAPSHOT_SUFFIX)}")
