"""Tapes that once failed, kept so that they never fail again.

A tape and not its seed is kept, for a seed draws another tape as soon as the drawing changes.
"""

from __future__ import annotations

from pathlib import Path

from streamkit.simulation.tape import Tape, decode_tape, encode_tape

SUFFIX = ".tape.json"


def save(directory: Path, name: str, tape: Tape) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}{SUFFIX}"
    path.write_bytes(encode_tape(tape))
    return path


def load(path: Path) -> Tape:
    return decode_tape(path.read_bytes())


def tapes(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{SUFFIX}"))
