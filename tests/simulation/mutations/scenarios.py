"""Tapes with more of what leads to one kind of defect: the faults are those of the menu, at better times.

flapping    one partition under many writes, acks=1 among them, whose leadership wanders: whoever leads
            it is killed for a moment, the balance gives leadership back within a second, and meanwhile
            a bridge keeps the brokers from each other although all of them reach the controller
clogged     the same writes; what leaves a node takes seconds, so that a leader hears late of the ISR that
            it asked for, and is killed meanwhile
demanding   all three replicas must be in sync, so that whoever leaves the ISR is an eligible leader; and
            disks are lost
transactional  a few transactional ids that change hands all the time, holders that stall and come back, and
            nodes that start again while transactions are open
"""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from streamkit.simulation.rng import Seed
from streamkit.simulation.tape import Fault, Operation, Tape

LEADER = "leader:0"
BEGIN_MS = 2000
WRITES_PER_S = 25
TRANSACTIONS_PER_S = 10
OTHERS_KEPT = 0.3
FAST = {"broker.heartbeat.interval.ms": "200", "broker.session.timeout.ms": "1500"}


def flapping(tape: Tape) -> Tape:
    random = Seed(tape.seed).generator("flapping")
    settings = {**tape.shape.settings, **FAST, "leader.imbalance.check.interval.seconds": "1"}
    faults: list[Fault] = []
    at_ms = float(BEGIN_MS)
    while at_ms < tape.until_ms - 4000:
        first, cut, second = (at_ms + random.uniform(0, span) for span in (100, 1500, 3000))
        faults += [
            fault(first, "kill", 10 + int(random.uniform(0, 300))),
            fault(cut, "bridge", int(random.uniform(1000, 4000)), "controller"),
            fault(second, "kill", 10 + int(random.uniform(0, 1500))),
        ]
        if random.random() < 0.3:
            faults.append(fault(second, "reset", 0, amount=0.5))
        at_ms += random.uniform(2500, 5000)
    return busy(tape, random, settings, faults, min_insync_replicas=random.choice((1, 2)))


def forgetful(tape: Tape) -> Tape:
    """Flapping, where whoever comes back is an eligible leader and knows an old high watermark."""
    wandering = flapping(tape)
    shape = wandering.shape
    settings = {**shape.settings, "log.flush.offset.checkpoint.interval.ms": "5000"}
    return replace(wandering, shape=replace(shape, min_insync_replicas=3, settings=settings))


def clogged(tape: Tape) -> Tape:
    random = Seed(tape.seed).generator("clogged")
    faults: list[Fault] = []
    at_ms = float(BEGIN_MS)
    while at_ms < tape.until_ms - 3000:
        someone, back_ms = f"node:{random.randint(1, tape.shape.nodes)}", at_ms + 100
        faults += [
            fault(at_ms, "kill", 100, someone),
            fault(back_ms + random.uniform(100, 700), "clog", 1200, "controller", random.uniform(0.05, 0.25)),
            fault(back_ms + random.uniform(300, 1500), "pause", 800, someone),
        ]
        at_ms += random.uniform(2500, 4000)
    settings = {**tape.shape.settings, **FAST}
    return busy(tape, random, settings, faults, min_insync_replicas=random.choice((1, 2)))


def demanding(tape: Tape) -> Tape:
    random = Seed(tape.seed).generator("demanding")
    times = [random.uniform(BEGIN_MS, tape.until_ms - 3000) for _ in range(6)]
    faults = [
        fault(at_ms, random.choice(("wipe", "wipe", "kill", "power")), int(random.uniform(10, 1500)))
        for at_ms in times
    ]
    return busy(tape, random, {**tape.shape.settings, **FAST}, faults, min_insync_replicas=3)


def transactional(tape: Tape) -> Tape:
    random = Seed(tape.seed).generator("transactional")
    kinds, weights = ("write", "copy", "wake", "read"), (5, 5, 3, 2)
    ends, shares = ("commit", "abort", "abandon", "stall"), (6, 2, 1, 3)
    operations = [
        Operation(
            at_ms=random.randrange(tape.until_ms),
            client=random.randrange(tape.clients),
            kind=random.choices(kinds, weights)[0],
            count=random.randint(1, 3),
            end=random.choices(ends, shares)[0],
        )
        for _ in range(TRANSACTIONS_PER_S * tape.until_ms // 1000)
    ]
    times = [random.uniform(BEGIN_MS, tape.until_ms - 2000) for _ in range(tape.until_ms // 2500)]
    faults = [
        fault(at_ms, random.choice(("kill", "power", "restart")), int(random.uniform(10, 800)))
        for at_ms in times
    ]
    written = busy(tape, random, tape.shape.settings, faults, min_insync_replicas=1)
    operations += [one for one in written.operations if random.random() < OTHERS_KEPT]
    small = {**tape.shape.topic, "segment.bytes": "4096"}
    return replace(
        written,
        shape=replace(written.shape, ledger_partitions=1, topic=small),
        operations=tuple(sorted(operations, key=lambda one: one.at_ms)),
    )


def fault(at_ms: float, kind: str, lasts_ms: int, target: str = LEADER, amount: float = 1.0) -> Fault:
    return Fault(at_ms=int(at_ms), kind=kind, lasts_ms=lasts_ms, target=target, amount=round(amount, 3))


def busy(
    tape: Tape, random: Random, settings: dict[str, str], faults: list[Fault], *, min_insync_replicas: int
) -> Tape:
    """The tape with these faults alone, on one partition that gets many writes."""
    writes = [
        Operation(
            at_ms=int(at_ms),
            client=random.randrange(tape.clients),
            kind=random.choice(("send", "hasty")),
            count=1,
        )
        for at_ms in (random.uniform(0, tape.until_ms) for _ in range(WRITES_PER_S * tape.until_ms // 1000))
    ]
    kept = [
        replace(one, partition=0)
        for one in tape.operations
        if one.kind != "send" and random.random() < OTHERS_KEPT
    ]
    return replace(
        tape,
        shape=replace(tape.shape, partitions=1, min_insync_replicas=min_insync_replicas, settings=settings),
        faults=tuple(sorted(faults, key=lambda one: one.at_ms)),
        operations=tuple(sorted([*kept, *writes], key=lambda one: one.at_ms)),
    )
