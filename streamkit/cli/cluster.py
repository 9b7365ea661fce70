"""`streamkit cluster`: run several brokers on this machine; look at a cluster as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamkit.cli.options import bootstrap_option, json_option

if TYPE_CHECKING:
    from streamkit.client.node import Node

DEFAULT_DIR = "./.streamkit/cluster"

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
    help="Where the cluster lives: a directory for each broker, and its log.",
)


@click.group()
def cluster() -> None:
    """Run a cluster, or look at one."""


@cluster.command()
@click.option("-n", "--brokers", type=click.IntRange(1, 99), default=3, show_default=True)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9092",
    show_default=True,
    help="The first broker's address; the others follow port by port. Controllers listen 10,000 above.",
)
@click.option("--http", metavar="HOST:PORT", help="The first broker's /metrics; the others follow.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of every broker.")
@data_dir_option
def up(*, brokers: int, listen: str, http: str | None, assignments: tuple[str, ...], data_dir: Path) -> int:
    """Run a cluster on this machine until Ctrl-C or `streamkit cluster down`.

    The same command on the same directory goes on where it ended. A broker that ends is not started again: so
    that you may kill one and watch.
    """
    import asyncio

    from streamkit.cli.broker import parse_address
    from streamkit.cli.output import remark
    from streamkit.local_cluster import LocalCluster, planned

    plan = planned(
        brokers,
        listen=parse_address(listen, "--listen"),
        http=None if http is None else parse_address(http, "--http"),
        data_dir=data_dir,
    )
    running = LocalCluster(data_dir, plan, settings=assignments, say=remark)
    return asyncio.run(running.run())


@cluster.command()
@data_dir_option
def down(data_dir: Path) -> None:
    """Stop the cluster that `streamkit cluster up` runs on this directory."""
    from streamkit.local_cluster import stop

    stop(data_dir)
    click.echo(f"stopped the cluster in {data_dir}")


@cluster.command()
@bootstrap_option
@json_option
def health(*, bootstrap: str, as_json: bool) -> int:
    """Say whether every broker is there and every partition whole; exit 7 if not."""
    import msgspec

    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_json
    from streamkit.client import cluster as client
    from streamkit.errors import CheckFailedError

    found = ask(bootstrap, client.health)
    reasons = found.reasons()
    if as_json:
        print_json({"healthy": not reasons, **msgspec.to_builtins(found)})
    else:
        click.echo(
            "\n".join(reasons) or f"healthy: {len(found.live_brokers)} brokers, all partitions in sync"
        )
    return CheckFailedError.exit_code if reasons else 0


@cluster.command()
@bootstrap_option
@json_option
def info(*, bootstrap: str, as_json: bool) -> None:
    """List the brokers, with what each leads and holds."""
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_json, print_rows
    from streamkit.client import cluster as client

    async def look(node: Node) -> tuple[client.Members, list[client.Partition]]:
        return await client.members(node), await client.partitions(node)

    members, partitions = ask(bootstrap, look)
    rows: list[dict[str, Any]] = [
        {
            "broker": one.broker_id,
            "address": f"{one.host}:{one.port}",
            "rack": one.rack,
            "state": "fenced" if one.is_fenced else "live",
            "leads": sum(partition.leader == one.broker_id for partition in partitions),
            "holds": sum(one.broker_id in partition.replicas for partition in partitions),
        }
        for one in members.brokers
    ]
    if as_json:
        print_json({"cluster": members.cluster_id, "controller": members.controller, "brokers": rows})
        return
    controller = "nobody" if members.controller is None else f"broker {members.controller}"
    click.echo(f"cluster {members.cluster_id}, {controller} decides")
    print_rows(("broker", "address", "rack", "state", "leads", "holds"), rows)


@cluster.command()
@bootstrap_option
@json_option
def quorum(*, bootstrap: str, as_json: bool) -> None:
    """Show the controllers' quorum: who leads, and how far behind the others are."""
    import time

    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_json, print_rows
    from streamkit.client import cluster as client

    found = ask(bootstrap, client.quorum)
    end = max(one.log_end_offset for one in found.current_voters)
    now_ms = time.time() * 1000
    rows: list[dict[str, Any]] = [
        {
            "node": one.replica_id,
            "role": "leader" if one.replica_id == found.leader_id else role,
            "end": one.log_end_offset,
            "lag": end - one.log_end_offset,
            "fetched_s_ago": _seconds_since(one.last_fetch_timestamp, now_ms),
            "caught_up_s_ago": _seconds_since(one.last_caught_up_timestamp, now_ms),
        }
        for role, nodes in (("voter", found.current_voters), ("observer", found.observers))
        for one in nodes
    ]
    if as_json:
        state = {
            "leader": found.leader_id,
            "epoch": found.leader_epoch,
            "high_watermark": found.high_watermark,
        }
        print_json({**state, "nodes": rows})
        return
    click.echo(f"epoch {found.leader_epoch}, committed up to {found.high_watermark}")
    print_rows(tuple(rows[0]), rows)


