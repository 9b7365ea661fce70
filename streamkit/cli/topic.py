"""`streamkit topic`: create, list, describe, alter, delete; write and read records.

Kafka clients are imported by the commands that talk to a cluster, not by this file: help needs none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from streamkit.cli.options import bootstrap_option, json_option
from streamkit.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from streamkit.cli.admin import Cluster


@click.group()
def topic() -> None:
    """Create, read and write topics."""


@topic.command()
@click.argument("name")
@click.option("-p", "--partitions", type=click.IntRange(min=1), help="Default: the cluster's num.partitions.")
@click.option("-r", "--replication-factor", type=click.IntRange(min=1), help="Default: the cluster's.")
@click.option("-c", "--config", multiple=True, metavar="KEY=VALUE", help="A topic setting; may be repeated.")
@bootstrap_option
@json_option
def create(
    *,
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    config: Sequence[str],
    bootstrap: str,
    as_json: bool,
) -> None:
    """Create the topic NAME."""
    from confluent_kafka.admin import NewTopic

    from streamkit.cli.admin import Cluster
    from streamkit.cli.output import print_json

    settings = dict(_pair(word, "--config") for word in config)
    cluster = Cluster(bootstrap)
    request = NewTopic(name, partitions or -1, replication_factor or -1, config=settings)
    try:
        cluster.only_answer(cluster.admin.create_topics([request]))
    except RefusedError as error:
        error.hint = error.hint or f"streamkit topic describe {name}"
        raise
    if as_json:
        print_json({"name": name, "partitions": len(cluster.topic(name).partitions)})
    else:
        click.echo(f"created {name}")


@topic.command(name="list")
@click.option("--internal", is_flag=True, help="Also topics whose names begin with two underscores.")
@bootstrap_option
@json_option
def list_(internal: bool, bootstrap: str, as_json: bool) -> None:
    """List the topics."""
    from streamkit.cli.admin import Cluster
    from streamkit.cli.output import print_rows

    rows = [
        {
            "name": name,
            "partitions": len(found.partitions),
            "replicas": max((len(p.replicas) for p in found.partitions.values()), default=0),
        }
        for name, found in sorted(Cluster(bootstrap).topics().items())
        if internal or not name.startswith("__")
    ]
    print_rows(("name", "partitions", "replicas"), rows, as_json=as_json)


@topic.command()
@click.argument("name")
@bootstrap_option
@json_option
def describe(name: str, bootstrap: str, as_json: bool) -> None:
    """Show the partitions of the topic NAME, and the settings that differ from the defaults."""
    from streamkit.cli.admin import Cluster
    from streamkit.cli.output import print_json, print_rows

    cluster = Cluster(bootstrap)
    partitions = _partitions(cluster, name)
    settings = _settings(cluster, name)
    if as_json:
        print_json({"name": name, "partitions": partitions, "settings": settings})
        return
    print_rows(
        tuple(partitions[0]),
        [{**p, "replicas": _ids(p["replicas"]), "isr": _ids(p["isr"])} for p in partitions],
    )
    if settings:
        click.echo()
        print_rows(("setting", "value"), [{"setting": k, "value": v} for k, v in settings.items()])


def _ids(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _partitions(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    from confluent_kafka.admin import OffsetSpec

    found = cluster.topic(name).partitions
    places = [(name, partition) for partition in sorted(found)]
    starts = cluster.offsets(places, OffsetSpec.earliest())
    ends = cluster.offsets(places, OffsetSpec.latest())
    return [
        {
            "partition": place[1],
            "leader": found[place[1]].leader,
            "replicas": list(found[place[1]].replicas),
            "isr": list(found[place[1]].isrs),
            "start": starts[place],
            "end": ends[place],
        }
        for place in places
    ]


def _settings(cluster: Cluster, name: str) -> dict[str, str]:
    from confluent_kafka.admin import ConfigResource, ConfigSource, ResourceType

    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = cluster.only_answer(cluster.admin.describe_configs([resource]))
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return {key: entry.value for key, entry in sorted(entries.items()) if entry.source == own}


@topic.command()
@click.argument("name")
@click.option("-p", "--partitions", type=click.IntRange(min=1), help="So many from now on; never fewer.")
@click.option(
    "-c",
    "--config",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="A setting; without a value, its default again.",
)
@bootstrap_option
@json_option
def alter(*, name: str, partitions: int | None, config: Sequence[str], bootstrap: str, as_json: bool) -> None:
    """Give the topic NAME more partitions, or other settings.

    Records stay where they are: with more partitions, those of a key are in two places. Empty it first, or
    make a new topic, where keys matter.
    """
    from streamkit.cli.admin import Cluster
    from streamkit.cli.output import print_json

    if partitions is None and not config:
        raise UsageError(
            "nothing to alter", hint=f"streamkit topic alter {name} -p 6 -c retention.ms=86400000"
        )
    cluster = Cluster(bootstrap)
    cluster.topic(name)
    if config:
        _set(cluster, name, config)
    if partitions is not None:
        _grow(cluster, name, partitions)
    if as_json:
        print_json({"name": name, "partitions": len(cluster.topic(name).partitions)})
    else:
        click.echo(f"altered {name}")


def _grow(cluster: Cluster, name: str, partitions: int) -> None:
    from confluent_kafka.admin import NewPartitions

    if partitions != len(cluster.topic(name).partitions):
        cluster.only_answer(cluster.admin.create_partitions([NewPartitions(name, partitions)]))


def _set(cluster: Cluster, name: str, config: Sequence[str]) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        if equals
        else ConfigEntry(key, None, incremental_operation=AlterConfigOpType.DELETE)
        for key, equals, value in (word.partition("=") for word in config)
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    cluster.only_answer(cluster.admin.incremental_alter_configs([resource]))


@topic.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@bootstrap_option
@json_option
def delete(names: Sequence[str], bootstrap: str, as_json: bool) -> None:
    """Delete topics with all their records."""
    from streamkit.cli.admin import Cluster
    from streamkit.cli.output import print_json

    cluster = Cluster(bootstrap)
    for name in names:
        cluster.topic(name, instead="streamkit topic list")
    for future in cluster.admin.delete_topics(list(names)).values():
        cluster.answer(future)
    if as_json:
        print_json({"deleted": list(names)})
    else:
        for name in names:
            click.echo(f"deleted {name}")


@topic.command()
@click.argument("name")
@click.option("-k", "--key", help="The key of every record.")
@click.option("-K", "--key-separator", metavar="TEXT", help="Each line is KEY, this text, VALUE.")
@click.option(
    "-v", "--value", multiple=True, help="A value; may be repeated. Without it: the lines of stdin."
)
@click.option("-H", "--header", multiple=True, metavar="NAME=VALUE", help="A header of every record.")
@click.option("-p", "--partition", type=click.IntRange(min=0), help="Default: by the key, else any.")
@click.option("-t", "--timestamp", metavar="MS", type=click.IntRange(min=0), help="Default: now.")
@bootstrap_option
@json_option
def produce(
    *,
    name: str,
    key: str | None,
    key_separator: str | None,
    value: Sequence[str],
    header: Sequence[str],
    partition: int | None,
    timestamp: int | None,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Write records to the topic NAME, and wait until they are acknowledged.

    With --json each acknowledged record is one JSON object: topic, partition, offset, timestamp.
    """
    from streamkit.cli.admin import Cluster
    from streamkit.cli.produce import Sender

    if key is not None and key_separator is not None:
        raise UsageError("--key and --key-separator exclude each other")
    if key_separator == "":
        raise UsageError("--key-separator is empty")
    lines = [word.encode() for word in value] or _lines(sys.stdin.buffer)
    cluster = Cluster(bootstrap)
    sender = Sender(
        cluster,
        name,
        headers=[_pair(word, "--header") for word in header],
        partition=partition,
        timestamp=timestamp,
        as_json=as_json,
    )
    for line in lines:
        if key_separator is None:
            sender.send(None if key is None else key.encode(), line)
        else:
            sender.send(*_keyed(line, key_separator.encode()))
    sender.finish()


