"""`streamkit broker start`: run a broker until it is told to stop; `broker format`: prepare its directory."""

from __future__ import annotations

from pathlib import Path

import click

from streamkit.errors import UsageError

NODE_ID, LISTEN, DATA_DIR = 1, "127.0.0.1:9092", "./.streamkit"


@click.group()
def broker() -> None:
    """Run a broker, or prepare its data directory."""


@broker.command()
@click.option("--node-id", type=int, help=f"The broker's number in its cluster.  [default: {NODE_ID}]")
@click.option(
    "--listen", metavar="HOST:PORT", help=f"Where to listen; port 0 takes a free one.  [default: {LISTEN}]"
)
@click.option(
    "--advertise",
    metavar="HOST:PORT",
    help="What clients are told to connect to. Required if --listen is 0.0.0.0 or [::].",
)
@click.option(
    "--controller-listen",
    metavar="HOST:PORT",
    help="Where the other nodes reach this one as a controller. Required of a voter.",
)
@click.option(
    "--voters",
    metavar="ID@HOST:PORT,…",
    help="The controllers that decide for the cluster, by their --controller-listen; the same on all nodes.",
)
@click.option("--rack", help="Where this broker stands; replicas are spread over racks.")
@click.option("--http", metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz here.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help=f"Where the data lives; the first start formats it.  [default: {DATA_DIR}]",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings in the syntax of Kafka's server.properties.",
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting; repeatable.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--listen-fd", type=int, hidden=True)
def start(
    *,
    node_id: int | None,
    listen: str | None,
    advertise: str | None,
    controller_listen: str | None,
    voters: str | None,
    rack: str | None,
    http: str | None,
    data_dir: Path | None,
    config_file: Path | None,
    assignments: tuple[str, ...],
    ready_fd: int | None,
    parent_fd: int | None,
    listen_fd: int | None,
) -> int:
    """Run a broker until SIGTERM or Ctrl-C.

    A setting of --set goes before the same one of --config, an option before both.
    """
    from streamkit.telemetry.lean import import_structlog_without_rich

    import_structlog_without_rich()
    from streamkit.broker.config import BrokerConfig, parse_assignments
    from streamkit.broker.server.main import run_broker
    from streamkit.runtime.os.listening import inherited
    from streamkit.telemetry.logs import configure

    properties = {"listeners": f"PLAINTEXT://{LISTEN}", "log.dirs": DATA_DIR, "node.id": str(NODE_ID)}
    for layer in (read_properties(config_file), parse_assignments(assignments)):
        overlay(properties, layer)
    options = {
        "node.id": None if node_id is None else str(node_id),
        "listeners": listeners(properties["listeners"], listen, controller_listen),
        "controller.quorum.voters": voters,
        "broker.rack": rack,
        "advertised.listeners": None if advertise is None else f"PLAINTEXT://{advertise}",
        "log.dirs": None if data_dir is None else str(data_dir),
    }
    overlay(properties, {name: text for name, text in options.items() if text is not None})
    config = BrokerConfig.from_properties(properties)
    configure()
    return run_broker(
        config,
        http=None if http is None else parse_address(http, "--http"),
        ready_fd=ready_fd,
        parent_fd=parent_fd,
        listening=None if listen_fd is None else inherited(listen_fd),
    )


@broker.command("format")
@click.option("--node-id", type=int, default=NODE_ID, show_default=True, help="The broker's number.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(DATA_DIR),
    show_default=True,
    help="An empty directory, or one that does not exist.",
)
@click.option(
    "--cluster-id",
    help="The cluster that the node is to be part of; the same on all its nodes.  [default: a new one]",
)
def format_(*, node_id: int, data_dir: Path, cluster_id: str | None) -> None:
    """Make a directory this node's, before its first start.

    Rarely needed: `broker start` formats an empty directory itself, and the nodes of a cluster agree on its
    id when they form it.
    """
    import asyncio

    from streamkit.broker.storage.identity import decode_uuid
    from streamkit.broker.storage.log_directory import format_directory
    from streamkit.runtime.os.disk import OsDisk
    from streamkit.runtime.os.rng import SystemRng

    if cluster_id is not None:
        try:
            decode_uuid(cluster_id)
        except ValueError as error:
            raise UsageError(
                f"--cluster-id: {error}", hint="it is a UUID in 22 characters; leave it out to draw one"
            ) from None
    disk = OsDisk()
    identity = asyncio.run(
        format_directory(disk, str(data_dir), node_id=node_id, cluster_id=cluster_id, rng=SystemRng())
    )
    disk.close()
    click.echo(f"formatted {data_dir} for node {node_id} of cluster {identity.cluster_id}")


def listeners(given: str, listen: str | None, controller_listen: str | None) -> str | None:
    """What the options make of the listeners that are given; None if they say nothing."""
    if listen is None and controller_listen is None:
        return None
    clients = f"PLAINTEXT://{listen}" if listen is not None else given
    return clients if controller_listen is None else f"{clients},CONTROLLER://{controller_listen}"


def read_properties(path: Path | None) -> dict[str, str]:
    from streamkit.broker.properties import parse_properties

    if path is None:
        return {}
    try:
        return parse_properties(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {path}: {reason}", hint="name a readable file with --config") from None


def overlay(properties: dict[str, str], layer: dict[str, str]) -> None:
    """Put `layer` over `properties`, also where it spells the same setting differently."""
    from streamkit.broker.config import PROPERTY_NAMES

    for name in layer:
        key = PROPERTY_NAMES.get(name)
        if key is not None:
            for spelling in key.spellings:
                properties.pop(spelling.name, None)
    properties.update(layer)


def parse_address(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"{option}: {text!r} is not HOST:PORT", hint=f"for example {option} 127.0.0.1:8080")
    return host.strip("[]"), int(port)
