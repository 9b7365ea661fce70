"""`python -m tests.benchmarks [--json] [--quick]`: every figure beside its target, in some ten minutes.

The client is always another process than the one measured; what is compared is measured in turns, in one
run, and the median counts. Targets are those of the design; a rate is judged by wall time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import msgspec

from tests.benchmarks import bare, large_state, machine, offsets, requests, restore, state, worker
from tests.benchmarks import broker as brokers
from tests.benchmarks import cluster as clusters
from tests.benchmarks.processes import Rate, apart, middle
from tests.benchmarks.report import Figure, Section, heading, lines

MEBIBYTE = 1 << 20
KEPT = bare.Kept(segment_bytes=64 * MEBIBYTE, retained_bytes=256 * MEBIBYTE)
IDLE_S = 5.0
"""For each second of effort: a hundredth of a core is ten ticks of the processor's clock in ten seconds."""
LEAST_MEMORY = 512 * MEBIBYTE  # of a worker, its Python and librdkafka's queues included
RELAXED = ("--set", "streamkit.flush.mode=relaxed")


class Effort(msgspec.Struct, frozen=True):
    rounds: int
    pairs: int
    """Of what is compared by ratio, after one that is discarded."""
    seconds: float
    records: int
    """Of the largest input."""
    keys: int
    """Of a store that is restored."""
    state_bytes: int
    """Of the state that is ten times as large as the memory of its worker."""


FULL = Effort(rounds=3, pairs=5, seconds=3.0, records=2_000_000, keys=5_000_000, state_bytes=10 << 30)
QUICK = Effort(rounds=1, pairs=1, seconds=1.0, records=500_000, keys=1_000_000, state_bytes=300 << 20)


def bulk(effort: Effort) -> Iterator[Figure]:
    """Requests of 1 MiB: a bare server and ours in turns, on a few recycled files, in memory if possible.

    There the disk, which is the same for both, does not hide what the broker costs.
    """
    value_bytes = MEBIBYTE - 4096
    config = {"segment.bytes": str(KEPT.segment_bytes), "retention.bytes": str(KEPT.retained_bytes)}
    below = machine.memory_directory(8 * KEPT.retained_bytes)
    pairs: list[tuple[Rate, Rate]] = []
    with (
        brokers.running(*RELAXED, "--set", "log.retention.check.interval.ms=20", below=below) as broker,
        bare.running("bulk", value_bytes, KEPT, below) as plain,
    ):
        topic = brokers.create(broker, "bulk", config=config)

        def once(port: int, pid: int) -> Rate:
            rate = apart(
                requests.pipelined, port, pid, topic,
                value_bytes=value_bytes, connections=1, in_flight=4, seconds=effort.seconds / 3,
            )  # fmt: skip
            return rate.times(value_bytes / 1e6)

        for _ in range(1 + effort.pairs):
            pairs.append((once(plain.port, plain.pid), once(broker.port, brokers.pid_of(broker))))
    pairs = pairs[1:]  # the first one warms up
    ratios = sorted(ours.per_second / plain.per_second for plain, ours in pairs)
    yield rate_figure("1 MiB requests: bare receive + CRC + write", middle([one for one, _ in pairs]), "MB/s")
    yield rate_figure("1 MiB requests: the broker, relaxed", middle([one for _, one in pairs]), "MB/s")
    yield Figure(
        name=f"1 MiB requests: broker / bare, {ratios[0]:.2f} to {ratios[-1]:.2f}",
        value=median(ratios), unit="", at_least=0.6,
    )  # fmt: skip


