"""Where the replicas of new partitions go.

Brokers stand in a ring that alternates between racks. Each partition's leader is the next broker of the
ring; its followers are taken from the places after the leader, racks without a replica first. Every time the
ring was walked once, followers begin one place further, so that the partitions of a lost leader spread over
all others. A broker that is fenced or shuts down gets a follower only where the live ones do not suffice, and
never leads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from streamkit.broker.controller.decision import Refusal
from streamkit.broker.controller.image import BrokerRegistration
from streamkit.protocol.error_codes import ErrorCode


def place(
    brokers: Iterable[BrokerRegistration], *, partitions: int, replication_factor: int, start: int
) -> list[list[int]]:
    """Replicas for `partitions` new partitions, the leader first; `start` is the leader's place in the ring.

    Raises Refusal if there are fewer brokers than replicas or none that could lead.
    """
    everyone = sorted(brokers, key=lambda broker: broker.broker_id)
    live = _alternating_racks([broker for broker in everyone if broker.is_active])
    fenced = [broker for broker in everyone if not broker.is_active]
    if replication_factor > len(everyone):
        raise _unreachable(replication_factor, f"only {len(everyone)} broker(s) are registered")
    if not live:
        raise _unreachable(replication_factor, "all brokers are currently fenced")
    return [_replicas(live, fenced, place, replication_factor) for place in range(start, start + partitions)]


def _replicas(
    live: Sequence[BrokerRegistration], fenced: Sequence[BrokerRegistration], place: int, count: int
) -> list[int]:
    turn, position = divmod(place, len(live))
    leader = live[position]
    after = [*live[position + 1 :], *live[:position]]
    shift = turn % len(after) if after else 0
    followers = _new_racks_first(leader, [*after[shift:], *after[:shift]])
    return [broker.broker_id for broker in (leader, *followers, *fenced)][:count]


def _new_racks_first(
    leader: BrokerRegistration, candidates: Iterable[BrokerRegistration]
) -> list[BrokerRegistration]:
    used = {leader.rack}
    first, later = [], []
    for candidate in candidates:
        if candidate.rack in used:
            later.append(candidate)
        else:
            used.add(candidate.rack)
            first.append(candidate)
    return first + later


def _alternating_racks(brokers: Iterable[BrokerRegistration]) -> list[BrokerRegistration]:
    racks: dict[str, list[BrokerRegistration]] = defaultdict(list)
    for broker in brokers:
        racks[broker.rack or ""].append(broker)
    return [broker for broker in chain.from_iterable(zip_longest(*racks.values())) if broker is not None]


def _unreachable(replication_factor: int, reason: str) -> Refusal:
    return Refusal(
        ErrorCode.INVALID_REPLICATION_FACTOR,
        f"Unable to replicate the partition {replication_factor} time(s): {reason}.",
    )
