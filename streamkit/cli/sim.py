"""`streamkit sim`: whole clusters on virtual time, with everything that may go wrong."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamkit.cli.output import print_json, remark
from streamkit.errors import CheckFailedError, NotFoundError, UsageError

if TYPE_CHECKING:
    from streamkit.simulation.run import Report
    from streamkit.simulation.runner import Summary
    from streamkit.simulation.tape import Tape

UNTIL = "60s"
SHOWN = 5
"""Violations of one seed that are worth a line."""

until_option = click.option(
    "--until", default=UNTIL, show_default=True, metavar="TIME", help="Virtual time of a run, as 60s or 2m."
)
nodes_option = click.option(
    "--nodes",
    type=click.Choice(["1", "3", "5"]),
    help="How many nodes. Each seed draws its own if not given.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group()
def sim() -> None:
    """Run clusters in a deterministic simulation."""


@sim.command()
@click.option("--seeds", default="0:200", show_default=True, metavar="FROM:TO", help="TO is excluded.")
@until_option
@nodes_option
@click.option("--jobs", type=int, help="Processes.  [default: one for each core]")
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Write the tapes of failures here."
)
@json_option
def run(
    *, seeds: str, until: str, nodes: str | None, jobs: int | None, keep: Path | None, as_json: bool
) -> None:
    """Play many seeds and check every invariant. Exit code 7 if one is violated."""
    from streamkit.simulation.runner import play_seeds, sum_up

    chosen, until_ms, count = parse_seeds(seeds), parse_time(until), None if nodes is None else int(nodes)
    reports = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for report in play_seeds(chosen, until_ms=until_ms, nodes=count, jobs=jobs or cores):
        reports.append(report)
        show_progress(report, len(reports), len(chosen))
        if report.violations and keep is not None:
            from streamkit.simulation import corpus
            from streamkit.simulation.draw import draw_tape

            path = corpus.save(keep, f"seed-{report.seed}", draw_tape(report.seed, until_ms, nodes=count))
            remark(f"its tape is {path}")
    summary = sum_up(reports, nodes=count)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(summary, str_keys=True))
    else:
        show_summary(summary)
    if not summary.is_good:
        raise CheckFailedError(what_failed(summary), hint=how_to_replay(summary, until, nodes))


@sim.command()
@click.argument("seed_or_tape")
@until_option
@nodes_option
@click.option("--trace", is_flag=True, help="Print everything that happens, with its virtual time.")
@json_option
def replay(seed_or_tape: str, until: str, nodes: str | None, trace: bool, as_json: bool) -> None:
    """Play one seed, or one tape, again."""
    import msgspec

    from streamkit.simulation.run import play

    report = play(find_tape(seed_or_tape, until, nodes), click.echo if trace else None)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        show_report(report)
    if report.violations:
        raise CheckFailedError(
            f"{len(report.violations)} violations, the first: {report.violations[0]}",
            hint=f"streamkit sim shrink {seed_or_tape}",
        )


@sim.command()
@click.argument("seed_or_tape")
@until_option
@nodes_option
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to write the tape.")
def shrink(seed_or_tape: str, until: str, nodes: str | None, output: Path | None) -> None:
    """Cut a failing tape shorter while it still fails."""
    from streamkit.simulation.run import play
    from streamkit.simulation.shrink import fails_alike
    from streamkit.simulation.shrink import shrink as shortened
    from streamkit.simulation.tape import encode_tape

    tape = find_tape(seed_or_tape, until, nodes)
    violations = play(tape).violations
    if not violations:
        raise NotFoundError(f"{seed_or_tape} does not fail", hint="streamkit sim run --seeds 0:200")
    short = shortened(tape, fails_alike(violations), show_shrinking)
    path = output or Path(f"shrunk-{tape.seed}.tape.json")
    path.write_bytes(encode_tape(short))
    remark(f"{len(short.faults)} faults and {len(short.operations)} operations are left: {path}")
    for violation in play(short).violations[:SHOWN]:
        remark(f"  {violation}")


@sim.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("tests/simulation/corpus"))
def corpus(directory: Path) -> None:
    """Play all tapes of a directory. Exit code 7 if one of them fails."""
    from streamkit.simulation.corpus import load, tapes
    from streamkit.simulation.run import play

    found = tapes(directory)
    if not found:
        raise NotFoundError(f"there are no tapes in {directory}", hint="name a directory of *.tape.json")
    failed = []
    for path in found:
        report = play(load(path))
        click.echo(f"{path.name}: {report.violations[0] if report.violations else 'ok'}")
        failed += [path] if report.violations else []
    if failed:
        raise CheckFailedError(
            f"{len(failed)} of {len(found)} tapes fail", hint=f"streamkit sim replay {failed[0]} --trace"
        )


def find_tape(seed_or_tape: str, until: str, nodes: str | None) -> Tape:
    from streamkit.simulation.corpus import load
    from streamkit.simulation.draw import draw_tape

    if seed_or_tape.isdecimal():
        return draw_tape(int(seed_or_tape), parse_time(until), nodes=None if nodes is None else int(nodes))
    path = Path(seed_or_tape)
    if not path.is_file():
        raise NotFoundError(f"{seed_or_tape} is neither a seed nor a tape", hint="streamkit sim replay 17")
    return load(path)


def parse_seeds(text: str) -> range:
    first, colon, last = text.partition(":")
    if not (first.isdecimal() and (last.isdecimal() if colon else True)):
        raise UsageError(f"--seeds: {text!r} is not FROM:TO", hint="for example --seeds 0:200")
    return range(int(first), int(last) if colon else int(first) + 1)


def parse_time(text: str) -> int:
    """Milliseconds in `90s`, `2m` or `1h`."""
    units = {"s": 1000, "m": 60_000, "h": 3_600_000}
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in units:
        raise UsageError(f"--until: {text!r} is not a time", hint="for example --until 60s")
    return int(number) * units[unit]


def show_progress(report: Report, done: int, count: int) -> None:
    if report.violations:
        remark(f"seed {report.seed}: {len(report.violations)} violations")
        for violation in report.violations[:SHOWN]:
            remark(f"  {violation}")
    elif sys.stderr.isatty():
        click.echo(f"\r{done}/{count} seeds ", nl=False, err=True)


def show_report(report: Report) -> None:
    rows: dict[str, Any] = {
        "seed": report.seed,
        "trace": report.hash,
        "virtual time": f"{report.virtual_s:.1f} s",
        "acknowledged": f"{report.sent} sends, {report.polled} polls, {report.committed} commits",
        "not acknowledged": f"{report.failed} refused, {report.unknown} unknown",
        "drawn with": ", ".join(report.variants) or "nothing besides",
        "what came of it": listed(report.effects),
        "transactions": listed(report.transactions),
        "faults": listed(report.faults),
        "elections": report.elections,
        "evaluations": listed(report.evaluations),
        "ended by themselves": len(report.ended),
        "violations": len(report.violations),
    }
    show_rows(rows)
    for violation in report.violations[: 4 * SHOWN]:
        click.echo(f"  {violation}")


def show_summary(summary: Summary) -> None:
    show_rows(
        {
            "seeds": f"{summary.seeds}, {summary.repeated} of them twice",
            "too little happened": f"in {summary.thin}",
            "virtual time": f"{summary.virtual_s:.0f} s",
            "operations": f"{summary.acknowledged} acknowledged, {summary.failed} refused, "
            f"{summary.unknown} unknown",
            "drawn with": listed(summary.variants),
            "what came of it": listed(summary.effects),
            "transactions": listed(summary.transactions),
            "faults": listed(summary.faults),
            "elections": summary.elections,
            "evaluations": listed(summary.evaluations),
            "never happened": ", ".join(summary.never) or "nothing of what should",
            "seeds that failed": ", ".join(map(str, summary.violations)) or "none",
        }
    )


def show_rows(rows: dict[str, Any]) -> None:
    for name, value in rows.items():
        click.echo(f"{name:<20} {value}")


def show_shrinking(tape: Tape) -> None:
    remark(f"{tape.until_ms} ms, {len(tape.faults)} faults, {len(tape.operations)} operations")


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def what_failed(summary: Summary) -> str:
    if summary.violations:
        seed, found = next(iter(summary.violations.items()))
        return f"{len(summary.violations)} of {summary.seeds} seeds failed; seed {seed}: {found[0]}"
    return f"in {summary.seeds} seeds there was never: {', '.join(summary.never)}"


def how_to_replay(summary: Summary, until: str, nodes: str | None) -> str:
    if not summary.violations:
        return "streamkit sim run with more seeds"
    seed = next(iter(summary.violations))
    options = f" --nodes {nodes}" if nodes else ""
    return f"streamkit sim replay {seed} --until {until}{options} --trace"
