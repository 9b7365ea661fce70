"""What all commands share: the tree, and what happens when one of them fails.

The tree is a table. A command's module is imported when that command runs, so that `streamkit --help`
answers at once however many commands there are and whatever they need.

Every failure is at most three lines on stderr that end with the next command to try, and an exit code:
0 ok · 1 failure · 2 usage · 3 broker unreachable · 4 not found · 5 refused · 6 timeout · 7 check failed ·
130 interrupted. A traceback appears only with `--debug`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import click

from streamkit.errors import INTERRUPTED, StreamkitError
from streamkit.telemetry.printable import printable

# name -> (where it is, what --help says about it)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("streamkit.cli.demo:demo", "Stream real flights through a real job, and verify the result."),
    "new": ("streamkit.cli.new:new", "Make the directory of a new app, with a test that passes."),
    "dev": ("streamkit.cli.dev:dev", "Run an app file with a broker of its own, again at each change."),
    "worker": ("streamkit.cli.worker:worker", "Run the workers of an app."),
    "app": ("streamkit.cli.app:app", "Look into an app, or have it begin anew."),
    "broker": ("streamkit.cli.broker:broker", "Run a broker."),
    "cluster": ("streamkit.cli.cluster:cluster", "Run a cluster, or look at one."),
    "topic": ("streamkit.cli.topic:topic", "Create, read and write topics."),
    "partition": ("streamkit.cli.partition:partition", "Look at partitions, move and elect them."),
    "dlq": ("streamkit.cli.dlq:dlq", "Look at dead letters, and redrive them."),
    "group": ("streamkit.cli.group:group", "Look at groups of consumers, move and delete them."),
    "sim": ("streamkit.cli.sim:sim", "Run clusters in a deterministic simulation."),
}


class LazyGroup(click.Group):
    """The root of the tree: knows each command's name and help without importing it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, envvar="STREAMKIT_DEBUG", help="Show the traceback of a failure.")
@click.version_option(package_name="streamkit-log", prog_name="streamkit")
def root(debug: bool) -> None:
    """Stream processing in Python on its own log, which speaks the Apache Kafka wire protocol."""


def run(words: Sequence[str]) -> int:
    """Run `streamkit WORDS…` and answer its exit code."""
    debug = words[:1] == ["--debug"] or bool(os.environ.get("STREAMKIT_DEBUG"))
    try:
        result = root.main(args=list(words), prog_name="streamkit", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        return _reader_left()
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        lines, code = explain(error, words)
        show(lines)
        return code


def explain(error: Exception, words: Sequence[str]) -> tuple[list[str], int]:
    """The lines that tell a user what failed and what to do next, and the exit code."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "streamkit"
        return [
            f"error: {error.format_message()}{_meant(error)}",
            f"next:  {command} --help",
        ], error.exit_code
    if isinstance(error, click.ClickException):
        return ["error: " + error.format_message(), f"next:  {_help_for(words)}"], error.exit_code
    if isinstance(error, StreamkitError):
        return [f"error: {error.message}", f"next:  {error.hint or _help_for(words)}"], error.exit_code
    again = shlex.join(["streamkit", "--debug", *(word for word in words if word != "--debug")])
    return [f"error: {type(error).__name__}: {error}", f"next:  {again}"], 1


def _meant(error: click.UsageError) -> str:
    """The command that a misspelled one resembles; click itself does this for options."""
    unknown = re.fullmatch(r"No such command '(.*)'\.", error.format_message())
    if unknown is None or error.ctx is None or not isinstance(error.ctx.command, click.Group):
        return ""
    known = error.ctx.command.list_commands(error.ctx)
    meant = difflib.get_close_matches(unknown[1], known, n=1)
    return f" Did you mean '{meant[0]}'?" if meant else ""


def show(lines: Sequence[str], stream: TextIO | None = None) -> None:
    """The lines on stderr, each one line whatever its text holds; the first word coloured on a terminal."""
    stream = stream or sys.stderr
    for line in lines:
        label, _, text = printable(" ".join(line.splitlines())).partition(":")
        if wants_colour(stream):
            label = click.style(label, fg="red" if label == "error" else "cyan", bold=True)
        click.echo(f"{label}:{text}", file=stream, color=True)


def wants_colour(stream: TextIO) -> bool:
    """`NO_COLOR` and `FORCE_COLOR` decide (no-color.org, force-color.org), then the stream itself."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _help_for(words: Sequence[str]) -> str:
    path = []
    command: click.Command | None = root
    with click.Context(root) as context:
        for word in words:
            if not isinstance(command, click.Group) or not (command := command.get_command(context, word)):
                break
            path.append(word)
    return " ".join(["streamkit", *path, "--help"])


def _reader_left() -> int:
    """Whoever read our output has seen enough (`… | head`): that is not a failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
