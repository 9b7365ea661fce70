"""Each anomaly by its name, in the smallest history that has it."""

from __future__ import annotations

from streamkit.simulation.workload.checker import check
from streamkit.simulation.workload.history import (
    Commit,
    CommittedRead,
    History,
    Outcome,
    Ownership,
    Poll,
    Send,
)


def sent(*values: str, at: int = 0, outcome: Outcome = Outcome.OK) -> Send:
    base = at if outcome is Outcome.OK else -1
    return Send(
        producer="p", partition=0, values=values, began_s=0, ended_s=1, outcome=outcome, base_offset=base
    )


def polled(*records: tuple[int, str], session: str = "s") -> Poll:
    return Poll(
        consumer="c", session=session, assigned=True, partition=0, from_offset=records[0][0],
        records=records, at_s=2,
    )  # fmt: skip


def owned(member: str, generation: int, at_s: float, *partitions: int) -> Ownership:
    return Ownership(member=member, generation=generation, partitions=partitions, at_s=at_s)


def committed(generation: int, offset: int, began_s: float) -> Commit:
    return Commit(
        member="m", generation=generation, partition=0, offset=offset, began_s=began_s, ended_s=began_s + 1
    )


def anomalies(
    *events: Send | Poll | Ownership | Commit | CommittedRead, final: list[tuple[int, str]] | None = None
) -> set[str]:
    history = History()
    for event in events:
        match event:
            case Send():
                history.sends.append(event)
            case Poll():
                history.polls.append(event)
            case Ownership():
                history.ownerships.append(event)
            case Commit():
                history.commits.append(event)
            case CommittedRead():
                history.committed_reads.append(event)
    history.final[0] = final or []
    return {violation.partition(":")[0] for violation in check(history).violations}


def test_a_history_that_is_right() -> None:
    final = [(0, "a"), (1, "b"), (2, "maybe")]
    sends = sent("a"), sent("b", at=1), sent("maybe", outcome=Outcome.UNKNOWN)
    assert anomalies(*sends, polled((0, "a")), polled((1, "b")), final=final) == set()
    assert anomalies(*sends, final=final[:2]) == set()


def test_lost_write() -> None:
    assert anomalies(sent("a")) == {"lost-write"}


def test_vanished() -> None:
    assert anomalies(sent("a", outcome=Outcome.UNKNOWN), polled((0, "a"))) == {"vanished"}


def test_duplicate() -> None:
    assert "duplicate" in anomalies(sent("a"), final=[(0, "a"), (1, "a")])


def test_inconsistent_offsets() -> None:
    both = sent("a"), sent("b", at=1)
    assert anomalies(*both, polled((0, "b")), final=[(0, "a"), (1, "b")]) == {"inconsistent-offsets"}
    assert anomalies(sent("a", at=3), final=[(0, "a")]) == {"inconsistent-offsets"}


def test_phantom() -> None:
    assert anomalies(final=[(0, "never sent")]) == {"phantom"}
    assert anomalies(sent("a", outcome=Outcome.FAILED), final=[(0, "a")]) == {"phantom"}


def test_nonmonotonic_send() -> None:
    assert anomalies(sent("b", at=1), sent("a", at=0), final=[(0, "a"), (1, "b")]) == {"nonmonotonic-send"}


def test_nonmonotonic_poll_and_poll_skip() -> None:
    sends = sent("a"), sent("b", at=1), sent("c", at=2)
    final = [(0, "a"), (1, "b"), (2, "c")]
    back = polled((1, "b")), polled((0, "a"))
    assert anomalies(*sends, *back, final=final) == {"nonmonotonic-poll"}
    assert anomalies(*sends, polled((0, "a")), polled((2, "c")), final=final) == {"poll-skip"}
    elsewhere = polled((0, "a")), polled((2, "c"), session="another")
    assert anomalies(*sends, *elsewhere, final=final) == set()


def test_two_owners() -> None:
    assert anomalies(owned("m", 3, 1, 0), owned("n", 3, 1, 0, 1)) == {"two-owners"}
    assert anomalies(owned("m", 3, 1, 0), owned("n", 4, 1, 0, 1)) == set()


def test_stale_commit() -> None:
    assert anomalies(owned("n", 4, 1, 0), committed(3, 10, began_s=2)) == {"stale-commit"}
    assert anomalies(owned("n", 4, 3, 0), committed(3, 10, began_s=2)) == set()


def test_lost_commit() -> None:
    def read(offset: int, began_s: float) -> CommittedRead:
        return CommittedRead(member="n", partition=0, offset=offset, began_s=began_s, ended_s=began_s)

    assert anomalies(committed(3, 10, began_s=2), read(9, 4)) == {"lost-commit"}
    assert anomalies(committed(3, 10, began_s=2), read(9, 2.5)) == set()
