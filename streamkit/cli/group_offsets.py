"""Where groups are, and having them go on from elsewhere.

A share group has a start offset in each partition, which its share coordinator keeps; all other groups commit
offsets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streamkit.cli.admin import explained
from streamkit.cli.asking import ask
from streamkit.cli.offsets import parse
from streamkit.cli.places import resolved
from streamkit.client import groups, share_groups
from streamkit.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from streamkit.cli.admin import Cluster
    from streamkit.client.groups import ListedGroup

NO_MEMBERS = ("Empty", "Dead")


def committed(cluster: Cluster, name: str) -> dict[tuple[str, int], int]:
    """Every partition that the group has committed an offset of.

    Not by librdkafka, which crashes when it is asked for all of them while no coordinator is elected.
    """
    return ask(cluster.bootstrap, lambda node: groups.committed(node, name))


def positions(cluster: Cluster, group: ListedGroup) -> dict[tuple[str, int], int | None]:
    """Every partition that the group has been in, and where it is there, as far as that is known."""
    if group.type != groups.SHARE:
        return dict(sorted(committed(cluster, group.name).items()))
    found = ask(cluster.bootstrap, lambda node: share_groups.described(node, group.name))
    return {(one.topic, one.partition): one.start for one in (found.partitions if found else ())}


def planned(cluster: Cluster, places: Iterable[tuple[str, int]], to: str) -> dict[tuple[str, int], int]:
    """The offset that `to` means in each of these partitions."""
    wanted = parse(to, now_ms=int(time.time() * 1000))
    if wanted.end is not None:
        raise UsageError(f"--to takes one position, not the range {to!r}", hint="for example --to @-1h")
    places = list(places)
    low = cluster.offsets(places, OffsetSpec.earliest())
    high = cluster.offsets(places, OffsetSpec.latest())
    return resolved(cluster, wanted.start, low, high)


def commit(cluster: Cluster, group: ListedGroup, offsets: Mapping[tuple[str, int], int]) -> None:
    """Have the group go on from these offsets; raises RefusedError while it has members."""
    if group.type == groups.SHARE:
        ask(cluster.bootstrap, lambda node: share_groups.reset(node, group.name, offsets))
        return
    if group.state not in NO_MEMBERS:
        raise groups.has_members(group.name)
    wanted = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    answer = cluster.only_answer(
        cluster.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group.name, wanted)])
    )
    for one in answer.topic_partitions:
        if one.error is not None:
            raise explained(one.error, cluster.bootstrap)


def forget(cluster: Cluster, group: ListedGroup, topic: str) -> None:
    """Delete where the group is in a topic; raises RefusedError while it reads it, NotFoundError."""
    if group.type == groups.SHARE:
        ask(cluster.bootstrap, lambda node: share_groups.forget(node, group.name, topic))
        return
    places = [place for place in committed(cluster, group.name) if place[0] == topic]
    if not places:
        raise NotFoundError(
            f"group {group.name!r} has no offsets of topic {topic!r}",
            hint=f"streamkit group describe {group.name}",
        )
    ask(cluster.bootstrap, lambda node: groups.delete_offsets(node, group.name, places))
