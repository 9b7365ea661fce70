"""The manners of every command: quick help, short failures, exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import click
import pytest

from streamkit.cli import frame
from streamkit.errors import (
    BrokerUnreachableError,
    CheckFailedError,
    DeadlineError,
    NotFoundError,
    RefusedError,
    StreamkitError,
    UsageError,
    no_broker,
)
from tests.support.broker_process import environment, streamkit


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `streamkit topic` fail with this error."""

    @click.command(name="topic")
    def command() -> None:
        raise error

    monkeypatch.setattr(frame.LazyGroup, "get_command", lambda self, ctx, name: command)


def outcome(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = frame.run(words)
    captured = capsys.readouterr()
    return code, captured.err.splitlines()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StreamkitError("m", hint="h"), 1),
        (UsageError("m", hint="h"), 2),
        (BrokerUnreachableError("m", hint="h"), 3),
        (NotFoundError("m", hint="h"), 4),
        (RefusedError("m", hint="h"), 5),
        (DeadlineError("m", hint="h"), 6),
        (CheckFailedError("m", hint="h"), 7),
    ],
)
def test_an_error_is_two_lines_and_its_exit_code(
    error: StreamkitError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    assert outcome(["topic"], capsys) == (code, ["error: m", "next:  h"])


def test_an_error_without_a_hint_names_the_help_of_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, StreamkitError("m"))
    assert outcome(["topic"], capsys) == (1, ["error: m", "next:  streamkit topic --help"])


def test_a_defect_of_ours_names_the_command_that_shows_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, KeyError("x"))
    assert outcome(["topic"], capsys) == (1, ["error: KeyError: 'x'", "next:  streamkit --debug topic"])
    _, lines = outcome(["--debug", "topic"], capsys)
    assert lines[-1] == "next:  streamkit --debug topic"


def test_debug_shows_the_traceback_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, RefusedError("m"))
    code, lines = outcome(["--debug", "topic"], capsys)
    assert code == 5
    assert lines[0].startswith("Traceback")
    assert lines[-2] == "error: m"


def test_a_message_stays_one_line_without_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, NotFoundError("no topic 'a\x1b[2J\nb'", hint="look"))
    assert outcome(["topic"], capsys) == (4, ["error: no topic 'a\\x1b[2J b'", "next:  look"])


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert outcome(["topic"], capsys) == (130, [""])  # ends the line that shows ^C


def test_colours_follow_the_environment_then_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    frame.show(["error: m"])
    assert capsys.readouterr().err == "\x1b[31m\x1b[1merror\x1b[0m: m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    frame.show(["error: m"])
    assert capsys.readouterr().err == "error: m\n"


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"]])
def test_a_misspelled_command_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = outcome(words, capsys)
    assert code == 2
    assert lines[0].startswith("error: No such")
    assert lines[1:] == ["next:  streamkit --help"]


def test_help_imports_no_command_and_answers_at_once() -> None:
    program = (
        "import sys, streamkit.cli.frame as f\n"
        "f.run(['--help'])\n"
        "heavy = {'confluent_kafka', 'structlog', 'rich', 'prometheus_client', 'asyncio', 'orjson'}\n"
        "sys.exit(sorted(heavy & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(f"  {name} " in result.stdout for name in frame.COMMANDS)


def test_version_and_module_form() -> None:
    started = time.monotonic()
    result = subprocess.run(streamkit("--help"), env=environment(), capture_output=True, check=True)
    assert b"Usage: streamkit [OPTIONS] COMMAND" in result.stdout
    assert time.monotonic() - started < 5  # the figure of 150 ms is measured where nothing else runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wroker"], "No such command 'wroker'. Did you mean 'worker'?"),
        (["topic", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["xyzzy"], "No such command 'xyzzy'."),
    ],
)
def test_a_misspelled_command_is_answered_with_the_one_that_was_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = outcome(words, capsys)
    assert (code, lines[0]) == (2, f"error: {said}")


@pytest.mark.parametrize(
    ("bootstrap", "hint"),
    [
        ("127.0.0.1:9092", "streamkit broker start --listen 127.0.0.1:9092"),
        ("localhost:1,far:2", "streamkit broker start --listen localhost:1"),
        ("kafka://localhost:9092", "an address is HOST:PORT, without kafka://"),
        ("localhost", "an address is HOST:PORT, for example localhost:9092"),
        (
            "kafka.example.org:9092",
            "check the address, and whether a broker runs there",
        ),
    ],
)
def test_where_no_broker_answers_the_next_step_fits_the_address(bootstrap: str, hint: str) -> None:
    assert no_broker(bootstrap).hint == hint
