"""Pure nodes on virtual time, over a network that loses, delays and repeats, on disks that forget.

Every message and every flush is an event in one heap, drawn from one seed. A crash loses whatever was not
durable, at any point of a `Ready`'s duties. R1-R8 and R10 are checked after every step against what was ever
seen anywhere: the test double is the specification, written a second time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import msgspec

from streamkit.broker.raft.log_view import EpochStart, LogView, SnapshotId, VotersAt
from streamkit.broker.raft.messages import (
    AddVoterRequest,
    Batch,
    FetchReply,
    FetchSnapshotReply,
    PeerRequest,
    RemoveVoterRequest,
    Reply,
    VoteReply,
    VoteRequest,
)
from streamkit.broker.raft.node import RaftNode
from streamkit.broker.raft.ready import (
    Answer,
    Answered,
    ElectionState,
    Event,
    Flushed,
    Lost,
    Ready,
    Received,
    SnapshotInstalled,
    SnapshotTaken,
    Tick,
    Truncate,
)
from streamkit.broker.raft.roles import Role, Timeouts
from streamkit.broker.raft.voters import ReplicaKey, Voter, VoterSet
from streamkit.protocol.error_codes import ErrorCode

SNAPSHOT_BYTES = 25
CHUNK_BYTES = 10


class Faults(msgspec.Struct, kw_only=True):
    loss: float = 0.0
    duplication: float = 0.0
    delay_ms: float = 5.0
    flush_ms: float = 2.0
    torn_ready: float = 0.5
    """How likely a crash strikes inside a `Ready` rather than between two."""


class Disk(msgspec.Struct):
    """What outlives a crash: the state, and the batches below `flushed_offset`."""

    directory: bytes
    state: ElectionState = ElectionState()
    start: SnapshotId = SnapshotId(0, -1)
    snapshot: SnapshotId | None = None
    batches: list[Batch] = []
    flushed_offset: int = 0

    @property
    def end_offset(self) -> int:
        return self.batches[-1].next_offset if self.batches else self.start.end_offset


class CrashedError(Exception):
    pass


class SimulatedNode:
    def __init__(self, quorum: SimulatedQuorum, node_id: int) -> None:
        self.quorum = quorum
        self.id = node_id
        self.wipes = 0
        self.disk = Disk(directory=directory_id(node_id, 0))
        self.raft: RaftNode | None = None
        self.incarnation = 0
        self.requests: dict[int, tuple[int, PeerRequest]] = {}
        self.wake_ms = -1.0
        self.crash_in_ready = False

    @property
    def key(self) -> ReplicaKey:
        return ReplicaKey(self.id, self.disk.directory)

    def start(self) -> None:
        quorum, disk = self.quorum, self.disk
        voters_in = quorum.snapshots.get(disk.start)
        voters = [] if voters_in is None else [VotersAt(disk.start.end_offset - 1, voters_in)]
        epochs: list[EpochStart] = []
        for batch in disk.batches:
            if not epochs or epochs[-1].epoch != batch.epoch:
                epochs.append(EpochStart(batch.epoch, batch.base_offset))
            if batch.voters is not None:
                voters.append(VotersAt(batch.next_offset - 1, batch.voters))
        has_start = disk.start.end_offset > 0
        self.raft = RaftNode(
            self.key,
            state=disk.state,
            log=LogView(
                start_offset=disk.start.end_offset,
                end_offset=disk.end_offset,
                epochs=epochs,
                voters=voters,
                snapshot=disk.snapshot,
                start_snapshot=disk.start if has_start else None,
            ),
            configured_voters=quorum.configured,
            timeouts=quorum.timeouts,
            now_ms=quorum.now_ms,
            jitter=quorum.random.random(),
        )
        disk.flushed_offset = disk.end_offset
        self.drain()

    def crash(self) -> None:
        """Lose what is not durable, all of it or from some batch on."""
        self.raft = None
        self.wake_ms = -1
        self.incarnation += 1
        for sender, request in self.requests.values():
            self.quorum.tell_lost(self.quorum.nodes[sender], self.id, request, refused=True)
        self.requests.clear()
        disk = self.disk
        keep = [b for b in disk.batches if b.next_offset <= disk.flushed_offset]
        lost = disk.batches[len(keep) :]
        disk.batches = keep + lost[: self.quorum.random.randint(0, len(lost))]
        disk.flushed_offset = disk.end_offset

    def wipe(self) -> None:
        assert self.raft is None
        self.wipes += 1
        self.disk = Disk(directory=directory_id(self.id, self.wipes))

    def step(self, event: Event) -> None:
        if self.raft is None:
            return
        self.raft.step(event, self.quorum.now_ms, self.quorum.random.random())
        self.drain()

    def drain(self) -> None:
        assert self.raft is not None
        while True:
            ready = self.raft.ready()
            try:
                installed = self.perform(ready)
            except CrashedError:
                self.crash()
                return
            if installed is None:
                break
            self.raft.step(installed, self.quorum.now_ms, self.quorum.random.random())
        self.quorum.check(self)
        self.wake_at(ready.wake_at_ms)

    def perform(self, ready: Ready) -> SnapshotInstalled | None:
        """The shell's duties, in their order; a crash may come between any two."""
        self.perhaps_crash()
        if ready.state is not None:
            self.quorum.check_persisted(self, ready.state)
            self.disk.state = ready.state
        self.perhaps_crash()
        for change in ready.log:
            self.apply(change)
        self.perhaps_crash()
        installed = None
        for chunk in ready.chunks:
            if chunk.last:
                installed = self.install(chunk.snapshot)
        self.perhaps_crash()
        for message in ready.messages:
            self.quorum.send_request(self, message.to, message.request)
        for answer in ready.replies:
            self.reply(answer)
        return installed

    def perhaps_crash(self) -> None:
        if self.crash_in_ready and self.quorum.random.random() < 0.3:
            self.crash_in_ready = False
            raise CrashedError

    def apply(self, change: Batch | Truncate) -> None:
        disk = self.disk
        if isinstance(change, Truncate):
            disk.batches = [b for b in disk.batches if b.next_offset <= change.end_offset]
            assert disk.end_offset == change.end_offset, "batches are cut off whole"
            disk.flushed_offset = min(disk.flushed_offset, change.end_offset)
            return
        assert change.base_offset == disk.end_offset
        disk.batches.append(change)
        self.quorum.check_appended(change)
        incarnation, end = self.incarnation, change.next_offset

        def flush() -> None:
            if self.incarnation == incarnation and self.raft is not None:
                reached = min(end, disk.end_offset)
                # a round that began before a truncation does not cover what was appended after it
                if change in disk.batches and reached > disk.flushed_offset:
                    disk.flushed_offset = reached
                    self.step(Flushed(reached))

        self.quorum.after(self.quorum.random.uniform(0, self.quorum.faults.flush_ms), flush)

    def install(self, snapshot: SnapshotId) -> SnapshotInstalled:
        disk = self.disk
        assert snapshot.end_offset > self.quorum.high_watermark_of(self), "no snapshot of what is known"
        disk.batches, disk.start, disk.snapshot = [], snapshot, snapshot
        disk.flushed_offset = snapshot.end_offset
        return SnapshotInstalled(snapshot, self.quorum.snapshots[snapshot])

    def take_snapshot(self) -> None:
        """Snapshot what is committed here; begin the log behind the snapshot before that one."""
        raft, disk = self.raft, self.disk
        if raft is None or raft.high_watermark <= (disk.snapshot or disk.start).end_offset:
            return
        last = next((b for b in disk.batches if b.next_offset == raft.high_watermark), None)
        if last is None or last.next_offset > disk.flushed_offset:
            return
        snapshot = SnapshotId(raft.high_watermark, last.epoch)
        self.quorum.snapshots[snapshot] = raft.log.voters_below(snapshot.end_offset)
        earlier, disk.snapshot = disk.snapshot, snapshot
        if earlier is not None:
            disk.start = earlier
            disk.batches = [b for b in disk.batches if b.next_offset > earlier.end_offset]
        self.step(SnapshotTaken(snapshot, earlier))

    def reply(self, answer: Answer) -> None:
        if answer.token not in self.requests:
            self.quorum.admin_replies[answer.token] = answer.reply
            return
        sender, request = self.requests.pop(answer.token)
        reply: Reply = answer.reply
        if isinstance(reply, FetchReply) and reply.records_from >= 0:
            reply = msgspec.structs.replace(reply, batches=self.read(reply.records_from))
        elif isinstance(reply, FetchSnapshotReply) and reply.error is ErrorCode.NONE:
            data = bytes(max(0, min(CHUNK_BYTES, SNAPSHOT_BYTES - reply.position)))
            reply = msgspec.structs.replace(reply, size=SNAPSHOT_BYTES, data=data)
        self.quorum.check_reply(self, request, reply)
        self.quorum.deliver(self.id, sender, lambda node: node.step(Answered(self.id, request, reply)))

    def read(self, offset: int) -> tuple[Batch, ...]:
        found = [b for b in self.disk.batches if b.base_offset >= offset]
        assert not found or found[0].base_offset == offset, "a fetch begins at a batch"
        return tuple(found[: self.quorum.random.randint(1, 3)])

    def wake_at(self, at_ms: float) -> None:
        if at_ms == float("inf") or self.wake_ms == at_ms:
            return
        self.wake_ms = at_ms
        incarnation = self.incarnation

        def wake() -> None:
            if self.incarnation == incarnation and self.wake_ms == at_ms:
                self.wake_ms = -1
                self.step(Tick())

        self.quorum.after(max(0.01, at_ms - self.quorum.now_ms), wake)


