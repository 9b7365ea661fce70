"""`streamkit partition`: where partitions are, and how to move and elect them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from streamkit.cli.options import bootstrap_option, json_option
from streamkit.cli.places import parse_place
from streamkit.cli.sizes import Size, parse_size, shown_size
from streamkit.errors import DeadlineError, NotFoundError, UsageError

if TYPE_CHECKING:
    from streamkit.client.cluster import Partition, Place
    from streamkit.client.node import Node
    from streamkit.client.throttle import Throttled

POLL_S = 0.2
OFF = "off"

yes_option = click.option("--yes", is_flag=True, help="Do it; without this the plan is only shown.")


@click.group()
def partition() -> None:
    """Look at partitions, move and elect them."""


@partition.command(name="list")
@click.argument("places", metavar="[TOPIC[:PARTITION]]...", nargs=-1)
@click.option("--offline", is_flag=True, help="Only those without a leader.")
@click.option("--under-replicated", is_flag=True, help="Only those with a replica out of sync.")
@click.option("--moving", "only_moving", is_flag=True, help="Only those that are being moved.")
@bootstrap_option
@json_option
def list_(
    *,
    places: Sequence[str],
    offline: bool,
    under_replicated: bool,
    only_moving: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """List partitions with leader, replicas and what is in sync."""
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_rows
    from streamkit.client import cluster as client

    async def look(node: Node) -> tuple[list[Partition], list[client.Moving]]:
        return await _chosen(node, places), await client.moving(node)

    found, moving = ask(bootstrap, look)
    on_the_way = {one.place: one for one in moving}
    rows: list[dict[str, Any]] = []
    for one in found:
        move = on_the_way.get(one.place)
        if (
            (offline and one.leader is not None)
            or (under_replicated and not one.is_under_replicated)
            or (only_moving and move is None)
        ):
            continue
        rows.append(
            {
                "topic": one.topic,
                "partition": one.partition,
                "leader": one.leader,
                "replicas": one.replicas,
                "isr": one.isr,
                "adding": move.adding if move else [],
                "removing": move.removing if move else [],
            }
        )
    columns = ("topic", "partition", "leader", "replicas", "isr", "adding", "removing")
    if not as_json:
        lists = ("replicas", "isr", "adding", "removing")
        rows = [{**row, **{name: _ids(row[name]) for name in lists}} for row in rows]
    print_rows(columns, rows, as_json=as_json)


@partition.command()
@click.argument("places", metavar="[TOPIC[:PARTITION]]...", nargs=-1)
@click.option("--to", metavar="ID,ID,...", help="The brokers that shall hold it, the preferred leader first.")
@click.option("--off", metavar="ID,...", help="Empty these brokers: spread what they hold over the others.")
@click.option("--cancel", is_flag=True, help="Stop moving, and go back to the replicas of before.")
@click.option(
    "--throttle",
    "rate",
    type=Size(),
    metavar="BYTES",
    help="Copy at most so many bytes a second (500kB, 20MB), at each broker; lifted when it is done.",
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=600, show_default=True,
              help="Seconds to wait until everything has moved; 0 does not wait.")  # fmt: skip
@yes_option
@bootstrap_option
@json_option
def move(
    *,
    places: Sequence[str],
    to: str | None,
    off: str | None,
    cancel: bool,
    rate: int | None,
    timeout_s: float,
    yes: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Move partitions to other brokers, while they are written and read.

    Shows the plan; --yes carries it out and waits until it is done. What is written meanwhile must be copied,
    too: with a --throttle below that it never ends.
    """
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_rows, remark
    from streamkit.client import cluster as client
    from streamkit.client.placement import emptied

    if sum((to is not None, off is not None, cancel)) != 1:
        raise UsageError(
            "one of --to, --off and --cancel says where to move", hint="streamkit partition move --help"
        )
    if cancel and rate is not None:
        raise UsageError("--cancel copies nothing that --throttle could bound")
    if to is not None and not places:
        raise UsageError(
            "--to needs the partitions that shall move", hint="streamkit partition move TOPIC:0 --to 1,2,3"
        )

    async def plan(node: Node) -> tuple[list[Partition], Mapping[Place, Sequence[int] | None]]:
        found = await _chosen(node, places)
        if cancel:
            chosen = {one.place for one in found}
            return found, {one.place: None for one in await client.moving(node) if one.place in chosen}
        if off is not None:
            return found, emptied(
                found, frozenset(_parse_ids(off, "--off")), (await client.members(node)).brokers
            )
        target = _parse_ids(to or "", "--to")
        return found, {one.place: target for one in found if one.replicas != target}

    found, wanted = ask(bootstrap, plan)
    before = {one.place: one.replicas for one in found}
    shown = list if as_json else _ids
    rows: list[dict[str, Any]] = [
        {
            "topic": place.topic,
            "partition": place.partition,
            "from": shown(before[place]),
            "to": shown(replicas or ()),
        }
        for place, replicas in wanted.items()
    ]
    print_rows(("topic", "partition", "from", "to"), rows, as_json=as_json)
    if not wanted:
        remark("nothing to move")
        return
    if not yes:
        remark("that was the plan; --yes carries it out")
        return
    if rate is not None:
        _throttle(bootstrap, before, {place: to or () for place, to in wanted.items()}, rate)
    try:
        ask(bootstrap, lambda node: client.move(node, wanted))
        if timeout_s and not cancel:
            _wait_until_moved(bootstrap, frozenset(wanted), timeout_s)
    finally:
        if rate is not None or cancel:
            _lift_if_nothing_moves(bootstrap)


