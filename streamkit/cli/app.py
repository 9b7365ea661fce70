"""`streamkit app`: look into an app without running it."""

from __future__ import annotations

import click

from streamkit.cli.options import json_option
from streamkit.cli.output import print_json


@click.group()
def app() -> None:
    """Look into an app."""


@app.command()
@click.argument("app_path", metavar="APP")
@json_option
def explain(*, app_path: str, as_json: bool) -> None:
    """Print the tasks of APP, what they read and write, their state, and every topic that it needs."""
    from streamkit.cli.app_loader import load_app

    explanation = load_app(app_path).explain()
    if as_json:
        print_json(explanation.json())
    else:
        click.echo(str(explanation))


@app.command()
@click.argument("app_path", metavar="APP")
def graph(*, app_path: str) -> None:
    """Draw APP as a Mermaid flowchart: paste it into Markdown, between ```mermaid and ```."""
    from streamkit.cli.app_loader import load_app
    from streamkit.processing.graph import mermaid

    click.echo(mermaid(load_app(app_path).topology()), nl=False)
