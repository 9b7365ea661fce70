"""Each anomaly of transactions, static members and empty groups by its name, in the smallest history that has
it."""

from __future__ import annotations

from typing import Any

from streamkit.simulation.workload.findings import Findings
from streamkit.simulation.workload.history import (
    Act,
    Consumed,
    Fate,
    History,
    Kept,
    Poll,
    PositionRead,
    Presence,
    ProducerEpoch,
    StaticAct,
    StaticJoin,
    TakeOver,
    Transaction,
)
from streamkit.simulation.workload.transaction_checker import (
    check_retention,
    check_static_members,
    check_transactions,
)

FIRST, SECOND = ProducerEpoch(7, 0), ProducerEpoch(7, 1)


def written(name: str, fate: Fate, *values: str, consumed: Consumed | None = None) -> Transaction:
    """Begun at 1 s; its commit was asked for at 2 s and it ended at 3 s, unless it was aborted."""
    return Transaction(
        name=name, transactional_id="t", producer=FIRST, began_s=1, values={0: list(values)},
        consumed=consumed, commit_asked_s=None if fate is Fate.ABORTED else 2, ended_s=3, fate=fate,
    )  # fmt: skip


def polled(value: str, at_s: float) -> Poll:
    return Poll(
        consumer="c", session="s", assigned=True, partition=0, from_offset=0, records=((0, value),), at_s=at_s
    )


def taken(producer: ProducerEpoch, at_s: float) -> TakeOver:
    return TakeOver(transactional_id="t", producer=producer, began_s=at_s, ended_s=at_s + 0.5)


def acted(
    producer: ProducerEpoch, at_s: float, what: str = "a write", successor: ProducerEpoch | None = None
) -> Act:
    return Act(
        transactional_id="t", producer=producer, what=what, began_s=at_s, ended_s=at_s + 0.5,
        successor=successor,
    )  # fmt: skip


def position(offset: int, transaction: str, at_s: float) -> PositionRead:
    return PositionRead(partition=0, offset=offset, transaction=transaction, began_s=at_s, ended_s=at_s + 0.5)


def anomalies(*events: Any, final: tuple[str, ...] | None = None, position: int | None = None) -> set[str]:
    history, findings = History(), Findings()
    lists: dict[type, list[Any]] = {
        Transaction: history.transactions,
        Poll: history.committed_polls,
        TakeOver: history.take_overs,
        Act: history.acts,
        PositionRead: history.position_reads,
    }
    for event in events:
        lists[type(event)].append(event)
    if final is not None:
        history.final_committed[0] = list(enumerate(final))
    if position is not None:
        history.final_positions[0] = position
    check_transactions(history, findings)
    return {violation.partition(":")[0] for violation in findings.violations}


def test_a_history_that_is_right() -> None:
    one = written("one", Fate.COMMITTED, "a", "b", consumed=Consumed(0, 0, 2))
    none = written("none", Fate.ABORTED, "x")
    perhaps = written("perhaps", Fate.UNKNOWN, "c", "d", consumed=Consumed(0, 2, 4))
    events = one, none, perhaps, polled("a", 2.5), taken(FIRST, 0), acted(FIRST, 1, successor=SECOND)
    reads = position(2, "one", 2.5), position(-1, "", 1)
    assert anomalies(*events, *reads, final=("a", "b"), position=2) == set()
    assert anomalies(*events, *reads, final=("a", "b", "c", "d"), position=4) == set()


def test_lost_write() -> None:
    assert anomalies(written("one", Fate.COMMITTED, "a", "b"), final=("a",)) == {"lost-write"}


def test_aborted_read() -> None:
    none = written("none", Fate.ABORTED, "x")
    assert anomalies(none, polled("x", 9)) == {"aborted-read"}
    assert anomalies(none, final=("x",)) == {"aborted-read"}


def test_precommitted_read() -> None:
    one = written("one", Fate.COMMITTED, "a")
    assert anomalies(one, polled("a", 1.5), final=("a",)) == {"precommitted-read"}


def test_torn_transaction() -> None:
    assert anomalies(written("perhaps", Fate.UNKNOWN, "a", "b"), final=("a",)) == {"torn-transaction"}


