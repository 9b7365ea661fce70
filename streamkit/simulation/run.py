"""One run: a tape played from the first start to the last check.

    boot → topic → clients and faults, until the tape ends → heal → converge → read everything → check

While it runs, the invariants look into the live nodes. At the end nothing is wrong any more, so that whatever
still does not work is a failure: every node is ready, every replica in sync, every partition readable.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec

from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from streamkit.simulation.cluster import COPIERS, GROUP, LEDGER, TABLE, TOPIC, Cluster
from streamkit.simulation.faults import Faults
from streamkit.simulation.invariants import Invariants
from streamkit.simulation.log_lines import LogLines
from streamkit.simulation.loop import DeadlockError, SpinningError, VirtualLoop, virtual_loop
from streamkit.simulation.owner import Owner
from streamkit.simulation.rng import Seed
from streamkit.simulation.tape import Tape
from streamkit.simulation.trace import Trace
from streamkit.simulation.workload.checker import WEEK_S, check
from streamkit.simulation.workload.client import Client
from streamkit.simulation.workload.consumer import Reader
from streamkit.simulation.workload.history import History, Outcome
from streamkit.simulation.workload.participant import Participant, Surroundings
from streamkit.simulation.workload.transactor import (
    FencedError,
    GaveUpError,
    Holder,
    HopelessError,
    Places,
)

BOOT_S = 30.0
CONVERGE_S = 90.0
CREATE_TOPICS_VERSION = 5
LOOK_S = 0.1
"""How often the invariants look."""
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "4096", "min.cleanable.dirty.ratio": "0.1"}
ENOUGH_OPERATIONS = 200
ENOUGH_FAULTS = 5


class Report(msgspec.Struct, kw_only=True):
    """What one run did and found."""

    seed: int
    hash: str = ""
    violations: list[str] = []
    sent: int = 0
    failed: int = 0
    unknown: int = 0
    polled: int = 0
    committed: int = 0
    transactions: dict[str, int] = {}
    """By what became of them, and why their producers were refused."""
    variants: tuple[str, ...] = ()
    effects: dict[str, int] = {}
    """What happened that is neither a fault nor an operation."""
    faults: dict[str, int] = {}
    skipped: dict[str, int] = {}
    elections: int = 0
    evaluations: dict[str, int] = {}
    ended: list[str] = []
    """Why nodes ended by themselves."""
    callbacks: int = 0
    virtual_s: float = 0.0

    @property
    def acknowledged(self) -> int:
        return self.sent + self.polled + self.committed + self.transactions.get("committed", 0)

    @property
    def counts(self) -> bool:
        """Whether enough happened for the run to prove anything."""
        return self.acknowledged >= ENOUGH_OPERATIONS and sum(self.faults.values()) >= ENOUGH_FAULTS


def play(tape: Tape, write: Callable[[str], None] | None = None) -> Report:
    """Play the tape; `write` gets a line for everything that is worth one."""
    with virtual_loop() as loop:
        run = Run(tape, loop, write)
        with LogLines(run.trace, run.violations.append, run.is_ending):
            try:
                loop.run_until_complete(loop.create_task(run.play()))
            except (DeadlockError, SpinningError) as error:
                run.violations.append(f"{type(error).__name__}: {error}")
            except Exception as error:
                run.violations.append(f"crash: {type(error).__name__}: {error}")
                run.trace.say("harness", f"failed: {error!r}")
            report = run.report()
            run.bury()
        return report


class Run:
    def __init__(self, tape: Tape, loop: VirtualLoop, write: Callable[[str], None] | None) -> None:
        self.trace = Trace(loop, write)
        self.violations: list[str] = []
        self._tape = tape
        self._loop = loop
        seed = Seed(tape.seed)
        self._cluster = Cluster(tape.shape, loop, seed, self.trace)
        self._cluster.on_defect = self._violated
        self._faults = Faults(self._cluster, seed.generator("faults"))
        self._history = History()
        self._invariants = Invariants(self._cluster, self._violated, lambda: not self._faults.is_any)
        self._evaluations: Counter[str] = Counter()
        self._harness = Owner("harness")
        port = self._cluster.network.port_for("harness", self._harness)
        self._client = Client("harness", port, self._cluster.bootstrap, seed.generator("harness"))
        self._places = Places(TOPIC, LEDGER, tape.shape.ledger_partitions, TABLE, COPIERS)
        surroundings = Surroundings(
            loop=loop, network=self._cluster.network, bootstrap=self._cluster.bootstrap, places=self._places,
            partitions=tape.shape.partitions, group=GROUP, controllers=self._cluster.controllers,
            voters=tape.shape.voters, quorum_risk=self._cluster.quorum_risk, history=self._history,
        )  # fmt: skip
        self._participants = [
            Participant(
                number,
                [one for one in tape.operations if one.client == number],
                surroundings,
                seed.generator(f"client-{number}"),
            )
            for number in range(tape.clients)
        ]
        loop.on_stray_failure = lambda what: self.trace.say("loop", what)

    def _violated(self, what: str) -> None:
        self.trace.say("VIOLATION", what)
        self.violations.append(what)

    def is_ending(self, owner: Owner) -> bool:
        return any(
            machine.owner is owner and machine.broker is not None and machine.broker.failure is not None
            for machine in self._cluster.machines.values()
        )

    async def play(self) -> None:
        self._cluster.start()
        if not await self._cluster.until(lambda: self._cluster.all_ready, within_s=BOOT_S):
            self._violated(f"boot: not all nodes are ready after {BOOT_S:.0f} s")
            return
        for name, partitions in self._topics().items():
            if not await self._make_topic(name, partitions):
                self._violated(f"boot: the topic {name} could not be made")
                return
        watching = self._loop.create_task(self._invariants.watch(LOOK_S))
        began_s = self._loop.now_s
        self._faults.schedule(self._tape.faults, began_s)
        clients = [self._loop.create_task(one.run(began_s)) for one in self._participants]
        await asyncio.wait(clients, timeout=self._tape.until_ms / 1000)
        for client in clients:
            client.cancel()
        for participant in self._participants:
            participant.stop()
        await self._converge()
        watching.cancel()
        findings = check(self._history, retention_s=self._retention_s)
        self._evaluations.update(findings.evaluations)
        for violation in findings.violations:
            self._violated(violation)

    def _topics(self) -> dict[str, int]:
        shape = self._tape.shape
        topics = {TOPIC: shape.partitions, LEDGER: shape.ledger_partitions, TABLE: shape.table_partitions}
        return {name: partitions for name, partitions in topics.items() if partitions}

    async def _make_topic(self, name: str, partitions: int) -> bool:
        shape = self._tape.shape
        configs = {**shape.topic, "min.insync.replicas": str(shape.min_insync_replicas)}
        if name == TABLE:
            configs |= COMPACTED
        topic = CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=shape.replication_factor,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
        )  # fmt: skip
        give_up_s = self._loop.now_s + BOOT_S
        while self._loop.now_s < give_up_s:
            try:
                response: CreateTopicsResponse = await self._client.ask_anybody(
                    CreateTopicsRequest(topics=[topic], timeout_ms=1000), CREATE_TOPICS_VERSION
                )
            except PeerError:
                await self._client.back_off()
                continue
            if response.topics[0].error_code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                return True
            await self._client.back_off()
        return False

    async def _converge(self) -> None:
        """Nothing is wrong any more: everything must work, and everything must be readable."""
        self.trace.say("harness", "heals everything")
        self._faults.heal()
        if not await self._cluster.until(lambda: not self._why_not_converged(), within_s=CONVERGE_S):
            self._violated(f"liveness: {self._why_not_converged()}")
        self._invariants.compare_everything()
        reader = Reader(self._client, TOPIC, self._history)
        for partition in range(self._tape.shape.partitions):
            await self._read_all(reader, partition, self._history.final)
        auditor = Reader(self._client, LEDGER, self._history, committed=True)
        for partition in range(self._tape.shape.ledger_partitions):
            await self._read_all(auditor, partition, self._history.final_committed)
        table = Reader(self._client, TABLE, self._history)
        for partition in range(self._tape.shape.table_partitions):
            await self._read_all(table, partition, self._history.final_table)
        await self._read_positions()

    def _why_not_converged(self) -> str:
        return self._invariants.why_not_converged() or self._faults.why_rotten()

    async def _read_all(self, reader: Reader, partition: int, read: dict[int, list[tuple[int, str]]]) -> None:
        """The final poll: from the beginning to the end, which an empty answer shows."""
        give_up_s = self._loop.now_s + CONVERGE_S
        found = read[partition] = []
        offset = 0
        while self._loop.now_s < give_up_s:
            answer = await reader.records(partition, offset)
            if answer is None:
                continue
            records, next_offset = answer
            if next_offset == offset:
                return
            found += records
            offset = next_offset
        self._violated(f"unseen: {reader.topic}-{partition} could not be read beyond {offset}")
        del read[partition]  # what cannot be read says nothing of what is lost

    async def _read_positions(self) -> None:
        """Whoever comes now gets every transactional id, and every position that a group has."""
        for transactional_id in dict.fromkeys(one.transactional_id for one in self._history.take_overs):
            holder = Holder(self._client, transactional_id, self._places, self._history)
            try:
                await holder.take_over()
            except (FencedError, HopelessError, GaveUpError) as error:
                self._violated(f"liveness: nobody can take over {transactional_id}: {type(error).__name__}")
        if self._places.ledger_partitions:
            holder = Holder(self._client, COPIERS, self._places, self._history)
            for partition in range(self._tape.shape.partitions):
                try:
                    self._history.final_positions[partition] = await holder.position(partition)
                except (FencedError, HopelessError, GaveUpError):
                    self._violated(f"liveness: {COPIERS} has no position of {partition} that can be read")
        for participant in self._participants:
            await participant.visitor.look_from(self._client)

    @property
    def _retention_s(self) -> float:
        minutes = self._tape.shape.settings.get("offsets.retention.minutes")
        return WEEK_S if minutes is None else 60.0 * int(minutes)

    def report(self) -> Report:
        outcomes = Counter(send.outcome for send in self._history.sends)
        evaluations = self._evaluations + self._invariants.evaluations
        return Report(
            seed=self._tape.seed,
            hash=self.trace.hash,
            violations=list(self.violations),
            sent=outcomes[Outcome.OK],
            failed=outcomes[Outcome.FAILED],
            unknown=outcomes[Outcome.UNKNOWN],
            polled=len(self._history.polls),
            committed=len(self._history.commits),
            transactions=self._transactions(),
            variants=self._tape.variants,
            effects=self._effects(),
            faults=dict(sorted(self._faults.happened.items())),
            skipped=dict(sorted(self._faults.skipped.items())),
            elections=self._invariants.elections,
            evaluations=dict(sorted(evaluations.items())),
            ended=list(self._cluster.ended),
            callbacks=self._loop.callbacks,
            virtual_s=round(self._loop.now_s, 3),
        )

    def _effects(self) -> dict[str, int]:
        effects = self._invariants.effects + self._history.voter_changes
        effects["bursts"] = sum(one.kind == "burst" for one in self._tape.operations)
        return {name: count for name, count in sorted(effects.items()) if count}

    def _transactions(self) -> dict[str, int]:
        history = self._history
        counts = Counter(one.fate.value for one in history.transactions)
        counts["positions"] = sum(one.what == "a position" for one in history.acts)
        counts["take-overs"] = len(history.take_overs)
        counts.update({name.lower(): count for name, count in history.refused.items()})
        return {name: count for name, count in sorted(counts.items()) if count}

    def bury(self) -> None:
        """Let go of all that any owner left, without a word."""
        for participant in self._participants:
            participant.bury()
        self._harness.bury()
        self._cluster.bury()
        self._loop.world.bury()
