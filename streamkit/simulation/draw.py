"""A tape from a seed, swarm style: each kind of fault is in half of all tapes, so that some tapes are calm
enough for what only happens in calm, and no kind drowns the others.
"""

from __future__ import annotations

from random import Random

from streamkit.simulation.faults import MENU
from streamkit.simulation.rng import Seed
from streamkit.simulation.tape import Fault, Operation, Shape, Tape
from streamkit.simulation.variety import varied

CLIENTS = 5
OPERATIONS_PER_S = 11.0
QUIET_MS = 2000
"""Before the first fault."""
FAULTS_PER_MINUTE = (8, 24)
WEIGHTS = {"send": 10, "poll": 6, "seek": 0.3, "member": 6, "crash": 0.15}


def draw_tape(seed: int, until_ms: int, *, nodes: int | None = None) -> Tape:
    random = Seed(seed).generator("tape")
    shape = draw_shape(random, nodes)
    tape = Tape(
        seed=seed,
        until_ms=until_ms,
        shape=shape,
        clients=CLIENTS,
        faults=tuple(draw_faults(random, shape, until_ms)),
        operations=tuple(draw_operations(random, shape, until_ms)),
    )
    return varied(tape)


def draw_shape(random: Random, nodes: int | None) -> Shape:
    nodes = nodes or random.choice((1, 3, 3, 3, 5))
    replication_factor = min(nodes, 3)
    min_insync = random.choice((1, 2)) if replication_factor < 3 else random.choice((2, 2, 2, 3))
    return Shape(
        nodes=nodes,
        voters=min(nodes, random.choice((3, nodes))),
        partitions=random.randint(1, 3),
        replication_factor=replication_factor,
        min_insync_replicas=min(min_insync, replication_factor),
        rates=tuple(
            round(random.uniform(0.95, 1.05), 3) if random.random() < 0.3 else 1.0 for _ in range(nodes)
        ),
        settings={
            "offsets.topic.num.partitions": str(random.randint(1, 2)),
            "log.flush.offset.checkpoint.interval.ms": str(random.choice((200, 1000, 5000))),
        },
        topic={
            "segment.bytes": str(random.choice((4096, 16 * 1024, 128 * 1024, 1024 * 1024))),
            "index.interval.bytes": str(random.choice((64, 512, 4096))),
        },
    )


def draw_faults(random: Random, shape: Shape, until_ms: int) -> list[Fault]:
    possible = [kind for kind, entry in MENU.items() if entry.nodes <= shape.nodes]
    kinds = [kind for kind in possible if random.random() < 0.5]
    if not kinds:
        return []
    low, high = FAULTS_PER_MINUTE
    count = max(6, round(random.uniform(low, high) * until_ms / 60_000))
    times = sorted(random.uniform(QUIET_MS, until_ms - QUIET_MS) for _ in range(count))
    return [draw_fault(random, shape, random.choice(kinds), int(at_ms)) for at_ms in times]


def draw_fault(random: Random, shape: Shape, kind: str, at_ms: int) -> Fault:
    low, high = MENU[kind].lasts_ms
    targets = (
        f"node:{random.randint(1, shape.nodes)}",
        f"leader:{random.randrange(shape.partitions)}",
        "controller",
    )
    return Fault(
        at_ms=at_ms,
        kind=kind,
        lasts_ms=int(low + (high - low) * random.random() ** 2),
        target=random.choice(targets),
        amount=round(random.random(), 3),
    )


def draw_operations(random: Random, shape: Shape, until_ms: int) -> list[Operation]:
    count = int(OPERATIONS_PER_S * until_ms / 1000)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    return [
        Operation(
            at_ms=int(at_ms),
            client=random.randrange(CLIENTS),
            kind=random.choices(kinds, weights)[0],
            partition=random.randrange(shape.partitions),
            count=random.choice((1, 1, 2, 5)),
        )
        for at_ms in sorted(random.uniform(0, until_ms) for _ in range(count))
    ]
