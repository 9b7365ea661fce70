"""One partition changes: who is in sync, who stays eligible, who leads.

Whatever happens to a partition (a broker comes or goes, its leader reports another ISR, it is moved, an
election is asked for) is said as a `Change`: what is wanted of it and under which rules. `change` finds the
state after it, in this order:

1. A reassignment ends once every replica of its target is in the ISR.
2. Replicas that leave an ISR which falls below min.insync.replicas become eligible leaders (ELR, KIP-966).
   With so few in sync the leader commits nothing, so they go on holding all that was ever committed, until
   the ISR is large enough again. A replica that may have lost bytes is no longer one of them.
3. A leader is elected where the present one cannot stay: from the ISR in the order of the replicas; from the
   ELR if the ISR is empty; the last known leader if both are; and, only if that is allowed, any live replica.
   The last two may lose records, so the partition is `RECOVERING` until its leader says otherwise, and its
   leader is the whole ISR.

What follows by construction: ISR and ELR have nothing in common and are among the replicas; the leader is in
the ISR; where ELR is kept, an ISR without an eligible leader has no leader rather than a wrong one. A leader
epoch begins with every change of leadership, and when a replica is taken away (it might go on fetching
otherwise); the partition epoch counts everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

import msgspec
from msgspec.structs import replace

from streamkit.broker.controller.image import PartitionRegistration
from streamkit.broker.controller.records import (
    NO_LEADER,
    NO_LEADER_CHANGE,
    NO_RECOVERY_CHANGE,
    RECOVERING,
    PartitionChangeRecord,
)
from streamkit.protocol.schema import ZERO_UUID

NOTHING: Final[frozenset[int]] = frozenset()


class Election(Enum):
    """Who may lead when the present leader does not have to go."""

    ONLINE = auto()
    """The present leader, if it can."""
    PREFERRED = auto()
    """The first replica, if it can."""
    UNCLEAN = auto()
    """As ONLINE; if nobody can, whoever lives."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a partition at this moment. `may_lead`: whether a broker is fit to lead at all."""

    may_lead: Callable[[int], bool]
    min_insync_replicas: int
    has_elr: bool
    election: Election = Election.ONLINE
    directory: Callable[[int], bytes] = lambda broker: ZERO_UUID


