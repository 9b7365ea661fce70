"""`streamkit broker start` as a process: ready, refused, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamkit.broker.controller.records import ConfigRecord, encode_record
from streamkit.broker.log.append import Origin
from streamkit.protocol.records.record import Record, encode_batch
from tests.broker.server.test_metadata import opened
from tests.support.broker_process import BrokerProcess, environment, streamkit


def start(*options: str) -> subprocess.CompletedProcess[str]:
    """Run a broker that is expected to refuse."""
    return subprocess.run(
        streamkit("broker", "start", *options),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(),
    )


def test_it_starts_says_ready_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data").start()
    assert sum("ready" in line for line in broker.log) == 1
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5):
        pass
    assert broker.stop() == 0
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()


def test_after_kill_9_it_starts_again_on_the_same_port_and_directory(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data").start()
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5):
        broker.kill()
        broker.start()
    assert broker.stop() == 0


def test_sigint_ends_it_with_130(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data").start()
    process = broker.process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_a_taken_port_is_a_clear_refusal(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = start("--listen", address, "--data-dir", str(tmp_path / "data"))
    assert refused.returncode == 5
    assert refused.stderr.splitlines() == [
        f"error: {address} is taken by another process",
        "next:  choose another address with --listen HOST:PORT",
    ]


def test_a_locked_directory_is_a_clear_refusal(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data").start()
    refused = start("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    assert refused.returncode == 5
    assert len(refused.stderr.splitlines()) == 2 and "another process uses" in refused.stderr
    broker.stop()


def test_a_foreign_directory_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear diary")
    refused = start("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path))
    assert refused.returncode == 5
    assert "letters.txt" in refused.stderr and len(refused.stderr.splitlines()) == 2


def test_an_unreadable_directory_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = start("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "file"))
    assert refused.returncode == 5
    assert len(refused.stderr.splitlines()) == 2


async def test_a_directory_of_a_newer_version_is_a_clear_refusal(tmp_path: Path) -> None:
    async with opened(tmp_path) as metadata:
        record = ConfigRecord(resource_type=2, resource_name="t", name="key.of.the.future", value="1")
        future = encode_batch([Record(timestamp=0, value=encode_record(record))])
        metadata.log.append([future], leader_epoch=metadata.quorum.epoch, origin=Origin.COORDINATOR)
    refused = await asyncio.to_thread(start, "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path))
    assert refused.returncode == 5
    error, hint = refused.stderr.splitlines()
    assert "key.of.the.future of t is not known" in error and "start with the version" in hint


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--set", "num.partitons=3"], "num.partitions"),
        (["--set", "num.partitions=many"], "num.partitions"),
        (["--listen", "0.0.0.0:0"], "--advertise"),
        (["--listen", "nowhere"], "HOST:PORT"),
        (["--http", "nowhere"], "--http"),
        (["--config", "missing.properties"], "missing.properties"),
    ],
    ids=" ".join,
)
def test_wrong_words_are_usage_errors(tmp_path: Path, options: list[str], word: str) -> None:
    refused = start("--data-dir", str(tmp_path / "data"), *options)
    assert refused.returncode == 2
    assert word.lower() in refused.stderr.lower() and len(refused.stderr.splitlines()) <= 3


def test_options_go_before_set_and_set_before_the_file(tmp_path: Path) -> None:
    from streamkit.broker.config import BrokerConfig
    from streamkit.cli.broker import overlay

    properties: dict[str, str] = {}
    for layer in (
        {"broker.id": "1", "log.dir": "a", "num.partitions": "2"},
        {"node.id": "2", "num.partitions": "3"},
        {"log.dirs": "c"},
    ):
        overlay(properties, layer)
    config = BrokerConfig.from_properties(properties)
    assert (config.node_id, config.log_dir, config.num_partitions) == (2, "c", 3)


def test_it_refuses_to_run_without_assertions(tmp_path: Path) -> None:
    command = [sys.executable, "-O", *streamkit("broker", "start", "--data-dir", str(tmp_path / "data"))[1:]]
    refused = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=environment()
    )
    assert refused.returncode == 5
    assert "-O" in refused.stderr


def test_embedded_it_tells_its_port_and_ends_with_its_parent(tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    parent_read, parent_write = os.pipe()
    child = subprocess.Popen(
        streamkit(
            *("broker", "start", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")),
            *("--ready-fd", str(ready_write), "--parent-fd", str(parent_read)),
        ),
        stderr=subprocess.DEVNULL,
        pass_fds=(ready_write, parent_read),
        env=environment(),
    )
    os.close(ready_write)
    os.close(parent_read)
    with os.fdopen(ready_read) as ready:
        host, _, port = ready.read().strip().rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass
    os.close(parent_write)
    assert child.wait(30) == 0


def test_health_and_metrics_are_served(tmp_path: Path) -> None:
    from urllib.request import urlopen

    broker = BrokerProcess(tmp_path / "data", "--http", "127.0.0.1:0").start()
    http = broker.http
    with urlopen(f"http://{http}/readyz") as ready:
        assert ready.status == 200
    with urlopen(f"http://{http}/metrics") as metrics:
        assert b"streamkit_build_info" in metrics.read()
    assert broker.stop() == 0


@pytest.mark.parametrize("has_uvloop", [True, False])
def test_it_runs_on_uvloop_and_without_it_on_asyncio(
    has_uvloop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamkit.broker.server.main import run_on_loop

    if not has_uvloop:
        monkeypatch.setitem(sys.modules, "uvloop", None)

    async def loop_module() -> int:
        import asyncio

        return int(type(asyncio.get_running_loop()).__module__.startswith("uvloop"))

    assert run_on_loop(loop_module()) == has_uvloop
