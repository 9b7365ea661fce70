"""What `streamkit group describe` shows of each kind of group: its members, where it is, and its lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka.admin import OffsetSpec

from streamkit.cli.admin import REQUEST_S, Cluster
from streamkit.cli.asking import ask
from streamkit.cli.group_offsets import committed
from streamkit.cli.output import print_json, print_rows
from streamkit.client import share_groups, streams_groups
from streamkit.client.groups import no_such_group

if TYPE_CHECKING:
    from streamkit.client.groups import ListedGroup
    from streamkit.client.share_groups import ShareGroup
    from streamkit.client.streams_groups import Member, Task

Rows = Sequence[Mapping[str, Any]]

# ── classic and consumer groups ──────────────────────────────────────────────────────────────────────────


def describe_consumers(cluster: Cluster, group: ListedGroup, *, as_json: bool) -> None:
    found = cluster.only_answer(
        cluster.admin.describe_consumer_groups([group.name], request_timeout=REQUEST_S)
    )
    partitions = _partitions(cluster, group.name, _owners(found.members))
    members = [
        {
            "member": member.member_id,
            "client": member.client_id,
            "host": member.host,
            "partitions": len(member.assignment.topic_partitions),
        }
        for member in found.members
    ]
    state, kind, assignor = _name(found.state), group.type.capitalize(), found.partition_assignor
    about = {"name": group.name, "state": state, "type": kind, "assignor": assignor}
    if as_json:
        print_json({**about, "members": members, "partitions": partitions, "lag": _lag(partitions)})
        return
    divided = f" ({assignor})" if assignor else ""
    click.echo(f"group {group.name}: {state}, {kind}{divided}, {len(members)} members")
    print_rows(("topic", "partition", "committed", "end", "lag", "member"), partitions)


def _name(constant: Any) -> str:
    """Kafka's name of a group's state: `PreparingRebalance`."""
    return "".join(part.capitalize() for part in constant.name.split("_"))


def _owners(members: Any) -> dict[tuple[str, int], str]:
    return {
        (place.topic, place.partition): member.member_id
        for member in members
        for place in member.assignment.topic_partitions
    }


def _partitions(cluster: Cluster, name: str, owners: Mapping[tuple[str, int], str]) -> Rows:
    """Every partition that has a committed offset or an owner."""
    offsets, existing = committed(cluster, name), cluster.topics()
    places = sorted({*offsets, *owners})
    ends = cluster.offsets([place for place in places if place[0] in existing], OffsetSpec.latest())
    return [_row(place, offsets.get(place, -1), ends.get(place), owners.get(place)) for place in places]


def _row(place: tuple[str, int], committed: int, end: int | None, member: str | None) -> dict[str, Any]:
    lag = end - committed if end is not None and committed >= 0 else None
    return {
        "topic": place[0],
        "partition": place[1],
        "committed": committed if committed >= 0 else None,
        "end": end,
        "lag": lag,
        "member": member,
    }


def _lag(partitions: Rows) -> int:
    return sum(row["lag"] or 0 for row in partitions)


# ── streams groups ───────────────────────────────────────────────────────────────────────────────────────


def describe_streams(cluster: Cluster, name: str, *, as_json: bool) -> None:
    group = ask(cluster.bootstrap, lambda node: streams_groups.described(node, name))
    partitions = _partitions(cluster, name, group.owners)
    columns = ("member", "client", "host", "process", "epoch", "topology", "active", "standby", "warmup")
    members = [_streams_member(member) for member in group.members]
    if as_json:
        about = {"name": name, "state": group.state, "type": "Streams", "epoch": group.epoch}
        about["topology"] = group.topology_epoch
        print_json({**about, "members": members, "partitions": partitions, "lag": _lag(partitions)})
        return
    topology = "no topology" if group.topology_epoch is None else f"topology epoch {group.topology_epoch}"
    click.echo(f"group {name}: {group.state}, Streams, {topology}, {len(members)} members")
    roles = ("active", "standby", "warmup")
    print_rows(columns, [{**row, **{role: ",".join(row[role]) for role in roles}} for row in members])
    click.echo()
    print_rows(("topic", "partition", "committed", "end", "lag", "member"), partitions)


def _streams_member(member: Member) -> dict[str, Any]:
    def named(tasks: Sequence[Task]) -> list[str]:
        return [str(task) for task in tasks]

    return {
        "member": member.member,
        "client": member.client,
        "host": member.host,
        "process": member.process,
        "epoch": member.epoch,
        "topology": member.topology_epoch,
        "active": named(member.active),
        "standby": named(member.standby),
        "warmup": named(member.warmup),
    }


# ── share groups ─────────────────────────────────────────────────────────────────────────────────────────


def describe_share(bootstrap: str, name: str, *, as_json: bool) -> None:
    group = ask(bootstrap, lambda node: share_groups.described(node, name))
    if group is None:
        raise no_such_group(name, bootstrap)
    holders = _holders(group)
    rows: list[dict[str, Any]] = [
        {
            "topic": one.topic,
            "partition": one.partition,
            "start": one.start,
            "lag": one.lag,
            "members": holders.get((one.topic, one.partition), []),
        }
        for one in group.partitions
    ]
    if as_json:
        members = [
            {"member": m.member, "client": m.client, "host": m.host, "partitions": len(m.partitions)}
            for m in group.members
        ]
        about = {"name": group.name, "state": group.state, "type": "Share", "assignor": group.assignor}
        print_json({**about, "members": members, "partitions": rows, "lag": _lag(rows)})
        return
    click.echo(f"group {group.name}: {group.state}, Share ({group.assignor}), {len(group.members)} members")
    shown = [{**row, "members": ", ".join(row["members"])} for row in rows]
    print_rows(("topic", "partition", "start", "lag", "members"), shown)


def _holders(group: ShareGroup) -> dict[tuple[str, int], list[str]]:
    """Several members may take records from a partition."""
    holders: dict[tuple[str, int], list[str]] = {}
    for member in group.members:
        for place in member.partitions:
            holders.setdefault(place, []).append(member.member)
    return holders
