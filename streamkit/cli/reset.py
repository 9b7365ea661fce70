"""`streamkit app reset`: an app as if it had never run, reading its input from wherever it is told.

    plan = planned(...)          looks at the cluster and at this machine's disk, and changes nothing
    carry_out(plan, ...)         members, offsets, topics, directories

The group goes first: without its commits nothing of a changelog or a store is believed, so a reset that is
interrupted leaves nothing half valid behind, and is finished by the next. The directories are locked all the
while, so that no worker starts over them.

Members are removed by a request of our own client, which speaks neither TLS nor SASL; where the app's cluster
wants those, dead ones are waited for until the group misses them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException

from streamkit.cli.admin import REQUEST_S, Cluster
from streamkit.cli.asking import ask
from streamkit.cli.group_offsets import NO_MEMBERS, commit
from streamkit.cli.group_offsets import planned as offsets_at
from streamkit.client import groups
from streamkit.client.groups import CLASSIC, ListedGroup
from streamkit.errors import DeadlineError, NotFoundError, RefusedError, UsageError
from streamkit.processing.app import App
from streamkit.processing.kafka.settings import shared_settings
from streamkit.processing.kafka.topics import Topics
from streamkit.processing.replies import takes_replies
from streamkit.processing.succession import Former
from streamkit.processing.topology import Border, Subtopology, Topology, is_internal
from streamkit.processing.worker.rocksdb import locked, slots
from streamkit.processing.worker.worker import bootstrap_of, kafka_of

MISSED_S = 45.0  # a worker's session is shorter, unless the app says otherwise
REJOIN_S = 3.0  # a member that is removed and lives is back before: it asks every second
GONE_S = 15.0
POLL_S = 0.1

Place = tuple[str, int]


class Member(msgspec.Struct, frozen=True):
    id: str
    instance: str | None
    client: str
    host: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a reset will do."""

    app: str
    members: list[Member]
    known: bool  # is there such a group?
    before: Mapping[Place, int]  # committed offsets
    offsets: Mapping[Place, int]  # where the input goes on
    topics: list[str]  # to be deleted
    strangers: list[str]  # named like topics of the app, but not known to be
    directories: list[Path]

    def json(self) -> dict[str, Any]:
        return {
            "app": self.app,
            "members": [msgspec.to_builtins(member) for member in self.members],
            "offsets": [
                {"topic": place[0], "partition": place[1], "from": before, "to": to}
                for place, before, to in self._moves()
            ],
            "topics": self.topics,
            "strangers": self.strangers,
            "directories": [str(path) for path in self.directories],
        }

    def rows(self) -> list[dict[str, Any]]:
        """A line for each thing, as it is and as it will be."""
        rows: list[tuple[str, str, object, object]]
        rows = [("member", f"{m.client} {m.id}", m.host, "removed") for m in self.members]
        rows += [
            ("offset", f"{topic}:{number}", before, "forgotten" if to is None else to)
            for (topic, number), before, to in self._moves()
        ]
        rows += [("topic", topic, None, "deleted") for topic in self.topics]
        rows += [("state", str(path), None, "deleted") for path in self.directories]
        return [dict(zip(("what", "name", "now", "then"), row, strict=True)) for row in rows]

    def _moves(self) -> Iterator[tuple[Place, int | None, int | None]]:
        for place in sorted({*self.before, *self.offsets}):
            yield place, self.before.get(place), self.offsets.get(place)


def cluster_of(app: App, bootstrap: str | None) -> Cluster:
    """Where the app runs, reached as its workers reach it."""
    address = bootstrap_of(app, bootstrap)
    return Cluster(address, shared_settings(address, app.kafka))


def planned(cluster: Cluster, app: App, to: str, state_dir: str | None) -> Plan:
    existing = cluster.topics()
    counts = {name: len(topic.partitions) for name, topic in existing.items()}
    topology, subs = _shape(app, counts)
    commits = Topics(cluster.bootstrap, kafka_of(app)).committed(app.id, counts)
    former = Former.of(app.id, [(one.topic, one.metadata) for one in commits])
    declared = {spec.name for spec in topology.topics}
    internal = {*_internal(topology, subs), *({*former.changelogs, *former.repartitions} - declared)}
    internal |= {name for name in existing if takes_replies(app.id, name)}
    members = _members(cluster, app.id)
    root = state_dir or app.state_dir
    return Plan(
        app=app.id,
        members=members or [],
        known=members is not None,
        before={(one.topic, one.partition): one.offset or 0 for one in commits},
        offsets=offsets_at(cluster, [(t, n) for t in _inputs(subs) for n in _partitions(existing, t)], to),
        topics=sorted(internal & existing.keys()),
        strangers=sorted(name for name in existing.keys() - internal - declared if is_internal(app.id, name)),
        directories=slots(Path(root), app.id) if root else [],
    )