def _lines(stream: BinaryIO) -> Any:
    return (line.rstrip(b"\r\n") for line in stream)


def _keyed(line: bytes, separator: bytes) -> tuple[bytes, bytes]:
    key, found, value = line.partition(separator)
    if not found:
        raise UsageError(
            f"the line {line[:40].decode(errors='replace')!r} has no {separator.decode()!r} in it"
        )
    return key, value


@topic.command()
@click.argument("name")
@click.option(
    "-o",
    "--offset",
    default="start",
    show_default=True,
    metavar="FROM[:TO]",
    help="Where to start, and to end: start, end, 47, +5, -5, @TIME, @-1h, :end, 10:20, @-1h:end.",
)
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after this many records.")
@click.option(
    "-p", "--partition", type=click.IntRange(min=0), multiple=True, help="Only this one; may be repeated."
)
@click.option("--raw", is_flag=True, help="Only the values, as they are, each with a line end.")
@bootstrap_option
@json_option
def consume(
    *,
    name: str,
    offset: str,
    count: int | None,
    partition: Sequence[int],
    raw: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Read records of the topic NAME, from its start, until interrupted.

    A line is partition, offset, key and value, separated by tabs; with --json it is a JSON object that
    also has topic, timestamp (ms) and headers. Bytes that are not UTF-8 appear as {"base64": ...}.
    """
    import time

    from streamkit.cli.admin import Cluster
    from streamkit.cli.consume import Reader, printer
    from streamkit.cli.offsets import parse

    if raw and as_json:
        raise UsageError("--raw and --json exclude each other")
    wanted = parse(offset, now_ms=time.time_ns() // 1_000_000)
    with Reader(Cluster(bootstrap), name, partition, wanted) as reader:
        show = printer(raw=raw, as_json=as_json)
        for number, record in enumerate(reader, 1):
            show(record)
            if number == count:
                return


def _pair(word: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(f"{option} {word!r} needs the form KEY=VALUE")
    return key, value
