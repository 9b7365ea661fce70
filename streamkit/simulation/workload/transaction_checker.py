"""What must be true of transactions, static members and empty groups, judged by what clients were told.

    lost-write            G4  committed, and a record of it is not there at the end
    aborted-read          G4  a reader of committed transactions saw one that was aborted
    precommitted-read     G4  it saw one before anybody asked to commit it
    torn-transaction      G4  one is there at the end in part
    zombie                G5  a request was accepted from a producer whose id had been taken over before
    stale-epoch           G5  a producer epoch was given out that is not above all before it
    uncommitted-position  G7  a position was read that no committed transaction wrote
    lost-position         G7  a position was read that is older than one committed before
    copied-twice          G7  two committed transactions copied the same record
    copied-never          G7  the position has passed a record that no committed transaction copied
    rebalanced            G8  a static member came back, and the others were disturbed
    duplicate-static      G8  a request was accepted from a member id that had been replaced before
    forgotten             G9  an empty group lost its position before its retention was over

One transaction of unknown fate is all or nothing: what is there at the end says which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from streamkit.simulation.workload.findings import Findings
from streamkit.simulation.workload.history import (
    Act,
    Fate,
    History,
    Kept,
    PositionRead,
    Presence,
    ProducerEpoch,
    StaticAct,
    StaticJoin,
    TakeOver,
    Transaction,
)

Logs = dict[int, dict[int, str]]
STATIC_MEMBERS = 2
SLOWEST_CLOCK = 0.94


def check_transactions(history: History, findings: Findings) -> None:
    logs = {partition: dict(records) for partition, records in history.final_committed.items()}
    by_value = {
        value: one for one in history.transactions for values in one.values.values() for value in values
    }
    check_reads(history, by_value, findings)
    visible = check_atomicity(history.transactions, logs, findings)
    check_epochs(history.take_overs, history.acts, findings)
    check_zombies(history.take_overs, history.acts, findings)
    check_positions(history, findings)
    check_copies(history, visible, findings)


def check_reads(history: History, by_value: dict[str, Transaction], findings: Findings) -> None:
    for poll in history.committed_polls:
        for offset, value in poll.records:
            findings.evaluations["G4"] += 1
            read = by_value.get(value)
            where = (
                f"{poll.consumer} read {value} at offset {offset} of {poll.partition} at {poll.at_s:.3f} s"
            )
            if read is None:
                findings.found("phantom", f"{where}, and nobody wrote it")
            elif read.fate is Fate.ABORTED:
                findings.found("aborted-read", where)
            elif read.commit_asked_s is not None and poll.at_s < read.commit_asked_s:
                findings.found("precommitted-read", f"{where}; {read.commit_asked_s:.3f} s is its commit")


def check_atomicity(transactions: Iterable[Transaction], logs: Logs, findings: Findings) -> set[str]:
    """The names of the transactions that are there at the end."""
    places = {
        partition: {value: offset for offset, value in records.items()} for partition, records in logs.items()
    }
    visible = set()
    for one in transactions:
        sent = [(partition, value) for partition in one.values for value in one.values[partition]]
        judged = [(partition, value) for partition, value in sent if partition in places]
        there = [value for partition, value in judged if value in places[partition]]
        findings.evaluations["G4"] += bool(judged)
        who = f"{one.name} of {one.transactional_id} {tuple(one.producer)}"
        if there:
            visible.add(one.name)
        if there and one.fate is Fate.ABORTED:
            findings.found("aborted-read", f"{there[0]} of {who} is there at the end")
        elif one.fate is Fate.COMMITTED and len(there) < len(judged):
            lost = next(value for partition, value in judged if value not in places[partition])
            findings.found("lost-write", f"{lost} of {who}, committed at {one.ended_s:.3f} s")
        elif there and len(there) < len(judged):
            findings.found("torn-transaction", f"{len(there)} of {len(judged)} records of {who} are there")
        for written in one.written:
            for position, value in enumerate(written.values):
                offset = places.get(written.partition, {}).get(value)
                if offset is not None and written.base_offset >= 0:
                    expected = written.base_offset + position
                    if offset != expected:
                        where = f"{value} of {who} was acknowledged at {expected} and is at {offset}"
                        findings.found("inconsistent-offsets", where)
    return visible


def check_epochs(take_overs: Iterable[TakeOver], acts: Iterable[Act], findings: Findings) -> None:
    """Each take-over and each end gives out an epoch that is above all that were known before it began."""
    given: dict[str, list[tuple[float, float, ProducerEpoch]]] = defaultdict(list)
    for taken in take_overs:
        given[taken.transactional_id].append((taken.began_s, taken.ended_s, taken.producer))
    for act in acts:
        if act.successor is not None:
            findings.evaluations["G5"] += 1
            if act.successor <= act.producer:
                findings.found(
                    "stale-epoch",
                    f"{act.transactional_id} {tuple(act.producer)} ended a transaction by {act.what} and "
                    f"goes on as {tuple(act.successor)}",
                )
            given[act.transactional_id].append((act.began_s, act.ended_s, act.successor))
    for transactional_id, epochs in given.items():
        known: list[tuple[float, ProducerEpoch]] = sorted((ended_s, who) for _, ended_s, who in epochs)
        for began_s, _, producer in epochs:
            findings.evaluations["G5"] += 1
            before = max((who for ended_s, who in known if ended_s < began_s), default=None)
            if before is not None and producer <= before:
                findings.found(
                    "stale-epoch",
                    f"{transactional_id} was given {tuple(producer)} after {tuple(before)} was known",
                )


def check_zombies(take_overs: Iterable[TakeOver], acts: Iterable[Act], findings: Findings) -> None:
    """Once a transactional id was taken over, nothing that its earlier holder asks for is done."""
    taken: dict[str, list[TakeOver]] = defaultdict(list)
    for one in take_overs:
        taken[one.transactional_id].append(one)
    for act in acts:
        findings.evaluations["G5"] += 1
        for one in taken[act.transactional_id]:
            if one.ended_s < act.began_s and act.producer < one.producer:
                findings.found(
                    "zombie",
                    f"{act.what} of {act.transactional_id} {tuple(act.producer)} was accepted at "
                    f"{act.ended_s:.3f} s, and {tuple(one.producer)} took it over at {one.ended_s:.3f} s",
                )
                break


def check_positions(history: History, findings: Findings) -> None:
    by_name = {one.name: one for one in history.transactions}
    for read in history.position_reads:
        findings.evaluations["G7"] += 1
        _check_position(read, by_name, findings)
        before = max(
            (
                one.consumed.to_offset
                for one in history.transactions
                if one.consumed is not None
                and one.consumed.partition == read.partition
                and one.fate is Fate.COMMITTED
                and one.ended_s < read.began_s
            ),
            default=-1,
        )
        if read.offset < before:
            findings.found(
                "lost-position",
                f"{read.offset} of partition {read.partition} was read at {read.ended_s:.3f} s, and {before} "
                "was committed before",
            )


def _check_position(read: PositionRead, by_name: dict[str, Transaction], findings: Findings) -> None:
    wrote = by_name.get(read.transaction)
    place = f"{read.offset} of partition {read.partition}, of {read.transaction}"
    what = f"{place}, was read at {read.ended_s:.3f} s"
    if read.offset < 0:
        return
    if wrote is None or wrote.consumed is None or wrote.consumed.to_offset != read.offset:
        findings.found("uncommitted-position", f"{what}, and nobody wrote that")
    elif wrote.fate is Fate.ABORTED:
        findings.found("uncommitted-position", f"{what}, and it was aborted")
    elif wrote.commit_asked_s is not None and read.ended_s < wrote.commit_asked_s:
        findings.found("uncommitted-position", f"{what}; {wrote.commit_asked_s:.3f} s is its commit")


def check_copies(history: History, visible: set[str], findings: Findings) -> None:
    """What the copying group has passed was copied once: ranges of what is visible follow each other."""
    copied: dict[int, list[Transaction]] = defaultdict(list)
    for one in history.transactions:
        if one.consumed is not None and one.name in visible:
            copied[one.consumed.partition].append(one)
    for partition, position in history.final_positions.items():
        end = 0
        ranges = [(one.consumed, one.name) for one in copied[partition] if one.consumed is not None]
        for consumed, name in sorted(ranges):
            findings.evaluations["G7"] += 1
            if consumed.from_offset < end:
                findings.found("copied-twice", f"{name} copied {consumed}, and others up to {end} before")
            elif consumed.from_offset > end:
                findings.found("copied-never", f"{name} copied {consumed}, and nobody from {end} on")
            end = max(end, consumed.to_offset)
        if max(0, position) != end:
            findings.found(
                "copied-never" if position > end else "lost-position",
                f"the position of partition {partition} is {position}, and copies end at {end}",
            )


def check_static_members(joins: Iterable[StaticJoin], acts: Iterable[StaticAct], findings: Findings) -> None:
    """Whoever comes back after all were together once comes back into the same generation."""
    together: tuple[float, int] | None = None
    by_generation: dict[int, set[str]] = defaultdict(set)
    joined = sorted(joins, key=lambda one: one.ended_s)
    for one in joined:
        findings.evaluations["G8"] += 1
        if together is not None and one.began_s > together[0] and one.generation != together[1]:
            findings.found(
                "rebalanced",
                f"{one.instance} came back into generation {one.generation} at {one.ended_s:.3f} s, and "
                f"{together[1]} was complete",
            )
            together = None
            by_generation.clear()
        by_generation[one.generation].add(one.instance)
        if together is None and len(by_generation[one.generation]) == STATIC_MEMBERS:
            together = one.ended_s, one.generation
    for act in acts:
        findings.evaluations["G8"] += 1
        replaced = [
            one
            for one in joined
            if one.instance == act.instance and one.member_id != act.member_id and one.ended_s < act.began_s
        ]
        own = next(one for one in joined if one.member_id == act.member_id)
        if any(one.began_s > own.ended_s for one in replaced):
            findings.found(
                "duplicate-static",
                f"{act.member_id} was accepted at {act.ended_s:.3f} s, and {replaced[-1].member_id} has "
                "replaced it",
            )


def check_retention(
    kept: Iterable[Kept], presences: Iterable[Presence], retention_s: float, findings: Findings
) -> None:
    """A group that was not empty `retention_s` ago has what was committed last."""
    there: dict[str, list[float]] = defaultdict(list)
    for presence in presences:
        there[presence.group].append(presence.at_s)
    committed: dict[str, list[Kept]] = defaultdict(list)
    for one in sorted(kept, key=lambda one: one.ended_s):
        if not one.is_read:
            committed[one.group].append(one)
            there[one.group].append(one.began_s)
            continue
        before = [commit for commit in committed[one.group] if commit.ended_s < one.began_s]
        if not before:
            continue
        findings.evaluations["G9"] += 1
        last_s = max(at_s for at_s in there[one.group] if at_s <= one.began_s)
        if one.offset < before[-1].offset and one.ended_s < last_s + retention_s * SLOWEST_CLOCK:
            findings.found(
                "forgotten",
                f"{one.group} had {before[-1].offset} and somebody until {last_s:.3f} s, and {one.offset} "
                f"was read at {one.ended_s:.3f} s",
            )
