"""`streamkit worker`: run the workers of an app."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, NamedTuple, Self

import click

if TYPE_CHECKING:
    from streamkit.processing.app import App
    from streamkit.processing.worker.worker import Http

EMBEDDED_DIR = Path(".streamkit")


@click.command()
@click.argument("app_path", metavar="APP")
@click.option("-w", "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    envvar="STREAMKIT_BOOTSTRAP",
    help="Where the cluster answers.  [default: what the app says, else 127.0.0.1:9092]",
)
@click.option(
    "--http", metavar="HOST:PORT", help="Serve /metrics, /healthz, /readyz, /tables; worker i at PORT + i."
)
@click.option(
    "--sd",
    metavar="HOST:PORT",
    help="Tell Prometheus at /sd where each worker serves /metrics; without --http, at any free port.",
)
@click.option("--http-fd", type=int, hidden=True)  # a socket that a parent process listens with
@click.option("--embedded", is_flag=True, help="Start a broker for as long as the workers run.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=EMBEDDED_DIR,
    show_default=True,
    help="Where the embedded broker keeps its data.",
)
@click.option(
    "--guarantee",
    type=click.Choice(["at_least_once", "exactly_once"]),
    help="Of outputs and state, after any crash.  [default: what the app says]",
)
@click.option(
    "--slot",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of the first worker: distinct for each, also across machines, under exactly_once.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    envvar="STREAMKIT_STATE_DIR",
    help="Keep state here (RocksDB): a restart reads only what it lacks.  [default: what the app says]",
)
@click.option(
    "--state-memory",
    metavar="SIZE",
    help="Memory for state that is kept on disk, about: 512MiB.  [default: what the app says]",
)
@click.option(
    "--standby-replicas",
    type=click.IntRange(0),
    help="How many other workers keep a warm copy of each task's state.  [default: what the app says]",
)
@click.option("--serve-tables", is_flag=True, help="Answer /tables on other addresses than loopback, too.")
@click.option(
    "--abandon",
    metavar="NAME",
    multiple=True,
    help="Start though the state of this table or operator of a former version is lost; may be repeated.",
)
def worker(
    *,
    app_path: str,
    workers: int,
    bootstrap: str | None,
    http: str | None,
    sd: str | None,
    http_fd: int | None,
    embedded: bool,
    data_dir: Path,
    guarantee: str | None,
    slot: int,
    state_dir: str | None,
    state_memory: str | None,
    standby_replicas: int | None,
    serve_tables: bool,
    abandon: tuple[str, ...],
) -> int:
    """Run the workers of APP: a module or file, with the app's name if there are several (shop:app, shop.py).

    The current directory is on the import path. SIGTERM or Ctrl-C drains, a second one ends at once.
    """
    from streamkit.cli.broker import parse_address
    from streamkit.runtime.os.lifeline import heed_lifeline
    from streamkit.runtime.os.listening import inherited
    from streamkit.telemetry import logs

    logs.configure()
    heed_lifeline()
    address: Http = None if http is None else parse_address(http, "--http")
    if http_fd is not None:
        address = inherited(http_fd)
    discovery = None if sd is None else parse_address(sd, "--sd")
    choices = Choices(
        guarantee=guarantee,
        slot=slot,
        state_dir=state_dir,
        state_memory=state_memory,
        standby_replicas=standby_replicas,
        serve_tables=serve_tables,
        abandon=abandon,
    )
    if not embedded:
        return run_workers(app_path, workers, bootstrap, http=address, choices=choices, discovery=discovery)
    from streamkit.cli.embedding import embedded_broker

    if bootstrap is not None and _was_given("bootstrap"):
        raise click.UsageError("--embedded and --bootstrap exclude each other")
    with embedded_broker(data_dir) as broker:
        return run_workers(
            app_path, workers, broker.bootstrap, http=address, choices=choices, discovery=discovery
        )


class Choices(NamedTuple):
    """What the command line says of an app's workers, beside what the app says."""

    guarantee: str | None = None
    slot: int = 0
    state_dir: str | None = None
    state_memory: str | None = None
    standby_replicas: int | None = None
    serve_tables: bool = False
    abandon: tuple[str, ...] = ()

    def apply(self, app: App) -> None:
        """The command line wins."""
        from streamkit.processing.app import checked_guarantee
        from streamkit.processing.state.cache import checked_state_memory

        if self.guarantee is not None:
            app.guarantee = checked_guarantee(self.guarantee)
        app.state_dir = self.state_dir or app.state_dir
        if self.state_memory is not None:
            app.state_memory_bytes = checked_state_memory(self.state_memory)
        if self.standby_replicas is not None:
            app.standby_replicas = self.standby_replicas
        app.serve_tables = self.serve_tables or app.serve_tables
        app.abandon |= set(self.abandon)

    def words(self, index: int) -> list[str]:
        """The same for the index-th of several worker processes."""
        guarantee = [] if self.guarantee is None else ["--guarantee", self.guarantee]
        state = [] if self.state_dir is None else ["--state-dir", self.state_dir]
        memory = [] if self.state_memory is None else ["--state-memory", self.state_memory]
        replicas = self.standby_replicas
        standbys = [] if replicas is None else ["--standby-replicas", str(replicas)]
        tables = ["--serve-tables"] if self.serve_tables else []
        abandoned = [word for name in self.abandon for word in ("--abandon", name)]
        return [*guarantee, *state, *memory, *standbys, *tables, *abandoned, "--slot", str(self.slot + index)]


