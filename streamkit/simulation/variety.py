"""What some tapes have besides faults, plain reads and writes: other clients, other settings.

Each variant is in a share of all tapes and draws from a generator of its own, so that none shifts another's
choices. A new one is a function that changes the drawn tape, and a line in `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
from msgspec.structs import replace

from streamkit.simulation.rng import Seed
from streamkit.simulation.tape import Operation, Tape
from streamkit.simulation.workload.transaction_checker import STATIC_MEMBERS

TRANSACTORS = 3
TRANSACTIONAL_PER_S = 2.0
TRANSACTIONAL = {"write": 5, "copy": 6, "wake": 1.5, "read": 4, "crash": 0.1}
ENDS = {"commit": 12, "abort": 3, "abandon": 0.7, "stall": 1.5}
STRANGER = 0.12
"""How likely a client uses a transactional id that is another's."""
UPDATES_PER_S = 1.2
MOST_IN_FLIGHT = 5
"""What brokers remember of a producer."""
ATTENDING_PER_S = 1.0
SHORT_RETENTION = {"offsets.retention.minutes": "1", "offsets.retention.check.interval.ms": "2000"}


def transactions(random: Random, tape: Tape) -> Tape:
    """Clients that run transactions."""
    tape = with_settings(
        tape,
        {
            "transaction.state.log.num.partitions": str(random.randint(1, 2)),
            "transaction.state.log.min.isr": str(tape.shape.min_insync_replicas),
        },
    )
    shape = replace(tape.shape, ledger_partitions=random.randint(1, 2))
    first = tape.clients
    tape = replace(tape, shape=shape, clients=first + TRANSACTORS)
    count = int(TRANSACTIONAL_PER_S * tape.until_ms / 1000)
    return together(tape, [draw_transactional(random, tape, first) for _ in range(count)])


def draw_transactional(random: Random, tape: Tape, first: int) -> Operation:
    """`first`: the first client that runs transactions."""
    kind = random.choices(list(TRANSACTIONAL), list(TRANSACTIONAL.values()))[0]
    shape = tape.shape
    partition = random.randrange(shape.partitions if kind == "copy" else shape.ledger_partitions)
    owner = random.randrange(TRANSACTORS) if random.random() < STRANGER else partition % TRANSACTORS
    return Operation(
        at_ms=random.randrange(tape.until_ms),
        client=first + owner,
        kind=kind,
        partition=partition,
        count=random.choice((1, 2, 2, 3)),
        end=random.choices(list(ENDS), list(ENDS.values()))[0] if kind in ("write", "copy") else "",
    )


def attendance(random: Random, tape: Tape) -> Tape:
    """Static members, and groups that are empty now and then.

    Retention goes by the wall clock, so it is short only where nobody sets that wrong.
    """
    settings = {"group.initial.rebalance.delay.ms": random.choice(("0", "500"))}
    if all(fault.kind != "clock-jump" for fault in tape.faults):
        settings |= SHORT_RETENTION
    drawn = [
        Operation(
            at_ms=random.randrange(tape.until_ms),
            client=random.randrange(STATIC_MEMBERS),
            kind=random.choice(("static", "static", "visit")),
        )
        for _ in range(int(ATTENDING_PER_S * tape.until_ms / 1000))
    ]
    return together(with_settings(tape, settings), drawn)


def bursts(random: Random, tape: Tape) -> Tape:
    """Producers with several batches in flight."""
    share = random.uniform(0.1, 0.4)
    return replace(
        tape,
        operations=tuple(
            replace(one, kind="burst", count=random.randint(2, MOST_IN_FLIGHT))
            if one.kind == "send" and random.random() < share
            else one
            for one in tape.operations
        ),
    )


def small_snapshots(random: Random, tape: Tape) -> Tape:
    """Snapshots of the metadata after so few records that nodes fall behind the log's start."""
    bytes_between = random.choice((1000, 2500, 8000))
    return with_settings(tape, {"metadata.log.max.record.bytes.between.snapshots": str(bytes_between)})


def compaction(random: Random, tape: Tape) -> Tape:
    """A table of a few keys, small segments of the coordinators' topics, and a cleaner that hurries."""
    settings = {
        "log.cleaner.backoff.ms": random.choice(("200", "1000")),
        "log.cleaner.min.cleanable.ratio": "0.1",
        "offsets.topic.segment.bytes": random.choice(("8192", "65536")),
        "transaction.state.log.segment.bytes": random.choice(("8192", "65536")),
    }
    if random.random() < 0.3:
        settings["log.cleaner.dedupe.buffer.size"] = "2000"  # some keys at a time
    tape = with_settings(tape, settings)
    tape = replace(tape, shape=replace(tape.shape, table_partitions=random.randint(1, 2)))
    drawn = [
        Operation(
            at_ms=random.randrange(tape.until_ms),
            client=random.randrange(tape.clients),
            kind="update",
            partition=random.randrange(tape.shape.table_partitions),
            count=random.choice((1, 2, 5)),
        )
        for _ in range(int(UPDATES_PER_S * tape.until_ms / 1000))
    ]
    return together(tape, drawn)


def voter_changes(random: Random, tape: Tape) -> Tape:
    """Voters of the quorum go and come back."""
    drawn = [
        Operation(
            at_ms=random.randrange(tape.until_ms),
            client=random.randrange(tape.clients),
            kind="operate",
            partition=random.randrange(tape.shape.nodes),
        )
        for _ in range(max(2, tape.until_ms // random.choice((3000, 6000))))
    ]
    return together(tape, drawn)


def relaxed(random: Random, tape: Tape) -> Tape:
    """Writes are acknowledged before they are on disk."""
    return with_settings(tape, {"streamkit.flush.mode": "relaxed"})


def with_settings(tape: Tape, settings: dict[str, str]) -> Tape:
    return replace(tape, shape=replace(tape.shape, settings={**tape.shape.settings, **settings}))


def together(tape: Tape, operations: list[Operation]) -> Tape:
    return replace(tape, operations=tuple(sorted([*tape.operations, *operations], key=lambda one: one.at_ms)))


class Variant(msgspec.Struct, frozen=True):
    share: float
    """Of all tapes."""
    change: Callable[[Random, Tape], Tape]
    nodes: int = 1
    """How many nodes there must be for it to make sense."""


VARIANTS = {
    "transactions": Variant(0.5, transactions),
    "attendance": Variant(0.5, attendance),
    "bursts": Variant(0.4, bursts),
    "small-snapshots": Variant(0.4, small_snapshots, nodes=3),
    "compaction": Variant(0.4, compaction),
    "voter-changes": Variant(0.35, voter_changes, nodes=3),
    "relaxed": Variant(0.15, relaxed),
}


def varied(tape: Tape) -> Tape:
    """The tape with the variants that its seed draws."""
    for name, variant in VARIANTS.items():
        random = Seed(tape.seed).generator(name)
        if random.random() < variant.share and tape.shape.nodes >= variant.nodes:
            tape = variant.change(random, replace(tape, variants=(*tape.variants, name)))
    return tape
