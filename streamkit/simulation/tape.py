"""A tape: everything that was chosen for a run, as data.

The seed of a run draws a tape (`simulation.draw`), and the tape alone determines the run: what the cluster
looks like, what goes wrong when, what the clients do. The same tape can be replayed, cut shorter while it
still fails (`simulation.shrink`), and kept (`simulation.corpus`). What is too small to be worth a line, a
segment's latency or which sectors survive, is drawn from substreams of `seed`.
"""

from __future__ import annotations

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster, before anything happens."""

    nodes: int
    voters: int
    partitions: int
    replication_factor: int
    min_insync_replicas: int
    rates: tuple[float, ...]
    """How fast the clock of each node runs."""
    settings: dict[str, str]
    """What is configured besides, on every node."""
    topic: dict[str, str]
    """What is configured on the topic."""
    ledger_partitions: int = 0
    """Of the topic that transactions write to; 0 where there are none."""
    table_partitions: int = 0
    """Of the topic that is compacted; 0 where there is none."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that goes wrong at `at_ms` and is put right `lasts_ms` later."""

    at_ms: int
    kind: str
    lasts_ms: int
    target: str
    """`node:N`, `leader:PARTITION` or `controller`, whoever that is when the time has come."""
    amount: float
    """How bad it is, from 0 to 1."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What a client does at `at_ms`, or as soon as it is done with what came before."""

    at_ms: int
    client: int
    kind: str
    partition: int = 0
    count: int = 0
    end: str = ""
    """How a transaction ends: `commit`, `abort`, `abandon`, `stall`."""


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    until_ms: int
    shape: Shape
    clients: int
    faults: tuple[Fault, ...]
    operations: tuple[Operation, ...]
    variants: tuple[str, ...] = ()
    """What it was drawn with (`simulation.variety`); nothing depends on it."""


def encode_tape(tape: Tape) -> bytes:
    return msgspec.json.format(msgspec.json.encode(tape), indent=1) + b"\n"


def decode_tape(data: bytes) -> Tape:
    return msgspec.json.decode(data, type=Tape)