def test_zombie() -> None:
    take_overs = taken(FIRST, 0), taken(SECOND, 5)
    assert anomalies(*take_overs, acted(FIRST, 6)) == {"zombie"}
    assert anomalies(*take_overs, acted(FIRST, 5.2)) == set(), "it may have been done before"


def test_stale_epoch() -> None:
    assert anomalies(taken(SECOND, 0), taken(SECOND, 5)) == {"stale-epoch"}
    assert anomalies(taken(FIRST, 0), acted(FIRST, 1, "a commit", successor=FIRST)) == {"stale-epoch"}


def test_uncommitted_position() -> None:
    one = written("one", Fate.COMMITTED, "a", consumed=Consumed(0, 0, 2))
    none = written("none", Fate.ABORTED, "x", consumed=Consumed(0, 0, 3))
    assert anomalies(one, position(2, "one", 1)) == {"uncommitted-position"}
    assert anomalies(none, position(3, "none", 9)) == {"uncommitted-position"}
    assert anomalies(one, position(1, "one", 9)) == {"uncommitted-position", "lost-position"}


def test_lost_position() -> None:
    one = written("one", Fate.COMMITTED, "a", consumed=Consumed(0, 0, 2))
    assert anomalies(one, position(-1, "", 4)) == {"lost-position"}
    assert anomalies(one, final=("a",), position=-1) == {"lost-position"}


def test_copied_twice() -> None:
    one = written("one", Fate.COMMITTED, "a", consumed=Consumed(0, 0, 2))
    again = written("again", Fate.UNKNOWN, "b", consumed=Consumed(0, 1, 2))
    assert anomalies(one, again, final=("a", "b"), position=2) == {"copied-twice"}


def test_copied_never() -> None:
    one = written("one", Fate.COMMITTED, "a", consumed=Consumed(0, 1, 2))
    perhaps = written("perhaps", Fate.UNKNOWN, "b", consumed=Consumed(0, 0, 1))
    assert anomalies(one, perhaps, final=("a",), position=2) == {"copied-never"}


def joined(instance: str, member: str, generation: int, at_s: float) -> StaticJoin:
    return StaticJoin(
        instance=instance, member_id=member, generation=generation, began_s=at_s, ended_s=at_s + 0.5
    )


def beat(instance: str, member: str, at_s: float) -> StaticAct:
    return StaticAct(instance=instance, member_id=member, generation=2, began_s=at_s, ended_s=at_s + 0.5)


def disturbances(*events: StaticJoin | StaticAct) -> set[str]:
    findings = Findings()
    check_static_members(
        [one for one in events if isinstance(one, StaticJoin)],
        [one for one in events if isinstance(one, StaticAct)],
        findings,
    )
    return {violation.partition(":")[0] for violation in findings.violations}


def test_rebalanced() -> None:
    together = joined("a", "a1", 1, 0), joined("b", "b1", 2, 1), joined("a", "a1", 2, 2)
    assert disturbances(*together, joined("b", "b2", 2, 5)) == set()
    assert disturbances(*together, joined("b", "b2", 3, 5)) == {"rebalanced"}


def test_duplicate_static() -> None:
    both = joined("a", "a1", 2, 0), joined("a", "a2", 2, 5)
    assert disturbances(*both, beat("a", "a1", 3), beat("a", "a2", 6)) == set()
    assert disturbances(*both, beat("a", "a1", 6)) == {"duplicate-static"}


def kept(offset: int, at_s: float, *, is_read: bool) -> Kept:
    return Kept(group="g", offset=offset, began_s=at_s, ended_s=at_s + 0.5, is_read=is_read)


def test_forgotten() -> None:
    def forgets(at_s: float, *there_s: float) -> bool:
        findings = Findings()
        events = kept(1, 5, is_read=False), kept(-1, at_s, is_read=True)
        check_retention(events, [Presence(group="g", at_s=one) for one in there_s], 60, findings)
        assert findings.evaluations["G9"] == 1
        return bool(findings.violations)

    assert forgets(40)
    assert not forgets(70)
    assert forgets(70, 20), "it was empty only from then on"