@partition.command()
@click.argument("rate", metavar="[BYTES|off]", required=False)
@bootstrap_option
@json_option
def throttle(*, rate: str | None, bootstrap: str, as_json: bool) -> None:
    """Show how replication is throttled; let it copy BYTES a second instead, or lift it (off).

    `partition move --throttle` sets a throttle; so do Kafka's tools.
    """
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_json, print_rows, remark
    from streamkit.client import throttle as client
    from streamkit.runtime.os.network import TcpNetwork

    now = _throttled(bootstrap)
    if rate == OFF:
        ask(bootstrap, lambda node: client.lift(node, TcpNetwork(), now))
    elif rate is not None:
        bound = parse_size(rate)
        if not bound:
            raise UsageError(
                f"{rate!r} is neither a size nor {OFF}", hint="streamkit partition throttle 20MB"
            )
        ask(bootstrap, lambda node: client.change_rate(node, TcpNetwork(), now, bound))
    if rate is not None:
        now = _throttled(bootstrap)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(now, str_keys=True))
        return
    if not now.brokers and not now.topics:
        remark("nothing is throttled")
        return
    rows: list[dict[str, Any]] = [
        {
            "broker": broker,
            "sends": _shown_rate(now.leader_rates.get(broker)),
            "fetches": _shown_rate(now.follower_rates.get(broker)),
        }
        for broker in now.brokers
    ]
    print_rows(("broker", "sends", "fetches"), rows)
    rows = [
        {
            "topic": topic,
            "from": ",".join(now.leader_replicas.get(topic, ())),
            "to": ",".join(now.follower_replicas.get(topic, ())),
        }
        for topic in now.topics
    ]
    print_rows(("topic", "from", "to"), rows)


@partition.command()
@click.argument("places", metavar="[TOPIC[:PARTITION]]...", nargs=-1)
@click.option(
    "--unclean", is_flag=True, help="Elect a replica that may lack records: THEY ARE LOST. Needs --yes."
)
@click.option("--yes", is_flag=True, help="Accept the loss of records of --unclean.")
@bootstrap_option
@json_option
def elect(*, places: Sequence[str], unclean: bool, yes: bool, bootstrap: str, as_json: bool) -> None:
    """Give partitions back to their preferred leaders; of all topics if none is named."""
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_rows
    from streamkit.client import cluster as client
    from streamkit.protocol.error_codes import ErrorCode

    if unclean and not (yes and places):
        raise UsageError(
            "an unclean election loses records: name the partitions, and add --yes",
            hint="streamkit partition list --offline",
        )

    async def hold(node: Node) -> dict[Place, ErrorCode]:
        chosen = [one.place for one in await _chosen(node, places)] if places else None
        return await client.elect(node, chosen, unclean=unclean)

    found = ask(bootstrap, hold)
    rows = [
        {"topic": place.topic, "partition": place.partition, "result": _outcome(code)}
        for place, code in sorted(found.items())
    ]
    print_rows(("topic", "partition", "result"), rows, as_json=as_json)


