"""Replication throttles of a cluster: set for a move, changed on its way, lifted when it is done (KIP-73).

Each broker has a bound on what it sends, and one on what it fetches; each topic names the replicas that are
held to them. A move throttles the replicas that it copies from and to, on their brokers, and is lifted by
taking bounds and names away again, wherever they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from streamkit.client.cluster import TOPIC_RESOURCE, Place, members, partitions
from streamkit.client.node import Node, check
from streamkit.errors import NotFoundError
from streamkit.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from streamkit.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from streamkit.runtime.contracts.network import Network

LEADER_RATE: Final = "leader.replication.throttled.rate"
FOLLOWER_RATE: Final = "follower.replication.throttled.rate"
LEADER_REPLICAS: Final = "leader.replication.throttled.replicas"
FOLLOWER_REPLICAS: Final = "follower.replication.throttled.replicas"
RATES: Final = (LEADER_RATE, FOLLOWER_RATE)
REPLICAS: Final = (LEADER_REPLICAS, FOLLOWER_REPLICAS)
EVERY_REPLICA: Final = "*"

BROKER_RESOURCE: Final = 4
ALL_BROKERS: Final = ""
SET, DELETE = 0, 1
DYNAMIC_SOURCES: Final = (2, 3)
"""Altered for one broker, altered for all."""
TOPIC_SOURCE: Final = 1

Resource = tuple[int, str]


class Throttled(msgspec.Struct, frozen=True, kw_only=True):
    """What is throttled at a moment: bytes per second by broker, and names of replicas by topic."""

    leader_rates: dict[int, int]
    follower_rates: dict[int, int]
    leader_replicas: dict[str, list[str]]
    follower_replicas: dict[str, list[str]]

    @property
    def brokers(self) -> list[int]:
        return sorted({*self.leader_rates, *self.follower_rates})

    @property
    def topics(self) -> list[str]:
        return sorted({*self.leader_replicas, *self.follower_replicas})


async def throttled(node: Node, network: Network) -> Throttled:
    """What is throttled now."""
    topics = dict.fromkeys(one.topic for one in await partitions(node))
    of_topics = await _altered(node, [(TOPIC_RESOURCE, name) for name in topics], REPLICAS, (TOPIC_SOURCE,))
    rates: dict[str, dict[int, int]] = {name: {} for name in RATES}
    for broker_id, address in (await _addresses(node)).items():
        own = [(BROKER_RESOURCE, str(broker_id))]
        async with _connected(network, address) as there:
            for (_, name), text in (await _altered(there, own, RATES, DYNAMIC_SOURCES)).items():
                rates[name][broker_id] = int(text)
    lists: dict[str, dict[str, list[str]]] = {name: {} for name in REPLICAS}
    for ((_, topic), name), text in of_topics.items():
        if text:
            lists[name][topic] = text.split(",")
    return Throttled(
        leader_rates=rates[LEADER_RATE],
        follower_rates=rates[FOLLOWER_RATE],
        leader_replicas=lists[LEADER_REPLICAS],
        follower_replicas=lists[FOLLOWER_REPLICAS],
    )


async def throttle_move(
    node: Node,
    network: Network,
    *,
    now: Throttled,
    before: Mapping[Place, Sequence[int]],
    plan: Mapping[Place, Sequence[int]],
    rate: int,
) -> None:
    """Bound what this plan copies, beside what is throttled already; raises AnsweredError.

    `before` are the replicas of now: the leaders among them send, and who is not among them fetches.
    """
    senders: dict[str, list[str]] = {}
    fetchers: dict[str, list[str]] = {}
    brokers: dict[int, None] = {}
    for place, replicas in plan.items():
        added = [broker for broker in replicas if broker not in before[place]]
        if not added:
            continue
        senders.setdefault(place.topic, []).extend(_names(place, before[place]))
        fetchers.setdefault(place.topic, []).extend(_names(place, added))
        brokers.update(dict.fromkeys((*before[place], *added)))
    changes: dict[Resource, dict[str, str | None]] = {}
    for topic, names in senders.items():
        changes[TOPIC_RESOURCE, topic] = {
            LEADER_REPLICAS: _joined(now.leader_replicas.get(topic, ()), names),
            FOLLOWER_REPLICAS: _joined(now.follower_replicas.get(topic, ()), fetchers[topic]),
        }
    await _alter(node, changes)
    await _bound(node, network, brokers, str(rate))


async def change_rate(node: Node, network: Network, now: Throttled, rate: int) -> None:
    """Another bound for whatever is throttled; raises NotFoundError if nothing is, AnsweredError."""
    if not now.brokers:
        raise NotFoundError("nothing is throttled", hint="streamkit partition move --throttle 20MB")
    await _bound(node, network, now.brokers, str(rate))


async def lift(node: Node, network: Network, now: Throttled) -> None:
    """Throttle nothing any more; raises AnsweredError.

    A broker that is away keeps its bound, which binds nothing while no replica is named.
    """
    changes: dict[Resource, dict[str, str | None]] = {
        (TOPIC_RESOURCE, topic): dict.fromkeys(REPLICAS) for topic in now.topics
    }
    changes[BROKER_RESOURCE, ALL_BROKERS] = dict.fromkeys(RATES)
    await _alter(node, changes)
    await _bound(node, network, now.brokers, None)


async def _bound(node: Node, network: Network, brokers: Collection[int], rate: str | None) -> None:
    """Set the bounds of these brokers, or take them away (None). Each alters its own and nobody else's."""
    for broker_id, address in (await _addresses(node)).items():
        if broker_id in brokers:
            async with _connected(network, address) as there:
                await _alter(there, {(BROKER_RESOURCE, str(broker_id)): dict.fromkeys(RATES, rate)})


async def _addresses(node: Node) -> dict[int, str]:
    """Where each live broker is."""
    brokers = (await members(node)).brokers
    return {one.broker_id: f"{one.host}:{one.port}" for one in brokers if not one.is_fenced}


@asynccontextmanager
async def _connected(network: Network, address: str) -> AsyncIterator[Node]:
    node = await Node.connect(network, address)
    try:
        yield node
    finally:
        await node.close()


def _names(place: Place, brokers: Iterable[int]) -> list[str]:
    return [f"{place.partition}:{broker}" for broker in brokers]


def _joined(known: Collection[str], added: Iterable[str]) -> str:
    return EVERY_REPLICA if EVERY_REPLICA in known else ",".join(dict.fromkeys((*known, *added)))


async def _altered(
    node: Node, resources: Iterable[Resource], keys: Sequence[str], sources: Collection[int]
) -> dict[tuple[Resource, str], str]:
    """The values of these keys that somebody has set."""
    wanted = [
        DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys))
        for kind, name in resources
    ]
    if not wanted:
        return {}
    answer = await node.ask(DescribeConfigsRequest(resources=wanted))
    found = {}
    for result in answer.results:
        check(result.error_code, result.error_message)
        for one in result.configs:
            if one.config_source in sources:
                found[(result.resource_type, result.resource_name), one.name] = one.value or ""
    return found


async def _alter(node: Node, changes: Mapping[Resource, Mapping[str, str | None]]) -> None:
    """Set keys, or go back to their defaults (None)."""
    if not changes:
        return
    request = IncrementalAlterConfigsRequest(
        resources=[
            AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    AlterableConfig(name=key, config_operation=DELETE if text is None else SET, value=text)
                    for key, text in keys.items()
                ],
            )
            for (kind, name), keys in changes.items()
        ]
    )
    answer = await node.ask(request)
    for result in answer.responses:
        check(result.error_code, result.error_message)
