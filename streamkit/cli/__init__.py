"""The `streamkit` command."""

import click


@click.group()
@click.version_option(package_name="streamkit-log")
def main() -> None:
    """Stream processing in Python on its own log."""
