"""What must be true of a history, after `jepsen.tests.kafka`: every value was sent once, so one record
tells all.

    lost-write            acknowledged, and not in the log at the end
    vanished              read by somebody, and not in the log at the end
    duplicate             one value at two offsets
    inconsistent-offsets  two values at one offset
    phantom               in the log, and never sent, or sent and certainly refused
    lost-update           acknowledged in a compacted topic, and of its key only older records are there
    nonmonotonic-send     a producer's batches in another order than it sent them
    nonmonotonic-poll     a consumer went back inside one session
    poll-skip             a consumer went on past a record inside one session
    two-owners        G1  two members of a generation own a partition
    stale-commit      G2  a commit was taken from a member of a generation that is over
    lost-commit       G3  a committed offset was read that is older than one acknowledged before

`transaction_checker` judges the rest. Each check returns what it found as sentences, and counts what it
looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.simulation.workload.findings import Findings
from streamkit.simulation.workload.history import Commit, History, Outcome, Ownership, Poll, Send
from streamkit.simulation.workload.transaction_checker import (
    check_retention,
    check_static_members,
    check_transactions,
)

WEEK_S = 7 * 24 * 3600.0


def check(history: History, *, retention_s: float = WEEK_S) -> Findings:
    """`retention_s`: for how long an empty group keeps its positions."""
    findings = Findings()
    logs = {partition: dict(records) for partition, records in history.final.items()}
    check_writes(history, logs, findings)
    check_offsets(history.polls, logs, findings)
    check_order_of_sends(history.sends, logs, findings)
    check_polls(history.polls, logs, findings)
    check_owners(history.ownerships, findings)
    check_generations(history.ownerships, history.commits, findings)
    check_committed_reads(history, findings)
    committed = {partition: dict(records) for partition, records in history.final_committed.items()}
    check_offsets(history.committed_polls, committed, findings)
    check_polls(history.committed_polls, committed, findings)
    check_table(history, findings)
    check_transactions(history, findings)
    check_static_members(history.static_joins, history.static_acts, findings)
    check_retention(history.kept, history.presences, retention_s, findings)
    for surprise in history.surprises:
        findings.found("surprise", surprise)
    return findings


def check_writes(history: History, logs: dict[int, dict[int, str]], findings: Findings) -> None:
    """Everything acknowledged is there, and nothing else but what may be."""
    places = {
        partition: {value: offset for offset, value in records.items()} for partition, records in logs.items()
    }
    refused, sent = set(), set()
    for send in history.sends:
        findings.evaluations["L5"] += send.outcome is Outcome.OK
        there = places.get(send.partition, {})
        for position, value in enumerate(send.values):
            sent.add(value)
            if send.outcome is Outcome.FAILED:
                refused.add(value)
            if send.outcome is not Outcome.OK or send.partition not in logs:
                continue
            where = f"{value} of {send.producer} in partition {send.partition}"
            if value not in there:
                findings.found("lost-write", f"{where}, acknowledged at {send.ended_s:.3f} s")
            elif send.base_offset >= 0 and there[value] != send.base_offset + position:
                findings.found(
                    "inconsistent-offsets",
                    f"{where} was acknowledged at {send.base_offset + position} and is at {there[value]}",
                )
    for partition, records in logs.items():
        for offset, value in records.items():
            if value not in sent or value in refused:
                findings.found("phantom", f"{value} at offset {offset} of partition {partition}")


def check_offsets(polls: Iterable[Poll], logs: dict[int, dict[int, str]], findings: Findings) -> None:
    """Each offset has one value, each value one offset, for whoever looks."""
    for partition, records in logs.items():
        seen: dict[str, int] = {}
        for offset, value in records.items():
            findings.evaluations["L10"] += 1
            if value in seen:
                findings.found(
                    "duplicate", f"{value} at offsets {seen[value]} and {offset} of partition {partition}"
                )
            seen[value] = offset
    for poll in polls:
        if poll.partition not in logs:
            continue
        records = logs[poll.partition]
        for offset, value in poll.records:
            findings.evaluations["L6"] += 1
            last = records.get(offset)
            if last is None:
                findings.found("vanished", f"{_read(poll, offset, value)}")
            elif last != value:
                findings.found("inconsistent-offsets", f"{_read(poll, offset, value)}, and is {last}")


def check_table(history: History, findings: Findings) -> None:
    """Of each key there is the newest record, or one that was written later; what is there was written."""
    sent = {(send.partition, value) for send in history.updates for value in send.values}
    newest: dict[tuple[int, str], int] = {}
    for partition, records in history.final_table.items():
        for offset, update in records:
            findings.evaluations["L5"] += 1
            if (partition, update) not in sent:
                findings.found("phantom", f"{update} at offset {offset} of table partition {partition}")
            key = partition, update.partition("=")[0]
            newest[key] = max(offset, newest.get(key, -1))
    for send in history.updates:
        if send.outcome is not Outcome.OK or send.partition not in history.final_table:
            continue
        for position, update in enumerate(send.values):
            found = newest.get((send.partition, update.partition("=")[0]), -1)
            if found < max(0, send.base_offset + position):
                findings.found(
                    "lost-update",
                    f"{update} at {send.base_offset + position} of partition {send.partition}, and "
                    f"the newest of its key is at {found}",
                )


def check_order_of_sends(sends: Iterable[Send], logs: dict[int, dict[int, str]], findings: Findings) -> None:
    """What one producer sent to one partition stands in the order in which it sent it."""
    latest: dict[tuple[str, int], int] = {}
    places = {
        partition: {value: offset for offset, value in records.items()} for partition, records in logs.items()
    }
    for send in sends:
        if send.outcome is not Outcome.OK:
            continue
        key = send.producer, send.partition
        for value in send.values:
            offset = places.get(send.partition, {}).get(value)
            if offset is None:
                continue
            if offset <= latest.get(key, -1):
                findings.found(
                    "nonmonotonic-send",
                    f"{value} of {send.producer} at offset {offset}, behind {latest[key]}",
                )
            latest[key] = offset


def check_polls(polls: Iterable[Poll], logs: dict[int, dict[int, str]], findings: Findings) -> None:
    """Inside one session a consumer reads forward and leaves nothing out."""
    position: dict[tuple[str, int], int] = {}
    for poll in polls:
        key = poll.session, poll.partition
        at = position.get(key, poll.from_offset)
        for offset, value in poll.records:
            if offset < at:
                findings.found("nonmonotonic-poll", f"{_read(poll, offset, value)}, after {at - 1}")
            skipped = [skipped for skipped in range(at, offset) if skipped in logs.get(poll.partition, {})]
            if skipped:
                findings.found("poll-skip", f"{_read(poll, offset, value)}, and {skipped[0]} never was")
            at = offset + 1
        position[key] = at


def check_owners(ownerships: Iterable[Ownership], findings: Findings) -> None:
    owners: dict[tuple[int, int], str] = {}
    for told in ownerships:
        findings.evaluations["G1"] += 1
        for partition in told.partitions:
            owner = owners.setdefault((told.generation, partition), told.member)
            if owner != told.member:
                findings.found(
                    "two-owners",
                    f"{owner} and {told.member} own partition {partition} in generation {told.generation}",
                )


def check_generations(ownerships: list[Ownership], commits: Iterable[Commit], findings: Findings) -> None:
    """Once somebody was told of a generation, no commit of an earlier one that begins later is taken."""
    told = sorted((ownership.at_s, ownership.generation) for ownership in ownerships)
    for commit in commits:
        findings.evaluations["G2"] += 1
        newest = max((generation for at_s, generation in told if at_s < commit.began_s), default=-1)
        if commit.generation < newest:
            findings.found(
                "stale-commit",
                f"{commit.member} of generation {commit.generation} committed partition {commit.partition} "
                f"at {commit.ended_s:.3f} s, when generation {newest} was known",
            )


def check_committed_reads(history: History, findings: Findings) -> None:
    for read in history.committed_reads:
        findings.evaluations["G3"] += 1
        before = max(
            (
                commit.offset
                for commit in history.commits
                if commit.partition == read.partition and commit.ended_s < read.began_s
            ),
            default=-1,
        )
        if read.offset < before:
            findings.found(
                "lost-commit",
                f"{read.member} read {read.offset} of partition {read.partition} at {read.ended_s:.3f} s, "
                f"and {before} was acknowledged before",
            )


def _read(poll: Poll, offset: int, value: str) -> str:
    where = f"offset {offset} of partition {poll.partition}"
    return f"{poll.consumer} read {value} at {where} at {poll.at_s:.3f} s"
