"""Options that mean the same in every command that has them."""

from __future__ import annotations

import click

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

bootstrap_option = click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    envvar="STREAMKIT_BOOTSTRAP",
    default=DEFAULT_BOOTSTRAP,
    show_default=True,
    help="Where the cluster answers (or STREAMKIT_BOOTSTRAP).",
)

json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