def librdkafka(effort: Effort) -> Iterator[Figure]:
    """Records through librdkafka, durable."""
    with brokers.running() as broker:
        pid = brokers.pid_of(broker)
        for size, count in ((100, effort.records), (1024, effort.records // 4)):
            produced, fetched = [], []
            for number in range(effort.rounds):
                topic = brokers.create(broker, f"records-{size}-{number}")
                produced.append(apart(brokers.produce, broker.bootstrap, pid, topic, size, count))
                fetched.append(apart(brokers.fetch, broker.bootstrap, pid, topic, count))
            yield rate_figure(
                f"produce {size} B records, librdkafka, acks=all", middle(produced), "records/s"
            )
            yield rate_figure(f"fetch {size} B records, librdkafka", middle(fetched), "records/s")


def small_requests(effort: Effort) -> Iterator[Figure]:
    """Pipelined requests of one 100-byte record, and one request at a time."""
    modes = [("relaxed", RELAXED, 1, 40_000), *(("durable", (), n, 20_000) for n in (1, 64, 256))]
    rates: dict[str, list[Rate]] = {}
    targets: dict[str, float] = {}
    with brokers.running(*RELAXED) as relaxed, brokers.running() as durable:
        for number in range(effort.rounds):
            for mode, options, partitions, target in modes:
                broker = relaxed if options else durable
                topic = brokers.create(broker, f"small-{partitions}-{number}", partitions)
                name = f"100 B produce requests, {mode}, {partitions} partition{'s' * (partitions > 1)}"
                rate = apart(
                    requests.pipelined, broker.port, brokers.pid_of(broker), topic,
                    partitions=partitions, seconds=effort.seconds,
                )  # fmt: skip
                rates.setdefault(name, []).append(rate)
                targets[name] = target
        for name, measured in rates.items():
            yield rate_figure(name, middle(measured), "requests/s", at_least=targets[name])
        yield from latency(relaxed.port, brokers.create(relaxed, "latency"), effort)


def latency(port: int, topic: str, effort: Effort) -> Iterator[Figure]:
    """Half of it is the machine's: two messages over a socket, and two processes woken."""
    with bare.running(topic, requests.SMALL_BYTES, KEPT, None) as plain:
        plain_ms, _ = _round_trip(plain.port, topic, effort)
    p50_ms, p99_ms = _round_trip(port, topic, effort)
    yield Figure(name="round trip: bare receive + CRC + write, p50", value=plain_ms, unit="ms")
    yield Figure(name="produce round trip, relaxed, p50", value=p50_ms, unit="ms", at_most=0.2)
    yield Figure(name="produce round trip, relaxed, p99", value=p99_ms, unit="ms", at_most=1.0)


def _round_trip(port: int, topic: str, effort: Effort) -> tuple[float, float]:
    apart(requests.round_trips, port, topic, 2_000)
    return apart(requests.round_trips, port, topic, int(effort.seconds * 4_000))


def footprint(effort: Effort) -> Iterator[Figure]:
    starts = sorted(brokers.cold_start_s() for _ in range(effort.rounds))
    start_s = starts[len(starts) // 2]
    yield Figure(name="cold start to first acknowledged produce", value=start_s, unit="s", at_most=0.5)
    empty, each = brokers.idle_bytes(2_000)
    yield Figure(name="idle memory, empty", value=empty / MEBIBYTE, unit="MiB", at_most=60)
    yield Figure(name="idle memory, each partition", value=each / 1024, unit="KiB", at_most=6)


def cluster_of_three(effort: Effort) -> Iterator[Figure]:
    """What nobody waits for and everybody pays: a start, and three nodes that idle."""
    with clusters.three() as cluster:
        start_s = clusters.start_s(cluster)
        yield Figure(name="start from empty", value=start_s, unit="s", at_most=2.0)
        idle = clusters.idle(cluster, IDLE_S * effort.seconds)
        yield Figure(
            name="idle memory, largest node", value=idle.resident_bytes / MEBIBYTE, unit="MiB", at_most=70
        )
        yield Figure(name="idle, busiest node", value=100 * idle.cores, unit="% of a core", at_most=1.0)
        create_s = clusters.create_s(cluster, "many", 1_000)
        yield Figure(name="create 1,000 partitions x 3 replicas", value=create_s, unit="s", at_most=10.0)
        idle = clusters.idle(cluster, IDLE_S * effort.seconds)
        yield Figure(
            name="idle with 1,000 partitions, busiest node",
            value=100 * idle.cores, unit="% of a core", at_most=5.0,
        )  # fmt: skip


def coordinators(effort: Effort) -> Iterator[Figure]:
    """A broker that was killed, with a million commits in its log that no cleaner has seen."""
    with brokers.running() as broker:
        topic = brokers.create(broker, "committed", offsets.PARTITIONS)
        offsets.prepare(broker, topic)
        starts = sorted(offsets.restart_s(broker, topic) for _ in range(effort.rounds))
    first_s, last_s = starts[len(starts) // 2]
    yield Figure(name="restart over 1M commits to a group's offsets", value=first_s, unit="s", at_most=3)
    yield Figure(name="restart over 1M commits to all groups' offsets", value=last_s, unit="s")


def workers(effort: Effort) -> Iterator[Figure]:
    """One worker process, and the loops that it replaces, on the same four partitions."""
    records = effort.records
    with brokers.running() as broker:
        worker.prepare(broker)
        apart(worker.fill, broker.bootstrap, records)

        brokers.create(broker, "copies", worker.PARTITIONS)
        source = broker.bootstrap, worker.TOPIC, worker.PARTITIONS, records

        def loop(decode: bool) -> Rate:
            return apart(machine.consume_loop, *source, decode=decode)

        measured: list[tuple[str, float | None, Callable[[], Rate]]] = [
            ("plain loop over consume()", None, lambda: loop(False)),
            ("plain loop over consume(), JSON, filter", None, lambda: loop(True)),
            (
                "plain loop over consume(), JSON, produce()",
                None,
                lambda: apart(machine.copy_loop, *source, "copies"),
            ),
            ("worker: JSON, filter", 800_000, lambda: worker.run(broker, "filter", records)),
            ("worker: JSON, every record to a sink", 400_000, lambda: worker.run(broker, "sink", records)),
            (
                "worker: JSON, filter, keyed tumbling count",
                400_000,
                lambda: worker.run(broker, "windows", records),
            ),
        ]
        rates: dict[str, list[Rate]] = {name: [] for name, _, _ in measured}
        for _ in range(effort.rounds):
            for name, _, measure in measured:
                rates[name].append(measure())
    for name, target, _ in measured:
        yield rate_figure(name, middle(rates[name]), "records/s", at_least=target)


def restores(effort: Effort) -> Iterator[Figure]:
    """One store from its changelog."""
    with brokers.running() as broker:
        brokers.create(broker, restore.CHANGELOG)
        apart(restore.fill, broker.bootstrap, effort.keys)
        for where, on_disk in (("memory", False), ("RocksDB", True)):
            rates = [
                apart(restore.run, broker.bootstrap, effort.keys, on_disk=on_disk)
                for _ in range(min(2, effort.rounds))
            ]
            name = f"restore of {effort.keys / 1e6:g}M keys into {where}"
            yield rate_figure(name, middle(rates), "records/s", at_least=300_000)


def states(effort: Effort) -> Iterator[Figure]:
    """A table on disk that outgrows the worker's memory."""
    with brokers.running() as broker:
        brokers.create(broker, state.TOPIC, worker.PARTITIONS)
        apart(state.fill, broker.bootstrap, effort.keys)
        rate, most, kept = state.run(broker, effort.keys)
    yield rate_figure(f"a table of {kept / 1e9:.1f} GB in RocksDB grows", rate, "records/s")
    yield Figure(name="its worker's memory, at most", value=most / MEBIBYTE, unit="MiB", at_most=1024)


def large_states(effort: Effort) -> Iterator[Figure]:
    """A table and open windows, each on a broker of its own: their changelogs take as much room again."""
    memory_bytes = max(effort.state_bytes // 10, LEAST_MEMORY)
    keys = large_state.keys_within(effort.state_bytes)
    for job, what in (("large-table", "a table"), ("large-windows", "open windows")):
        with brokers.running(*RELAXED) as broker:
            brokers.create(broker, large_state.TOPIC, worker.PARTITIONS)
            start_ms = large_state.an_hour()
            apart(large_state.fill, broker.bootstrap, keys, start_ms)
            found = large_state.run(broker, job, keys, start_ms, memory_bytes)
        yield rate_figure(f"{what} of {found.kept_bytes / 1e9:.1f} GB: records", found.taken, "records/s")
        if found.closed is not None:
            yield rate_figure("they close, and are told", found.closed, "windows/s")
        yield Figure(
            name=f"its worker's memory, {'held' if found.bounded else 'looked at'}",
            value=found.most_bytes / MEBIBYTE,
            unit="MiB",
            at_most=memory_bytes / MEBIBYTE,
        )
        asked = large_state.SAMPLE
        yield Figure(name=f"right answers, of {asked:,}", value=found.right, unit="keys", at_least=asked)


def rate_figure(name: str, rate: Rate, unit: str, at_least: float | None = None) -> Figure:
    return Figure(name=name, value=rate.per_second, unit=unit, per_cpu=rate.per_cpu_second, at_least=at_least)


SECTIONS: dict[str, tuple[str, Callable[[Effort], Iterator[Figure]]]] = {
    "bulk": ("Bytes: the machine, and the broker beside it", bulk),
    "records": ("Broker: records", librdkafka),
    "requests": ("Broker: small requests", small_requests),
    "footprint": ("Broker: start and memory", footprint),
    "groups": ("Broker: restart of its groups", coordinators),
    "cluster": ("Cluster of three", cluster_of_three),
    "worker": ("Worker: one process, input of four partitions", workers),
    "restore": ("Worker: state from a changelog", restores),
    "state": ("Worker: state larger than memory", states),
}

ONLY_BY_NAME: dict[str, tuple[str, Callable[[Effort], Iterator[Figure]]]] = {
    "large-state": ("Worker: state ten times as large as its memory, in a quarter of an hour", large_states),
}


def main() -> None:
    known = SECTIONS | ONLY_BY_NAME
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(known)}; all but the last"
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(known):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    effort = QUICK if options.quick else FULL
    began, sections = time.monotonic(), []
    if not options.json:
        print(heading(), flush=True)
    for key in options.sections or SECTIONS:
        title, measure = known[key]
        print(f"{title} …", file=sys.stderr, flush=True)
        sections.append(Section(title, list(measure(effort))))
        if not options.json:
            print(lines(sections[-1]), flush=True)
    if options.json:
        print(msgspec.json.encode(sections).decode())
    else:
        machine_line = f"{os.cpu_count()} cores, Python {sys.version.split()[0]}"
        print(f"\n{machine_line}, {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
