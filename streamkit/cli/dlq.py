"""`streamkit dlq`: records that could not be processed: why, and back to where they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from streamkit.cli.options import bootstrap_option, json_option

if TYPE_CHECKING:
    from streamkit.cli.redrive import Redrive


@click.group()
def dlq() -> None:
    """Look at dead letters, and redrive them."""


def _chosen(command: Any) -> Any:
    """The options by which letters are chosen."""
    for option in (
        click.option("--error", metavar="CLASS", help="Only those of this error, ValueError for one."),
        click.option("--operator", metavar="NAME", help="Only those of this operator."),
        click.option("--source", metavar="TOPIC", help="Only those that came from this topic."),
    ):
        command = option(command)
    return command


@dlq.command(name="list")
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@bootstrap_option
@json_option
def list_(*, topics: Sequence[str], bootstrap: str, as_json: bool) -> None:
    """List the topics that hold dead letters which were not redriven: whose, how many, from when, and why.

    Without a TOPIC all topics are looked at; those with a dead letter at their end are read. Times are those
    of the records that failed.
    """
    from streamkit.cli.admin import Cluster
    from streamkit.cli.dead_letters import summaries, topics_with_letters
    from streamkit.cli.output import print_rows, remark

    cluster = Cluster(bootstrap)
    found = [one for topic in topics or topics_with_letters(cluster) for one in summaries(cluster, topic)]
    columns = ("topic", "operator", "letters", "oldest", "newest", "errors")
    if not found and not as_json:
        remark("no dead letters that were not redriven")
        return
    print_rows(columns, [one.row(as_json=as_json) for one in found], as_json=as_json)


@dlq.command()
@click.argument("topic")
@_chosen
@bootstrap_option
@json_option
def show(*, topic: str, bootstrap: str, as_json: bool, **choice: str | None) -> None:
    """Tell the causes of the letters in TOPIC that were not redriven, and how many each has."""
    from streamkit.cli.output import print_rows

    rows: dict[tuple[str | None, str, str, str], dict[str, Any]] = {}
    for _, letter in _drive(bootstrap, topic, choice).letters():
        cause = letter.topic, letter.operator, letter.error, letter.traceback
        row = rows.setdefault(cause, {"letters": 0})
        row |= dict(zip(("source", "operator", "error", "traceback"), cause, strict=True))
        row["letters"] += 1
        row["message"] = letter.message  # the newest
    columns = ("letters", "source", "operator", "error", "traceback", "message")
    print_rows(columns, sorted(rows.values(), key=lambda row: -row["letters"]), as_json=as_json)


@dlq.command()
@click.argument("topic")
@_chosen
@click.option("--yes", is_flag=True, help="Do it; otherwise it is only told what would be done.")
@bootstrap_option
@json_option
def redrive(*, topic: str, yes: bool, bootstrap: str, as_json: bool, **choice: str | None) -> None:
    """Write the letters in TOPIC back to where they came from, as they were, each once.

    Key, value, headers, timestamp and partition are those of the failed record. What has gone home is noted
    in the topic TOPIC-redriven, in the transactions that send it, so that an interrupted run repeats nothing.
    """
    from streamkit.cli.output import print_json

    homes: Counter[str] = Counter()
    drive = _drive(bootstrap, topic, choice)
    drive.count(homes)
    if yes:
        drive.send()
    left, homeless = drive.left, drive.homeless
    if as_json:
        told = {"topic": topic, "redriven": yes, "letters": homes.total(), "to": dict(homes)}
        print_json({**told, "left": left, "homeless": homeless})
        return
    verb = "redriven" if yes else "would be redriven"
    for home, letters in homes.items():
        click.echo(f"{letters} {verb} to {home}")
    if not homes:
        click.echo("nothing to redrive")
    if left:
        click.echo(f"{left} not chosen")
    if homeless:
        click.echo(f"{homeless} came from no record, or from a topic that is gone, and stay")
    if homes and not yes:
        click.echo(f"next:  streamkit dlq redrive {topic} --yes", err=True)


def _drive(bootstrap: str, topic: str, choice: dict[str, str | None]) -> Redrive:
    from streamkit.cli.admin import Cluster
    from streamkit.cli.redrive import Choice, Redrive

    return Redrive(Cluster(bootstrap), topic, Choice(**choice))