def run_workers(
    app_path: str,
    workers: int,
    bootstrap: str | None,
    *,
    http: Http,
    choices: Choices,
    discovery: tuple[str, int] | None,
) -> int:
    """One worker in this process, or several under a supervisor. Their exit code."""
    from streamkit.cli.app_loader import load_app
    from streamkit.processing.worker.worker import run_on_loop, work

    app = load_app(app_path)  # in the supervisor too: a misspelled app is one error, not one for each worker
    choices.apply(app)
    if workers == 1 and discovery is None:
        return run_on_loop(work(app, bootstrap=bootstrap, http=http, slot=choices.slot))
    assert http is None or isinstance(http, tuple), "one socket cannot serve several workers"
    app.topology()
    if discovery is not None:
        http = http or (discovery[0], 0)
    command = worker_command(app_path, bootstrap)
    ports = Ports.of(http, workers)
    commands = [command + ports.words(slot) + choices.words(slot) for slot in range(workers)]
    return run_on_loop(_supervise(app.id, commands, ports, discovery))


async def _supervise(
    app_id: str, commands: list[list[str]], ports: Ports, discovery: tuple[str, int] | None
) -> int:
    from streamkit.processing.worker import discovery as service_discovery
    from streamkit.processing.worker.supervisor import Supervisor

    supervisor = Supervisor(app_id, commands, [ports.inherited(slot) for slot in range(len(commands))])
    if discovery is None:
        return await supervisor.run()
    with service_discovery.discovery(app_id, ports.addresses, discovery, supervisor):
        return await supervisor.run()


class Ports(NamedTuple):
    """Where each worker serves HTTP: from a port on, or anywhere, and then on sockets that are held here, so
    that a worker that is started again has the port of the one before.
    """

    host: str = ""
    numbers: Sequence[int] = ()
    sockets: Sequence[socket] = ()

    @classmethod
    def of(cls, http: tuple[str, int] | None, workers: int) -> Self:
        from streamkit.runtime.os.listening import listen_from

        if http is None:
            return cls()
        host, first = http
        if first:
            return cls(host, range(first, first + workers))
        sockets = [listen_from(host, 0) for _ in range(workers)]
        return cls(host, [one.getsockname()[1] for one in sockets], sockets)

    @property
    def addresses(self) -> list[str]:
        from streamkit.processing.worker.queries import reached_at

        return [reached_at(self.host, number) for number in self.numbers]

    def words(self, slot: int) -> list[str]:
        if self.sockets:
            return ["--http-fd", str(self.sockets[slot].fileno())]
        return ["--http", f"{self.host}:{self.numbers[slot]}"] if self.numbers else []

    def inherited(self, slot: int) -> list[int]:
        return [self.sockets[slot].fileno()] if self.sockets else []


def worker_command(app_path: str, bootstrap: str | None, http: tuple[str, int] | None = None) -> list[str]:
    """The command line of one worker process."""
    command = [sys.executable, "-m", "streamkit", "worker", app_path]
    if bootstrap is not None:
        command += ["--bootstrap", bootstrap]
    if http is not None:
        command += ["--http", f"{http[0]}:{http[1]}"]
    return command


def _was_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE
