"""The `streamkit` command as its user meets it: what it prints, how it fails, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from typing import Any
from unittest.mock import patch

from streamkit.cli.frame import run
from tests.support.broker_process import environment, streamkit


class Cli:
    """`streamkit`, told where its cluster is."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            streamkit(*words),
            input=stdin,
            env=environment(STREAMKIT_BOOTSTRAP=self.bootstrap),
            capture_output=True,
            timeout=60,
            check=False,
        )

    def out(self, *words: str, stdin: bytes = b"") -> str:
        """Its output; it must succeed and have nothing to remark."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stderr.decode()) == (0, "")
        return done.stdout.decode()

    def json(self, *words: str, stdin: bytes = b"") -> Any:
        return json.loads(self.out(*words, "--json", stdin=stdin))

    def lines(self, *words: str, stdin: bytes = b"") -> list[Any]:
        return [json.loads(line) for line in self.out(*words, "--json", stdin=stdin).splitlines()]

    def fails(self, code: int, *words: str, stdin: bytes = b"") -> str:
        """The first line on stderr; it must fail so, briefly, and leave stdout empty."""
        done = self.run(*words, stdin=stdin)
        lines = done.stderr.decode().splitlines()
        assert (done.returncode, done.stdout) == (code, b""), lines
        assert len(lines) <= 3
        assert lines[-1].startswith("next:  ")
        return lines[0]


class CliHere(Cli):
    """The same without a process for each command: for those that read nothing and wait for no signal."""

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        assert not stdin
        out, error = TextIOWrapper(BytesIO(), "utf-8"), TextIOWrapper(BytesIO(), "utf-8")
        with (
            patch.dict(os.environ, environment(STREAMKIT_BOOTSTRAP=self.bootstrap)),
            redirect_stdout(out),
            redirect_stderr(error),
        ):
            code = run(words)
        return subprocess.CompletedProcess(words, code, _written(out), _written(error))


def _written(stream: TextIOWrapper) -> bytes:
    stream.flush()
    assert isinstance(stream.buffer, BytesIO)
    return stream.buffer.getvalue()
