"""The disk port on the operating system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamkit.runtime.os.disk import OsDisk


@pytest.fixture
def disk() -> OsDisk:
    return OsDisk()


def test_a_write_of_thousands_of_buffers_is_one_run(disk: OsDisk, tmp_path: Path) -> None:
    file = disk.open(str(tmp_path / "f"), create=True)
    buffers = [b"%05d" % i for i in range(2500)]
    file.write(buffers, 0)
    file.write([b"tail"], 12500)
    assert bytes(file.read_nowait(0, 20000) or b"") == b"".join(buffers) + b"tail"


def test_short_writes_are_continued(disk: OsDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = disk.open(str(tmp_path / "f"), create=True)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, at: whole(fd, bytes(buffers[0])[:1], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:3], at))
    file.write([b"hello ", memoryview(b"brave "), bytearray(b"world")], 0)
    assert (tmp_path / "f").read_bytes() == b"hello brave world"


async def test_reads_end_at_the_end_of_the_file(disk: OsDisk, tmp_path: Path) -> None:
    file = disk.open(str(tmp_path / "f"), create=True)
    file.write([b"0123456789"], 0)
    assert bytes(await file.read(8, 100)) == b"89"
    assert bytes(file.read_nowait(8, 100) or b"") == b"89"
    assert bytes(await file.read(50, 5)) == b""


def test_a_holder_reads_on_after_the_unlink(disk: OsDisk, tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    file = disk.open(path, create=True)
    file.write([b"still here"], 0)
    disk.remove(path)
    disk.remove(path)
    assert bytes(file.read_nowait(0, 10) or b"") == b"still here"


async def test_replace_flush_rename_and_remove(disk: OsDisk, tmp_path: Path) -> None:
    path = str(tmp_path / "checkpoint")
    await disk.replace(path, b"one")
    await disk.replace(path, b"two")
    assert disk.read_file(path) == b"two"
    assert disk.entries(str(tmp_path)) == {"checkpoint": 3}
    await disk.flush([disk.open(path)], [str(tmp_path)])
    await disk.flush_file_system(str(tmp_path))
    disk.make_directory(str(tmp_path / "a/b"))
    await disk.rename(str(tmp_path / "a"), str(tmp_path / "c"))
    assert disk.entries(str(tmp_path / "c")) == {"b": None}
    await disk.remove_tree(str(tmp_path / "c"))
    assert disk.entries(str(tmp_path)) == {"checkpoint": 3}


def test_a_lock_is_exclusive_and_dies_with_its_process(disk: OsDisk, tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from streamkit.runtime.os.disk import OsDisk;"
            f"lock = OsDisk().lock({path!r}); print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            disk.lock(path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    disk.lock(path).release()
    disk.lock(path).release()
