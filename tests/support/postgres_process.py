"""A real PostgreSQL in a directory of its own: started, stopped at once, started again on the same port."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests.support.broker_cluster import free_ports

WAIT_S = 30.0


def programs() -> Path | None:
    """Where `postgres` and `initdb` are; Debian keeps them out of the path."""
    found = shutil.which("postgres")
    places = [os.path.realpath(found)] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    return Path(places[-1]).parent if places else None


class PostgresProcess:
    """It refuses to run as root, so root runs it as `postgres`."""

    def __init__(self) -> None:
        where = programs()
        assert where is not None
        self._programs = where
        self._as: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        self.directory = tempfile.mkdtemp(prefix="streamkit-postgres-")
        if self._as:
            shutil.chown(self.directory, "postgres")
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", f"{self.directory}/data", "-U", "test", "-A", "trust", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://test@127.0.0.1:{self.port}/postgres"

    def start(self) -> Self:
        command = [str(self._programs / "postgres"), "-D", f"{self.directory}/data", "-p", str(self.port)]
        command += ["-k", self.directory, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=self.directory, **self._as
        )
        deadline = time.monotonic() + WAIT_S
        while not self._answers():
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """All its connections break."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(3)  # SIGQUIT: immediate shutdown, its children included
            process.wait(WAIT_S)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *words],
            check=False,
            capture_output=True,
            cwd=self.directory,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()
