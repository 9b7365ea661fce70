"""`streamkit new NAME`: the directory of a new app, with a test that passes."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import click

from streamkit.cli.options import json_option
from streamkit.errors import RefusedError, UsageError

TEMPLATES = {
    "app.py": "app.py.txt",
    "test_app.py": "test_app.py.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # what a topic may be called too, since internal topics are


@click.command()
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Make the directory NAME of a new app, with a test that passes."""
    from streamkit.cli.output import print_json

    target = Path(name)
    if not _NAME.fullmatch(target.name):
        raise UsageError(
            f"{target.name!r} cannot be the name of an app", hint="use letters, digits, '.', '_' and '-'"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RefusedError(f"{name} exists and is not empty", hint=f"streamkit new {name}-2")
    _write(target)
    if as_json:
        print_json({"path": str(target.resolve()), "files": sorted(TEMPLATES)})
    else:
        click.echo(f"made {name}: {', '.join(sorted(TEMPLATES))}")
        click.echo(f"next: cd {name} && pytest -q")


def _write(target: Path) -> None:
    templates = files("streamkit.cli") / "scaffold"
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, template in TEMPLATES.items():
            text = (templates / template).read_text(encoding="utf-8")
            (target / name).write_text(text.replace("$name", target.name), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"cannot write {error.filename}: {error.strerror}") from error