def carry_out(cluster: Cluster, plan: Plan, *, force: bool) -> None:
    """Raises RefusedError, before anything is changed, where a worker is still at work."""
    with ExitStack() as locks:
        for path in plan.directories:
            locks.enter_context(locked(path))
        if plan.members and not force:
            raise RefusedError(
                f"{plan.app} has {len(plan.members)} members; stop its workers first",
                hint=f"streamkit group describe {plan.app}   (--force removes what was killed a moment ago)",
            )
        if plan.members and cluster.is_plain:
            _remove(cluster, plan)
        elif plan.members:
            _outwait(cluster, plan)
        if plan.known:
            cluster.only_answer(cluster.admin.delete_consumer_groups([plan.app], request_timeout=REQUEST_S))
        if plan.offsets:
            commit(cluster, ListedGroup(name=plan.app, state=NO_MEMBERS[0], type=CLASSIC), plan.offsets)
        _delete(cluster, plan.topics)
        for path in plan.directories:
            shutil.rmtree(path)
            with suppress(OSError):  # others keep theirs beside it
                path.parent.rmdir()


def _shape(app: App, counts: Mapping[str, int]) -> tuple[Topology, tuple[Subtopology, ...]]:
    """As workers plan it with these topics; where they could not start with them, as it is declared."""
    declared = app.topology()
    try:
        plan = declared.plan(counts)
    except UsageError:
        return declared, declared.subtopologies()
    return plan.topology, plan.subtopologies


def _internal(topology: Topology, subs: Iterable[Subtopology]) -> Iterator[str]:
    for sub in subs:
        yield from map(sub.changelog, sub.stores)
    yield from (node.topic for node in topology.nodes if isinstance(node, Border))


def _inputs(subs: Iterable[Subtopology]) -> list[str]:
    """The topics that the app reads and others write."""
    entries = [entry for sub in subs for entry in sub.entries]
    return list(dict.fromkeys(entry.reads for entry in entries if not isinstance(entry, Border)))


def _partitions(existing: Mapping[str, Any], topic: str) -> list[int]:
    return sorted(existing[topic].partitions) if topic in existing else []


def _members(cluster: Cluster, group: str) -> list[Member] | None:
    """None: there is no such group."""
    try:
        found = cluster.only_answer(
            cluster.admin.describe_consumer_groups([group], request_timeout=REQUEST_S)
        )
    except NotFoundError:
        return None
    if not found.members and found.state.name == "DEAD":  # what brokers before Kafka 4 say of unknown groups
        return None
    return [Member(one.member_id, one.group_instance_id, one.client_id, one.host) for one in found.members]


def _remove(cluster: Cluster, plan: Plan) -> None:
    """Have the group forget its members. Those that live come back, and then it is refused after all."""
    leaving = [(member.id, member.instance) for member in plan.members]
    ask(cluster.bootstrap, lambda node: groups.remove_members(node, plan.app, leaving))
    deadline = time.monotonic() + REJOIN_S
    while time.monotonic() < deadline:
        if _members(cluster, plan.app):
            raise RefusedError(
                f"workers of {plan.app} are alive: they were removed and have joined again",
                hint="stop them, then try again",
            )
        time.sleep(POLL_S)


def _outwait(cluster: Cluster, plan: Plan) -> None:
    """Until the group has missed its members. Those that live stay, and then it is refused after all."""
    deadline = time.monotonic() + MISSED_S
    while left := _members(cluster, plan.app):
        if time.monotonic() > deadline:
            raise RefusedError(
                f"{plan.app} still has {len(left)} members after {MISSED_S:.0f} s: its workers are alive",
                hint="stop them, then try again",
            )
        time.sleep(POLL_S)


def _delete(cluster: Cluster, topics: list[str]) -> None:
    """Delete them, and wait until a worker that starts next does not find them."""
    if not topics:
        return
    for future in cluster.admin.delete_topics(topics, operation_timeout=REQUEST_S).values():
        try:
            future.result(REQUEST_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                cluster.answer(future)
    deadline = time.monotonic() + GONE_S
    while left := set(topics) & cluster.topics().keys():
        if time.monotonic() > deadline:
            raise DeadlineError(f"deleted, but still visible: {', '.join(sorted(left))}")
        time.sleep(POLL_S)
