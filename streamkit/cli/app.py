"""`streamkit app`: look into an app without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamkit.cli.options import json_option
from streamkit.cli.output import print_json

if TYPE_CHECKING:
    from streamkit.processing.app import App

on_cluster = click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    help="Count with the partitions that topics have on this cluster, rather than with what is declared.",
)


@click.group()
def app() -> None:
    """Look into an app."""


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


def _found(app: App, bootstrap: str | None) -> dict[str, int]:
    """The partitions of each topic of the cluster; without one, none."""
    if bootstrap is None:
        return {}
    from streamkit.processing.kafka.topics import Topics
    from streamkit.processing.worker.worker import kafka_of

    return Topics(bootstrap, kafka_of(app)).partition_counts()
