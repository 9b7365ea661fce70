"""`streamkit group`: who consumes, how far they are and how far behind, and where they shall go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from streamkit.cli.options import bootstrap_option, json_option
from streamkit.errors import NotFoundError

if TYPE_CHECKING:
    from streamkit.cli.admin import Cluster
    from streamkit.client.groups import ListedGroup

TYPES = ("Classic", "Consumer", "Share", "Streams")
STATES = (
    "Empty",
    "Stable",
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
    "NotReady",
)


@click.group()
def group() -> None:
    """Look at groups of consumers, and change where they go on.

    Groups are classic, of the new protocol (consumer), queues (share), or of Kafka Streams (streams).
    """


@group.command(name="list")
@click.option("--type", "types", type=click.Choice(TYPES, case_sensitive=False), multiple=True,
              help="Only groups of this type; may be repeated.")  # fmt: skip
@click.option("--state", "states", type=click.Choice(STATES, case_sensitive=False), multiple=True,
              help="Only groups in this state; may be repeated.")  # fmt: skip
@bootstrap_option
@json_option
def list_(*, types: Sequence[str], states: Sequence[str], bootstrap: str, as_json: bool) -> None:
    """List the groups."""
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_rows
    from streamkit.client import groups

    wanted = [kind.lower() for kind in types]
    found = ask(bootstrap, lambda node: groups.listed(node, types=wanted, states=states))
    rows = [{"name": one.name, "state": one.state, "type": one.type.capitalize()} for one in found]
    print_rows(("name", "state", "type"), rows, as_json=as_json)


@group.command()
@click.argument("name")
@bootstrap_option
@json_option
def describe(name: str, bootstrap: str, as_json: bool) -> None:
    """Show the members of the group NAME, its offsets and its lag.

    Of a streams group: the tasks of each member, which it runs (active) or keeps ready (standby, warm-up).
    """
    from streamkit.cli.admin import Cluster
    from streamkit.cli.group_descriptions import describe_consumers, describe_share, describe_streams
    from streamkit.client.groups import SHARE, STREAMS

    found = _find(bootstrap, name)
    if found.type == SHARE:
        describe_share(bootstrap, name, as_json=as_json)
    elif found.type == STREAMS:
        describe_streams(Cluster(bootstrap), name, as_json=as_json)
    else:
        describe_consumers(Cluster(bootstrap), found, as_json=as_json)


@group.command()
@click.argument("name")
@click.argument("places", metavar="[TOPIC[:PARTITION]]...", nargs=-1)
@click.option("--to", metavar="POSITION", required=True,
              help="start, end, 47, +5, -5, @-1h, @2013-01-01: as in `topic consume --offset`.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do it; without this the plan is only shown.")
@bootstrap_option
@json_option
def reset(*, name: str, places: Sequence[str], to: str, yes: bool, bootstrap: str, as_json: bool) -> None:
    """Have the group NAME go on from another POSITION, in these partitions or wherever it has been.

    The group must have no members. Of a share group it is where delivery begins anew: whatever was
    acknowledged or locked behind that position is forgotten.
    """
    from streamkit.cli.admin import Cluster
    from streamkit.cli.group_offsets import commit, planned, positions
    from streamkit.cli.output import print_rows, remark

    found = _find(bootstrap, name)
    cluster = Cluster(bootstrap)
    before = positions(cluster, found)
    rows = planned(cluster, _chosen(cluster, places, before), to)
    shown: list[dict[str, Any]] = [
        {"topic": topic, "partition": number, "from": before.get((topic, number)), "to": offset}
        for (topic, number), offset in rows.items()
    ]
    if yes and rows:
        commit(cluster, found, rows)
    print_rows(("topic", "partition", "from", "to"), shown, as_json=as_json)
    if not rows:
        remark("nothing to reset: the group has been nowhere; name a topic")
    elif not yes:
        remark("that was the plan; --yes carries it out")


@group.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--topic", "topics", multiple=True, metavar="TOPIC",
              help="Forget only how far the groups are in this topic; may be repeated.")  # fmt: skip
@bootstrap_option
@json_option
def delete(*, names: Sequence[str], topics: Sequence[str], bootstrap: str, as_json: bool) -> None:
    """Delete groups that have no members, with all that they committed or acknowledged."""
    from streamkit.cli.admin import Cluster
    from streamkit.cli.asking import ask
    from streamkit.cli.group_offsets import forget
    from streamkit.cli.output import print_json
    from streamkit.client import groups

    found = [_find(bootstrap, name) for name in names]
    for one in found:
        for topic in topics:
            forget(Cluster(bootstrap), one, topic)
        if not topics:
            ask(bootstrap, lambda node, name=one.name: groups.delete(node, name))  # type: ignore[misc]
    if as_json:
        print_json({"deleted": list(names), **({"topics": list(topics)} if topics else {})})
        return
    for name in names:
        click.echo(f"deleted {name}" if not topics else f"deleted {', '.join(topics)} of {name}")


def _find(bootstrap: str, name: str) -> ListedGroup:
    from streamkit.cli.asking import ask
    from streamkit.client import groups

    return ask(bootstrap, lambda node: groups.find(node, name))


def _chosen(
    cluster: Cluster, places: Sequence[str], known: Iterable[tuple[str, int]]
) -> list[tuple[str, int]]:
    """The partitions that the words of a command name; without words those that the group knows."""
    from streamkit.cli.places import parse_place

    existing = cluster.topics()
    if not places:
        return [place for place in known if place[0] in existing]
    chosen: list[tuple[str, int]] = []
    for word in places:
        topic, number = parse_place(word)
        numbers = sorted(cluster.topic(topic).partitions)
        if number is not None and number not in numbers:
            raise NotFoundError(
                f"topic {topic!r} has no partition {number}", hint=f"streamkit partition list {topic}"
            )
        chosen += [(topic, one) for one in (numbers if number is None else [number])]
    return sorted(set(chosen))
