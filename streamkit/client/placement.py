"""Where replicas go when a broker is to be emptied: as few moves as can be, to the least loaded.

Replicas that may stay do stay, at their place in the list, so that only what must be copied is copied. A rack
that has no replica of the partition yet goes before one that has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from streamkit.client.cluster import Member, Partition, Place
from streamkit.errors import RefusedError


def emptied(
    partitions: Iterable[Partition], leaving: frozenset[int], brokers: Iterable[Member]
) -> Mapping[Place, list[int]]:
    """The replicas of every partition that has one on a broker of `leaving`, without those brokers.

    Raises RefusedError if a partition would have nowhere to go.
    """
    staying = {one.broker_id: one for one in brokers if not one.is_fenced and one.broker_id not in leaving}
    partitions = list(partitions)
    load = Counter(broker for one in partitions for broker in one.replicas)
    plan = {}
    for one in partitions:
        if leaving.isdisjoint(one.replicas):
            continue
        replicas = list(one.replicas)
        for index, broker in enumerate(replicas):
            if broker in leaving:
                replicas[index] = _successor(one, replicas, staying, load)
                load[replicas[index]] += 1
        plan[one.place] = replicas
    return plan


def _successor(
    partition: Partition, replicas: list[int], staying: Mapping[int, Member], load: Counter[int]
) -> int:
    free = [broker for broker in staying if broker not in replicas]
    if not free:
        raise RefusedError(
            f"{partition.place} has {len(replicas)} replicas, and only {len(staying)} brokers would stay",
            hint="start another broker first",
        )
    taken = {staying[broker].rack for broker in replicas if broker in staying}
    return min(free, key=lambda broker: (staying[broker].rack in taken, load[broker], broker))