class SimulatedQuorum:
    def __init__(self, seed: int, voters: int = 3, observers: int = 0, faults: Faults | None = None) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.timeouts = Timeouts()
        self.now_ms = 0.0
        self.steps = 0
        self.configured = VoterSet(Voter(ReplicaKey(n)) for n in range(1, voters + 1))
        self.nodes = {n: SimulatedNode(self, n) for n in range(1, voters + observers + 1)}
        self.cut: set[tuple[int, int]] = set()
        """Directed pairs that cannot reach each other."""
        self.snapshots: dict[SnapshotId, VoterSet | None] = {}
        self.admin_replies: dict[int, Reply] = {}
        self.proposals = 0
        self.acknowledged: dict[int, bytes] = {}
        self._waiting: list[tuple[SimulatedNode, int, int, int, bytes]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._token = 0
        # what was ever seen
        self.leaders: dict[int, ReplicaKey] = {}
        self.votes: dict[tuple[ReplicaKey, int], ReplicaKey] = {}
        self.written: dict[tuple[int, int], Batch] = {}
        self.committed: dict[int, Batch] = {}
        self.committed_in: dict[int, int] = {}
        """Base offset of a committed batch → the epoch in which that was first known."""
        self.committed_end = 0
        self._high_watermarks: dict[tuple[int, int], int] = {}

    # -- time and network

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, action))

    def run(self, duration_ms: float, until: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass; whether `until` became true."""
        end_ms = self.now_ms + duration_ms
        while self._heap and self._heap[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._heap)
            self.steps += 1
            action()
            if until is not None and until():
                return True
        self.now_ms = end_ms
        return until is None or until()

    def start(self, *ids: int) -> None:
        for node_id in ids or self.nodes:
            self.nodes[node_id].start()

    def send_request(self, sender: SimulatedNode, to: int, request: PeerRequest) -> None:
        if (sender.id, to) not in self.cut and self.nodes[to].raft is None:
            self.tell_lost(sender, to, request, refused=True)
            return

        def arrive(node: SimulatedNode) -> None:
            if node.raft is None:
                self.tell_lost(sender, to, request, refused=True)
                return
            self._token += 1
            node.requests[self._token] = sender.id, request
            node.step(Received(self._token, request))

        self.deliver(sender.id, to, arrive)

    def tell_lost(self, sender: SimulatedNode, to: int, request: PeerRequest, *, refused: bool) -> None:
        """The connection on which `request` was sent is closed, or could not be made."""
        incarnation = sender.incarnation

        def tell() -> None:
            if sender.incarnation == incarnation and (to, sender.id) not in self.cut:
                sender.step(Lost(to, request, refused))

        self.after(1, tell)

    def deliver(self, sender: int, receiver: int, arrive: Callable[[SimulatedNode], None]) -> None:
        copies = 2 if self.random.random() < self.faults.duplication else 1
        for _ in range(copies):
            if self.random.random() < self.faults.loss:
                continue

            def on_arrival() -> None:
                if (sender, receiver) not in self.cut:
                    arrive(self.nodes[receiver])

            self.after(self.random.uniform(0.1, self.faults.delay_ms), on_arrival)

    def isolate(self, *ids: int) -> None:
        for one in ids:
            for other in self.nodes:
                if other not in ids:
                    self.cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cut.clear()
        self.faults = Faults()

    # -- what clients and admins do

    @property
    def leader(self) -> SimulatedNode | None:
        """The active leader of the highest epoch."""
        active = [n for n in self.nodes.values() if n.raft is not None and n.raft.is_active]
        return max(active, key=lambda n: n.raft.epoch if n.raft else 0, default=None)

    def propose(self, node: SimulatedNode) -> None:
        raft = node.raft
        if raft is None or raft.role is not Role.LEADER:
            return
        self.proposals += 1
        payload = str(self.proposals).encode()
        count = self.random.randint(1, 3)
        offset = raft.append(payload, count, self.now_ms)
        self._waiting.append((node, node.incarnation, raft.epoch, offset + count, payload))
        node.drain()

    def propose_everywhere(self) -> None:
        for node in self.nodes.values():
            self.propose(node)

    def admin(self, request: AddVoterRequest | RemoveVoterRequest) -> int:
        self._token += 1
        leader = self.leader
        assert leader is not None
        leader.step(Received(self._token, request))
        return self._token

    # -- invariants

    def high_watermark_of(self, node: SimulatedNode) -> int:
        return self._high_watermarks.get((node.id, node.incarnation), 0)

    def check_appended(self, batch: Batch) -> None:
        """R2: whatever is written at an offset in an epoch is the same everywhere."""
        seen = self.written.setdefault((batch.base_offset, batch.epoch), batch)
        assert seen == batch, "R2"

    def check_persisted(self, node: SimulatedNode, state: ElectionState) -> None:
        """R5: epochs rise on disk, and a vote stands."""
        before = node.disk.state
        assert state.epoch >= before.epoch, "R5: the epoch went back"
        if state.epoch == before.epoch and before.voted is not None:
            assert state.voted == before.voted, "R5: the vote changed"
        if state.voted is not None:
            vote = self.votes.setdefault((node.key, state.epoch), state.voted)
            assert vote == state.voted, "R5: two votes in one epoch"

    def check_reply(self, node: SimulatedNode, request: PeerRequest, reply: Reply) -> None:
        if isinstance(request, VoteRequest) and isinstance(reply, VoteReply) and reply.granted:
            if not request.pre_vote:
                assert node.disk.state.epoch >= request.epoch, "R5: a vote before its epoch is on disk"
                vote = self.votes[node.key, request.epoch]
                assert vote == request.candidate, "R5: a vote that is not on disk"
            if request.voter.has_directory:
                assert request.voter == node.key, "R10: a vote under another directory id"

    def check(self, node: SimulatedNode) -> None:
        raft, disk = node.raft, node.disk
        assert raft is not None
        assert (raft.log.start_offset, raft.log.end_offset) == (disk.start.end_offset, disk.end_offset)
        assert raft.log.flushed_offset <= disk.flushed_offset, "it believes to have more on disk than it has"
        if disk.start.end_offset:
            assert disk.start in self.snapshots, "R7: a log begins at 0 or behind a snapshot"
        known = self._high_watermarks.get((node.id, node.incarnation), 0)
        assert known <= raft.high_watermark <= disk.end_offset, "the high watermark went back"
        if raft.high_watermark > known:
            self._high_watermarks[node.id, node.incarnation] = raft.high_watermark
            self._check_committed(node, raft)
            if raft.role is Role.LEADER:
                self._check_durable(raft)
        if raft.role is Role.LEADER:
            self._check_leader(node, raft)
        self._acknowledge(node, raft)

    def _check_leader(self, node: SimulatedNode, raft: RaftNode) -> None:
        first = self.leaders.setdefault(raft.epoch, node.key)
        assert first == node.key, "R1: two leaders in one epoch"
        voter_changes = [batch for batch in node.disk.batches if batch.voters is not None]
        uncommitted = [b for b in voter_changes if self.committed.get(b.base_offset) != b]
        assert len(uncommitted) <= 1, "R8: two uncommitted changes of the voters"
        for offset in range(max(self.committed_end - 20, node.disk.start.end_offset), self.committed_end):
            batch = self.committed.get(offset)
            if batch is not None and self.committed_in[offset] <= raft.epoch:
                assert batch in node.disk.batches, f"R3: {node.id} leads without the committed {batch}"

    def _check_committed(self, node: SimulatedNode, raft: RaftNode) -> None:
        """R2, R4: what is committed at an offset is committed there on every node."""
        for batch in node.disk.batches:
            if batch.next_offset <= raft.high_watermark:
                seen = self.committed.setdefault(batch.base_offset, batch)
                self.committed_in.setdefault(batch.base_offset, raft.epoch)
                assert seen == batch, f"R4: {batch} and {seen} are both committed"
        self.committed_end = max(self.committed_end, raft.high_watermark)

    def _check_durable(self, leader: RaftNode) -> None:
        """R6: a majority of the voters has on disk what the leader calls committed."""
        holders = 0
        for voter in leader.voters:
            node = self.nodes[voter.key.id]
            replica = leader.replicas.of_voter(voter.key)
            if voter.key.has_directory and voter.key != node.key:
                # its disk was lost since: what it had said of it was true
                holders += replica is not None and replica.end_offset >= leader.high_watermark
            elif voter.is_same_replica(node.key) and node.disk.flushed_offset >= leader.high_watermark:
                last = [b for b in node.disk.batches if b.next_offset <= leader.high_watermark]
                has_it = not last or self.committed.get(last[-1].base_offset) == last[-1]
                holders += has_it
        assert holders >= leader.voters.majority, "R6: committed and not durable on a majority"

    def _acknowledge(self, node: SimulatedNode, raft: RaftNode) -> None:
        waiting = []
        for entry in self._waiting:
            proposer, incarnation, epoch, end, payload = entry
            if proposer is not node:
                waiting.append(entry)
            elif incarnation == node.incarnation and raft.role is Role.LEADER and raft.epoch == epoch:
                if raft.high_watermark >= end:
                    self.acknowledged[end] = payload
                else:
                    waiting.append(entry)
        self._waiting = waiting

    def check_acknowledged(self) -> None:
        """R3 as clients see it: nothing that was acknowledged is gone."""
        by_end = {batch.next_offset: batch.payload for batch in self.committed.values()}
        for end, payload in self.acknowledged.items():
            assert by_end[end] == payload, "an acknowledged record is gone"


def directory_id(node_id: int, wipes: int) -> bytes:
    return bytes([node_id, wipes + 1] * 8)