@cluster.command()
@click.argument("node_id", metavar="NODE", type=click.IntRange(min=0))
@click.argument("controller", metavar="HOST:PORT")
@bootstrap_option
@json_option
def admit(*, node_id: int, controller: str, bootstrap: str, as_json: bool) -> None:
    """Let NODE vote in the quorum; HOST:PORT is its controller listener.

    The node must run already: started with the voters there are as --voters, and a --controller-listen of its
    own. Two voters survive the loss of none, three that of one.
    """
    from streamkit.cli.asking import ask
    from streamkit.client import cluster as client
    from streamkit.client.node import Node
    from streamkit.runtime.os.network import TcpNetwork

    async def work(node: Node) -> list[int]:
        there = await Node.connect(TcpNetwork(), controller)
        try:
            await client.admit(node, node_id, there)
        finally:
            await there.close()
        return await _voters(node)

    _tell_voters(ask(bootstrap, work), as_json=as_json)


@cluster.command()
@click.argument("node_id", metavar="NODE", type=click.IntRange(min=0))
@bootstrap_option
@json_option
def dismiss(*, node_id: int, bootstrap: str, as_json: bool) -> None:
    """Take NODE's vote in the quorum away; it stays a broker."""
    from streamkit.cli.asking import ask
    from streamkit.client import cluster as client

    async def work(node: Node) -> list[int]:
        await client.dismiss(node, node_id)
        return await _voters(node)

    _tell_voters(ask(bootstrap, work), as_json=as_json)


@cluster.command()
@click.argument("broker_id", metavar="BROKER", type=click.IntRange(min=0))
@bootstrap_option
@json_option
def forget(*, broker_id: int, bootstrap: str, as_json: bool) -> None:
    """Strike off BROKER, which is gone for good.

    Empty it (`partition move --off`), dismiss it if it votes, and stop it first.
    """
    from streamkit.cli.asking import ask
    from streamkit.cli.output import print_json
    from streamkit.client import cluster as client

    ask(bootstrap, lambda node: client.forget(node, broker_id))
    if as_json:
        print_json({"forgotten": broker_id})
    else:
        click.echo(f"forgot broker {broker_id}")


async def _voters(node: Node) -> list[int]:
    from streamkit.client import cluster as client

    return sorted(one.replica_id for one in (await client.quorum(node)).current_voters)


def _tell_voters(voters: list[int], *, as_json: bool) -> None:
    from streamkit.cli.output import print_json

    if as_json:
        print_json({"voters": voters})
    else:
        click.echo(f"voters: {', '.join(map(str, voters))}")


def _seconds_since(timestamp_ms: int, now_ms: float) -> float | None:
    return round(max(0.0, now_ms - timestamp_ms) / 1000, 1) if timestamp_ms > 0 else None
