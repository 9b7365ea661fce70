"""Logs: one line an event, JSON for machines, nothing in them that a terminal would obey."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from streamkit.telemetry import logs
from streamkit.telemetry.log_levels import ROOT, log_levels
from streamkit.telemetry.printable import printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    log_levels.set(ROOT, "INFO")


def test_one_json_object_a_line_when_piped() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("broker").info("connection closed", peer="1.2.3.4", reason=b"bad\x00", bytes=5)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert list(line.items()) == [
        ("level", "info"), ("logger", "broker"), ("event", "connection closed"),
        ("peer", "1.2.3.4"), ("reason", "bad\\x00"), ("bytes", 5),
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "console"])
def test_foreign_text_cannot_forge_a_line_nor_move_the_cursor(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure(stream=stream)
    structlog.get_logger("x").warning("bad\nname", topic="a\x1b[2J\x9b\r\n\u202e", nested={"k\n": ["\x07"]})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not set(text[:-1]) & {"\x1b", "\x9b", "\r", "\u202e", "\x07"}


def test_the_standard_library_goes_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("not shown")
    line = json.loads(stream.getvalue())
    assert (line["logger"], line["level"], line["event"]) == ("asyncio", "warning", "slow callback")


def test_a_traceback_keeps_its_lines_for_people() -> None:
    stream = Terminal()
    logs.configure(stream=stream)
    try:
        raise ValueError("a\x1b[31mb")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    text = stream.getvalue()
    assert "ValueError: a\\x1b[31mb" in text
    assert 'raise ValueError("a\\x1b[31mb")' in text


def test_debug_lines_only_when_asked() -> None:
    quiet, loud = io.StringIO(), io.StringIO()
    for stream, debug in ((quiet, False), (loud, True)):
        logs.configure(stream=stream, debug=debug)
        structlog.get_logger().debug("detail")
    assert quiet.getvalue() == ""
    assert json.loads(loud.getvalue())["event"] == "detail"


def test_printable_keeps_ordinary_text() -> None:
    assert printable("naïve — 日本 ✓") == "naïve — 日本 ✓"
    assert printable("a\tb\x7f\u2028") == "a\\tb\\x7f\\u2028"
