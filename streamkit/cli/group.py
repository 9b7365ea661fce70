"""`streamkit group`: who consumes, how far they are, and how far behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamkit.cli.options import bootstrap_option, json_option
from streamkit.errors import NotFoundError

if TYPE_CHECKING:
    from streamkit.cli.admin import Cluster
    from streamkit.client.share_groups import ShareGroup


@click.group()
def group() -> None:
    """Look at consumer groups and share groups."""


@group.command(name="list")
@bootstrap_option
@json_option
def list_(bootstrap: str, as_json: bool) -> None:
    """List the groups."""
    from streamkit.cli.admin import REQUEST_S, Cluster, explained
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_rows
    from streamkit.client import share_groups

    cluster = Cluster(bootstrap)
    answer = cluster.answer(cluster.admin.list_consumer_groups(request_timeout=REQUEST_S))
    if answer.errors:
        raise explained(answer.errors[0].args[0], bootstrap)
    rows = [
        {"name": found.group_id, "state": _name(found.state), "type": _name(found.type)}
        for found in answer.valid
    ]
    rows += [
        {"name": found.name, "state": found.state, "type": "Share"}
        for found in ask(bootstrap, share_groups.listed)
    ]
    rows.sort(key=lambda row: row["name"])
    print_rows(("name", "state", "type"), rows, as_json=as_json)


@group.command()
@click.argument("name")
@bootstrap_option
@json_option
def describe(name: str, bootstrap: str, as_json: bool) -> None:
    """Show the members of the group NAME, its offsets and its lag."""
    from streamkit.cli.admin import REQUEST_S, Cluster
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_json, print_rows
    from streamkit.client import share_groups

    cluster = Cluster(bootstrap)
    share = ask(bootstrap, lambda node: share_groups.described(node, name))
    if share is not None:
        _show_share_group(share, as_json=as_json)
        return
    found = cluster.only_answer(cluster.admin.describe_consumer_groups([name], request_timeout=REQUEST_S))
    partitions = _partitions(cluster, name, _owners(found.members))
    state, kind = _name(found.state), _name(found.type)
    if state == "Dead" and not partitions:
        raise NotFoundError(f"there is no group {name!r} at {bootstrap}", hint="streamkit group list")
    members = [
        {
            "member": member.member_id,
            "client": member.client_id,
            "host": member.host,
            "partitions": len(member.assignment.topic_partitions),
        }
        for member in found.members
    ]
    if as_json:
        lag = sum(row["lag"] or 0 for row in partitions)
        about = {"name": name, "state": state, "type": kind, "assignor": found.partition_assignor}
        print_json({**about, "members": members, "partitions": partitions, "lag": lag})
        return
    divided = f" ({found.partition_assignor})" if found.partition_assignor else ""
    click.echo(f"group {name}: {state}, {kind}{divided}, {len(members)} members")
    print_rows(("topic", "partition", "committed", "end", "lag", "member"), partitions)


def _name(constant: Any) -> str:
    """Kafka's name of a group's state or type: `PreparingRebalance`, `Classic`."""
    return "".join(part.capitalize() for part in constant.name.split("_"))


def _owners(members: Any) -> dict[tuple[str, int], str]:
    return {
        (place.topic, place.partition): member.member_id
        for member in members
        for place in member.assignment.topic_partitions
    }


def _partitions(cluster: Cluster, name: str, owners: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
    """Every partition that has a committed offset or an owner."""
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import OffsetSpec

    answer = cluster.only_answer(
        cluster.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])
    )
    committed = {(place.topic, place.partition): place.offset for place in answer.topic_partitions}
    existing = cluster.topics()
    places = sorted({*committed, *owners})
    ends = cluster.offsets([place for place in places if place[0] in existing], OffsetSpec.latest())
    return [_row(place, committed.get(place, -1), ends.get(place), owners.get(place)) for place in places]


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


def _show_share_group(group: ShareGroup, *, as_json: bool) -> None:
    from streamkit.cli.output import print_json, print_rows

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
        lag = sum(one.lag or 0 for one in group.partitions)
        print_json({**about, "members": members, "partitions": rows, "lag": lag})
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