def _outcome(code: int) -> str:
    from streamkit.protocol.error_codes import ErrorCode

    names = {ErrorCode.NONE: "elected", ErrorCode.ELECTION_NOT_NEEDED: "not needed"}
    return names.get(ErrorCode(code), ErrorCode(code).name)  # type: ignore[call-arg]  # looked up by value


async def _chosen(node: Node, places: Sequence[str]) -> list[Partition]:
    """The partitions that the words of a command name; all of them for no word."""
    from streamkit.client import cluster as client

    if not places:
        return await client.partitions(node)
    wanted = [parse_place(word) for word in places]
    found = await client.partitions(node, dict.fromkeys(topic for topic, _ in wanted))
    chosen = [one for one in found if (one.topic, None) in wanted or (one.topic, one.partition) in wanted]
    known = {one.place for one in found}
    for topic, index in wanted:
        if index is not None and (topic, index) not in known:
            raise NotFoundError(
                f"topic {topic!r} has no partition {index}", hint=f"streamkit partition list {topic}"
            )
    return chosen


def _wait_until_moved(bootstrap: str, places: frozenset[Place], timeout_s: float) -> None:
    from streamkit.cli.asking import ask
    from streamkit.cli.output import remark
    from streamkit.client import cluster as client

    end_s, shown = time.monotonic() + timeout_s, -1
    while left := sum(one.place in places for one in ask(bootstrap, client.moving)):
        if left != shown:
            remark(f"{len(places) - left} of {len(places)} partitions have moved")
            shown = left
        if time.monotonic() > end_s:
            raise DeadlineError(
                f"{left} partitions are still moving after {timeout_s:g} s; they go on by themselves",
                hint="streamkit partition list --moving",
            )
        time.sleep(POLL_S)
    remark(f"{len(places)} of {len(places)} partitions have moved")


def _throttled(bootstrap: str) -> Throttled:
    from streamkit.cli.asking import ask
    from streamkit.client import throttle as client
    from streamkit.runtime.os.network import TcpNetwork

    return ask(bootstrap, lambda node: client.throttled(node, TcpNetwork()))


def _throttle(
    bootstrap: str, before: Mapping[Place, Sequence[int]], plan: Mapping[Place, Sequence[int]], rate: int
) -> None:
    from streamkit.cli.asking import ask
    from streamkit.cli.output import remark
    from streamkit.client import throttle as client
    from streamkit.runtime.os.network import TcpNetwork

    now = _throttled(bootstrap)
    ask(
        bootstrap,
        lambda node: client.throttle_move(node, TcpNetwork(), now=now, before=before, plan=plan, rate=rate),
    )
    remark(f"throttled to {shown_size(rate)}/s at each broker")


def _lift_if_nothing_moves(bootstrap: str) -> None:
    """A throttle that stays is of no use, and makes a replica slow that falls behind one day."""
    from streamkit.cli.asking import ask
    from streamkit.cli.output import remark
    from streamkit.client import cluster, throttle
    from streamkit.runtime.os.network import TcpNetwork

    now = _throttled(bootstrap)
    if not now.brokers and not now.topics:
        return
    if ask(bootstrap, cluster.moving):
        remark(f"the throttle stays while partitions move; then: streamkit partition throttle {OFF}")
        return
    ask(bootstrap, lambda node: throttle.lift(node, TcpNetwork(), now))
    remark("the throttle is lifted")


def _shown_rate(rate: int | None) -> str:
    return "" if rate is None else f"{shown_size(rate)}/s"


def _parse_ids(text: str, option: str) -> list[int]:
    ids = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in ids) or len(set(ids)) < len(ids):
        raise UsageError(
            f"{option} takes different broker ids by commas, not {text!r}", hint=f"{option} 1,2,3"
        )
    return [int(word) for word in ids]


def _ids(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
