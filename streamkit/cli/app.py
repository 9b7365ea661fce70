"""`streamkit app`: look into an app without running it, or have it begin anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamkit.cli.options import json_option
from streamkit.cli.output import print_json, print_rows, remark

if TYPE_CHECKING:
    from streamkit.processing.app import App

on_cluster = click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    help="Count with the partitions that topics have on this cluster, rather than with what is declared.",
)


@click.group()
def app() -> None:
    """Look into an app, or have it begin anew."""


@app.command()
@click.argument("app_path", metavar="APP")
@on_cluster
@json_option
def explain(*, app_path: str, bootstrap: str | None, as_json: bool) -> None:
    """Print the tasks of APP, what they read and write, their state, and every topic that it needs."""
    from streamkit.cli.app_loader import load_app
    from streamkit.processing.explain import Explanation

    loaded = load_app(app_path)
    explanation = Explanation(loaded.topology(), _found(loaded, bootstrap))
    if as_json:
        print_json(explanation.json())
    else:
        click.echo(str(explanation))


@app.command()
@click.argument("app_path", metavar="APP")
@on_cluster
def graph(*, app_path: str, bootstrap: str | None) -> None:
    """Draw APP as a Mermaid flowchart: paste it into Markdown, between ```mermaid and ```."""
    from streamkit.cli.app_loader import load_app
    from streamkit.processing.graph import mermaid

    loaded = load_app(app_path)
    click.echo(mermaid(loaded.topology(), _found(loaded, bootstrap)), nl=False)


@app.command()
@click.argument("app_path", metavar="APP")
@click.option("--to", metavar="POSITION", default="start", show_default=True,
              help="Where the input goes on: start, end, 47, +5, -5, @-1h, @2013-01-01.")  # fmt: skip
@click.option("--state-dir", type=click.Path(file_okay=False), envvar="STREAMKIT_STATE_DIR",
              help="Where its workers keep state on this machine.  [default: what the app says]")  # fmt: skip
@click.option("--force", is_flag=True, help="Remove members that are dead but not missed yet.")
@click.option("--yes", is_flag=True, help="Do it; without this the plan is only shown.")
@click.option("--bootstrap", metavar="HOST:PORT", envvar="STREAMKIT_BOOTSTRAP",
              help="Where the cluster answers.  [default: the app's, else 127.0.0.1:9092]")  # fmt: skip
@json_option
def reset(
    *,
    app_path: str,
    to: str,
    state_dir: str | None,
    force: bool,
    yes: bool,
    bootstrap: str | None,
    as_json: bool,
) -> None:
    """Have APP begin anew: forget its offsets and state, and read its input from POSITION on.

    Deletes its internal topics (changelogs, repartition and reply topics, those of former versions too) and
    its directories on this machine. Topics that it reads from and writes to stay as they are. All its workers
    must be stopped.
    """
    from streamkit.cli.app_loader import load_app
    from streamkit.cli.reset import carry_out, cluster_of, planned

    found = load_app(app_path)
    cluster = cluster_of(found, bootstrap)
    plan = planned(cluster, found, to, state_dir)
    if yes:
        carry_out(cluster, plan, force=force)
    if as_json:
        print_json({**plan.json(), "done": yes})
        return
    print_rows(("what", "name", "now", "then"), plan.rows())
    for topic in plan.strangers:
        remark(f"{topic} stays: it may be another app's; else: streamkit topic delete {topic}")
    if not yes:
        if plan.members and not force:
            remark(f"it has {len(plan.members)} members: stop its workers first")
        remark("that was the plan; --yes carries it out")


def _found(app: App, bootstrap: str | None) -> dict[str, int]:
    """The partitions of each topic of the cluster; without one, none."""
    if bootstrap is None:
        return {}
    from streamkit.processing.kafka.topics import Topics
    from streamkit.processing.worker.worker import kafka_of

    return Topics(bootstrap, kafka_of(app)).partition_counts()