class Change(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is wanted of a partition; None leaves as it is."""

    isr: Sequence[int] | None = None
    replicas: Sequence[int] | None = None
    adding: Sequence[int] | None = None
    removing: Sequence[int] | None = None
    recovery_state: int | None = None
    lossy: frozenset[int] = NOTHING
    """Brokers that may have lost bytes; out of ISR and ELR until they have caught up."""
    wiped: frozenset[int] = NOTHING
    """Brokers that lost everything; nor is one of them ever the last known leader."""


class _State(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The partition on its way from before to after."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]
    isr: tuple[int, ...]
    elr: tuple[int, ...]
    last_known: tuple[int, ...]
    leader: int
    recovery_state: int


def change(
    topic_id: bytes, index: int, before: PartitionRegistration, wanted: Change, rules: Rules
) -> PartitionChangeRecord | None:
    """The record that brings what is wanted, or None if nothing changes."""
    state = _State(
        replicas=_either(wanted.replicas, before.replicas),
        adding=_either(wanted.adding, before.adding_replicas),
        removing=_either(wanted.removing, before.removing_replicas),
        isr=tuple(one for one in _either(wanted.isr, before.isr) if one not in wanted.lossy),
        elr=before.elr,
        last_known=tuple(one for one in before.last_known_elr if one not in wanted.wiped),
        leader=before.leader,
        recovery_state=before.leader_recovery_state,
    )
    if wanted.recovery_state is not None:
        state = replace(state, recovery_state=wanted.recovery_state)
    state = _with_reassignment_completed(state)
    state = _with_eligible(state, before, wanted.lossy, rules)
    state = _with_leader(state, rules)
    if not state.isr and not rules.has_elr:
        # Without a place to remember them, the last in sync stay named although they cannot be reached.
        state = replace(state, isr=before.isr)
    state = replace(state, last_known=_last_known(before, state, wanted.wiped, rules))
    nothing = PartitionChangeRecord(topic_id=topic_id, partition_id=index)
    record = _difference(nothing, before, state, rules)
    return None if record == nothing else record


def completes(replicas: Sequence[int], removing: Sequence[int], isr: Sequence[int]) -> bool:
    """Whether a reassignment is done with this ISR: all of the target is in sync, and there is a target."""
    target = [one for one in replicas if one not in removing]
    return bool(target) and set(target) <= set(isr)


def _with_reassignment_completed(state: _State) -> _State:
    if not (state.adding or state.removing) or not completes(state.replicas, state.removing, state.isr):
        return state
    return replace(
        state,
        replicas=tuple(one for one in state.replicas if one not in state.removing),
        isr=tuple(one for one in state.isr if one not in state.removing),
        adding=(),
        removing=(),
    )


def _with_eligible(
    state: _State, before: PartitionRegistration, lossy: frozenset[int], rules: Rules
) -> _State:
    if not rules.has_elr or len(state.isr) >= _min_isr(state, rules):
        return replace(state, elr=())
    kept = [
        one
        for one in dict.fromkeys((*before.elr, *before.isr))
        if one not in state.isr and one not in lossy and one in state.replicas
    ]
    return replace(state, elr=tuple(kept))


def _min_isr(state: _State, rules: Rules) -> int:
    """More in sync than there are replicas can never be asked for."""
    return min(rules.min_insync_replicas, len(state.replicas))


def _with_leader(state: _State, rules: Rules) -> _State:
    leader = _clean_leader(state, rules)
    if leader in state.isr:
        return replace(state, leader=leader)
    if leader != NO_LEADER:
        # Where one in sync is enough it commits alone from now on, and the others are eligible no longer.
        others = tuple(one for one in state.elr if one != leader)
        elr = others if _min_isr(state, rules) > 1 else ()
        return replace(state, leader=leader, isr=(leader,), elr=elr)
    leader = _unclean_leader(state, rules)
    if leader != NO_LEADER:
        return replace(state, leader=leader, isr=(leader,), elr=(), recovery_state=RECOVERING)
    return replace(state, leader=NO_LEADER)


def _clean_leader(state: _State, rules: Rules) -> int:
    """Who can lead without losing anything, or NO_LEADER."""
    eligible = state.isr or state.elr
    order = (state.leader, *state.replicas)
    if rules.election is Election.PREFERRED:
        order = (state.replicas[0], *order)
    return next((one for one in order if one in eligible and rules.may_lead(one)), NO_LEADER)


def _unclean_leader(state: _State, rules: Rules) -> int:
    candidates: tuple[int, ...] = ()
    if rules.has_elr and not state.isr and not state.elr:
        candidates = tuple(one for one in state.last_known if one in state.replicas)
    if rules.election is Election.UNCLEAN:
        candidates += state.replicas
    return next((one for one in candidates if rules.may_lead(one)), NO_LEADER)


def _last_known(
    before: PartitionRegistration, state: _State, wiped: frozenset[int], rules: Rules
) -> tuple[int, ...]:
    if not rules.has_elr or state.leader != NO_LEADER:
        return ()
    if before.leader != NO_LEADER and not state.isr:
        return () if before.leader in wiped else (before.leader,)
    return state.last_known


def _difference(
    nothing: PartitionChangeRecord, before: PartitionRegistration, state: _State, rules: Rules
) -> PartitionChangeRecord:
    begins_epoch = state.leader != before.leader or not set(before.replicas) <= set(state.replicas)
    recovers = state.recovery_state != before.leader_recovery_state
    return replace(
        nothing,
        leader=state.leader if begins_epoch else NO_LEADER_CHANGE,
        isr=_if_other(state.isr, before.isr),
        replicas=_if_other(state.replicas, before.replicas),
        removing_replicas=_if_other(state.removing, before.removing_replicas),
        adding_replicas=_if_other(state.adding, before.adding_replicas),
        eligible_leader_replicas=_if_other(state.elr, before.elr),
        last_known_elr=_if_other(state.last_known, before.last_known_elr),
        leader_recovery_state=state.recovery_state if recovers else NO_RECOVERY_CHANGE,
        directories=_directories(before, state, rules),
    )


def _directories(before: PartitionRegistration, state: _State, rules: Rules) -> list[bytes] | None:
    if state.replicas == before.replicas:
        return None
    known = dict(zip(before.replicas, before.directories, strict=False))
    return [known[one] if one in known else rules.directory(one) for one in state.replicas]


def _either(wanted: Sequence[int] | None, present: tuple[int, ...]) -> tuple[int, ...]:
    return present if wanted is None else tuple(wanted)


def _if_other(after: tuple[int, ...], before: tuple[int, ...]) -> list[int] | None:
    return None if after == before else list(after)
