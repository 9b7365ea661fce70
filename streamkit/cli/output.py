"""What a command prints: a table on a terminal, the same columns plainly when piped, or JSON.

Data goes to stdout; remarks and progress go to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from streamkit.cli.frame import wants_colour
from streamkit.telemetry.printable import printable


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool = False) -> None:
    """The rows as a JSON array, a rich table or aligned columns. `columns` are keys of each row."""
    if as_json:
        print_json([{column: row[column] for column in columns} for row in rows])
        return
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _print_table(columns, cells)
    else:
        _print_plain(columns, cells)


def remark(text: str) -> None:
    """A line for the person, not for the pipe."""
    click.echo(printable(text), err=True)


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(row[index].lstrip("-").isdigit() for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(no_color=not wants_colour(sys.stdout), highlight=False).print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
