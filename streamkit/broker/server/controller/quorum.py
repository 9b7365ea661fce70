"""The quorum on this node: the pure state machine of `raft`, joined to log, disk and peers.

One drain at a time: step everything that has happened, carry out the `Ready`, step what happened meanwhile.
Mostly that is synchronous: append to the log, send, answer. Where the disk must be waited for (a vote, an
epoch, a truncation, a snapshot's end) the drain goes on in a task, and what happens then waits in line.

A node alone is a quorum of one and goes the same way: it has elected itself when `open` returns.

Snapshots lie beside the log as `{end offset}-{epoch}.checkpoint`, in Kafka's format. The log begins behind
the newest snapshot but one, so that a replica that is a little behind need not fetch a whole snapshot.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from streamkit.broker.raft.control_records import encode_control
from streamkit.broker.raft.log_view import SnapshotId
from streamkit.broker.raft.messages import (
    NO_LEADER,
    AddVoterRequest,
    Batch,
    FetchReply,
    FetchRequest,
    PeerRequest,
    RemoveVoterRequest,
    Reply,
    Request,
    UpdateVoterRequest,
    VoterChangeReply,
)
from streamkit.broker.raft.node import RaftNode
from streamkit.broker.raft.ready import (
    Answered,
    Event,
    Flushed,
    Lost,
    Ready,
    Received,
    Resign,
    Send,
    SnapshotChunk,
    SnapshotInstalled,
    SnapshotTaken,
    Tick,
    Truncate,
)
from streamkit.broker.raft.roles import NEVER, Role, Timeouts
from streamkit.broker.raft.voters import Voter, VoterSet
from streamkit.broker.server.controller.active_controller import MetadataLogError, NotLeaderError
from streamkit.broker.server.controller.metadata_publisher import MetadataUnreadableError, OffsetTrimmedError
from streamkit.broker.server.controller.quorum_peers import QuorumPeers
from streamkit.broker.server.controller.quorum_state import STATE_FILE, encode_state
from streamkit.broker.server.controller.quorum_wire import MAX_FETCH_BYTES, update_to_wire
from streamkit.broker.server.controller.snapshots import Snapshot, Snapshots
from streamkit.broker.server.timers import Timer, Timers
from streamkit.broker.storage.errors import LogOfflineError, OffsetOutOfRangeError
from streamkit.errors import RefusedError, StreamkitError
from streamkit.net.peer import PeerError, PeerTimeoutError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import Buffer, CorruptBatchError, batches, patch
from streamkit.protocol.records.record import Record, decode_records, encode_batch
from streamkit.runtime.contracts.disk import Disk
from streamkit.runtime.contracts.ports import Ports
from streamkit.telemetry.instruments import Registry

if TYPE_CHECKING:
    from streamkit.broker.storage.log_directory import LogDirectory
    from streamkit.broker.storage.partition_log import PartitionLog

log_line = structlog.get_logger(__name__)

READ_BYTES: Final = 1024 * 1024
ASK_AGAIN_S: Final = 0.1


class _Append(msgspec.Struct, frozen=True):
    """Values that wait for their commit."""

    epoch: int
    base_offset: int
    end_offset: int
    done: asyncio.Future[int]


class Quorum:
    def __init__(
        self,
        log: PartitionLog,
        raft: RaftNode,
        peers: QuorumPeers,
        snapshots: Snapshots,
        directory: LogDirectory,
        *,
        ports: Ports,
        timers: Timers,
        timeouts: Timeouts,
        metrics: Registry,
    ) -> None:
        self.node_id: Final = raft.key.id
        self.on_committed: Callable[[], None] = lambda: None
        self.on_leadership: Callable[[bool], None] = lambda is_active: None
        self.snapshots: Final = snapshots
        self._log = log
        self._raft = raft
        self._peers = peers
        self._directory = directory
        self._disk: Disk = ports.disk
        self._clock = ports.clock
        self._rng = ports.rng
        self._spawn = ports.spawn
        self._timers = timers
        self._timeouts = timeouts
        self._events: deque[Event] = deque()
        self._has_appended = True
        """The state machine has something to be done that no event says: its first steps, or an append."""
        self._is_draining = False
        self._timer: Timer | None = None
        self._wake_at_ms = NEVER
        self._appends: deque[_Append] = deque()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._token = 0
        self._high_watermark = raft.high_watermark
        self.former_leader_id: int | None = None
        """The other node that led last, as far as this one knows."""
        self._was_active = False
        self._active_epoch = -1
        self._failure = ""
        self._is_updating = False
        self._settled = asyncio.Event()
        """Set whenever a drain has ended: something may have changed."""
        self._declare_metrics(metrics)
        log.on_flushed = self._on_flushed

    async def begin(self) -> None:
        """Take the first steps; the only voter of a quorum leads on return. Raises RefusedError."""
        self._go_on()
        while self._raft.voters.ids == (self.node_id,) and self._raft.is_voter and not self.is_active:
            self._settled.clear()
            await self._settled.wait()
            if self._failure:
                raise RefusedError(
                    f"the metadata log in {self._log.path} cannot be written: {self._failure}",
                    hint="check the disk, then start again",
                )

    # -- what everybody knows of it --------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._raft.epoch

    @property
    def leader_id(self) -> int | None:
        return None if self._raft.leader_id == NO_LEADER else self._raft.leader_id

    @property
    def leader_endpoint(self) -> tuple[str, int] | None:
        """Where the leader's controller listener is; None if that is not known, or this node leads."""
        leader_id = self.leader_id
        if leader_id is None or leader_id == self.node_id:
            return None
        return self._peers.address(self._raft, leader_id)

    @property
    def high_watermark(self) -> int:
        return self._high_watermark

    @property
    def is_active(self) -> bool:
        """This node leads, and the record of its election is committed.

        Not from the moment on at which it hears of a later epoch, although that is announced only once the
        epoch is on disk.
        """
        return self._was_active and self._active_epoch == self._raft.epoch and not self._failure

    @property
    def raft(self) -> RaftNode:
        """The state machine, to be looked at."""
        return self._raft

    @property
    def voters(self) -> VoterSet:
        return self._raft.voters

    def append(self, values: Sequence[bytes]) -> asyncio.Future[int]:
        """The offset of the first once all are committed, as one unit.

        Raises NotLeaderError: this node does not lead, or lost the lead before it knew of the commit.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._failure:
            done.set_exception(MetadataLogError(f"the metadata log failed: {self._failure}"))
        elif self._raft.role is not Role.LEADER:
            done.set_exception(NotLeaderError("this node does not lead the quorum"))
        else:
            now_ms = self._clock.now_ms()
            batch = encode_batch([Record(timestamp=now_ms, value=value) for value in values])
            base_offset = self._raft.append(batch, len(values), self._now_ms())
            self._appends.append(_Append(self._raft.epoch, base_offset, base_offset + len(values), done))
            self._has_appended = True
            self._go_on()
        return done

    async def committed(self, from_offset: int) -> AsyncIterator[tuple[int, Buffer]]:
        """(offset, value) of the metadata's records from there up to the high watermark.

        Raises OffsetTrimmedError if the log begins later; the newest snapshot then has what is missing.
        Raises MetadataUnreadableError, and the directory fails.
        """
        try:
            async for offset, value in self._committed(from_offset):
                yield offset, value
        except LogOfflineError as error:
            self._directory.flusher.fail(f"the metadata log cannot be read: {error.message}")
            raise MetadataUnreadableError(f"the metadata log cannot be read: {error.message}") from None

    async def _committed(self, from_offset: int) -> AsyncIterator[tuple[int, Buffer]]:
        log, end_offset = self._log, self._high_watermark
        offset = from_offset
        if from_offset < log.log_start_offset:
            raise OffsetTrimmedError
        while offset < end_offset:
            data = await log.read_cold(offset, max_bytes=READ_BYTES, end_offset=end_offset)
            for header, batch in batches(data):
                offset = header.next_offset
                for record in () if header.is_control else decode_records(batch):
                    if record.offset >= from_offset:
                        yield record.offset, record.value or b""

    async def first_batch(self) -> Buffer | None:
        """The batch with which the log began; None if it is trimmed, or not yet committed here."""
        if self._log.log_start_offset > 0 or self._high_watermark == 0:
            return None
        data = await self._log.read_cold(0, max_bytes=1, end_offset=self._high_watermark)
        return next((batch for _, batch in batches(data)), None)

    def failed(self, reason: str) -> None:
        """The directory can no longer be written: nothing more is decided, voted or answered here."""
        if self._failure:
            return
        self._end(reason, MetadataLogError(f"the metadata log failed: {reason}"))

    def _end(self, reason: str, error: StreamkitError) -> None:
        self._failure = reason
        for append in self._appends:
            if not append.done.done():
                append.done.set_exception(error)
        self._appends.clear()
        for reply in self._replies.values():
            reply.cancel()
        self._replies.clear()
        self._settled.set()

    # -- what peers and admins ask ---------------------------------------------------------------------------

    def ask(self, request: Request) -> asyncio.Future[Reply]:
        """This node's answer to a request, once everything that it depends on is done."""
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self._failure:
            done.cancel()
            return done
        self._token += 1
        self._replies[self._token] = done
        self._post(Received(self._token, request))
        return done

    async def fetch(self, request: FetchRequest, max_bytes: int) -> tuple[FetchReply, Buffer | None]:
        """The answer to a fetch, and the batches that belong to it."""
        reply = await self.ask(request)
        assert isinstance(reply, FetchReply)
        if reply.records_from < 0:
            return reply, None
        end_offset = self._log.log_end_offset
        try:
            data: Buffer | None = self._log.read(
                reply.records_from, max_bytes=min(max_bytes, MAX_FETCH_BYTES), end_offset=end_offset
            )
            if data is None:
                data = await self._log.read_cold(
                    reply.records_from, max_bytes=min(max_bytes, MAX_FETCH_BYTES), end_offset=end_offset
                )
        except (LogOfflineError, OffsetOutOfRangeError):
            return msgspec.structs.replace(reply, error=ErrorCode.KAFKA_STORAGE_ERROR), None
        return reply, data

    async def change_voters(
        self, request: AddVoterRequest | RemoveVoterRequest | UpdateVoterRequest
    ) -> VoterChangeReply:
        reply = await self.ask(request)
        assert isinstance(reply, VoterChangeReply)
        return reply

    def heard_of(self, node_id: int, host: str, port: int) -> None:
        """A node said where it can be reached."""
        self._peers.told(node_id, host, port)

    def address_of(self, node_id: int) -> tuple[str, int] | None:
        if node_id == self.node_id:
            own = self._peers.own_endpoints
            return (own[0].host, own[0].port) if own else None
        return self._peers.address(self._raft, node_id)

    async def resign(self) -> None:
        """Hand the lead over before this node stops."""
        if self._raft.role is Role.LEADER and len(self._raft.voters) > 1 and not self._failure:
            self._post(Resign())
            while self._is_draining:
                self._settled.clear()
                await self._settled.wait()

    def close(self) -> None:
        if not self._failure:
            self._end("the node stops", NotLeaderError("this node stops"))
        self._peers.close()

    # -- the drain -------------------------------------------------------------------------------------------

    def _now_ms(self) -> float:
        return self._clock.monotonic_s() * 1000

    def _post(self, event: Event) -> None:
        self._events.append(event)
        self._go_on()

    def _on_flushed(self) -> None:
        self._post(Flushed(self._log.flushed_offset))

    def _go_on(self) -> None:
        if not self._is_draining and not self._failure:
            self._is_draining = True
            self._drain()

    def _drain(self) -> None:
        """Step what has happened and do what is to be done, up to where the disk must be awaited."""
        try:
            self._step_and_perform()
        except Exception as error:
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """A rule does not hold: this node must end, for nothing that it says can be trusted."""
        self.failed(f"{type(error).__name__}: {error}")

        async def tell_owner() -> None:
            raise error

        self._spawn.start(tell_owner(), name="quorum")

    def _step_and_perform(self) -> None:
        raft, events = self._raft, self._events
        while (events or self._has_appended) and not self._failure:
            self._has_appended = False
            while events:
                event = events.popleft()
                if isinstance(event, Flushed):  # a round that ended late knows nothing of a truncation
                    event = Flushed(self._log.flushed_offset)
                raft.step(event, self._now_ms(), self._rng.uniform("quorum", 0, 1))
            ready = raft.ready()
            if needs_disk(ready):
                self._spawn.start(self._perform_slowly(ready), name="quorum")
                return
            if not all(isinstance(change, Batch) and self._write(change) for change in ready.log):
                return
            self._finish(ready)
        self._is_draining = False
        self._settled.set()

    async def _perform_slowly(self, ready: Ready) -> None:
        try:
            if ready.state is not None:
                await self._disk.replace(f"{self._log.path}/{STATE_FILE}", encode_state(ready.state))
            for change in ready.log:
                if isinstance(change, Truncate):
                    await self._log.truncate_to(change.end_offset)
                    assert self._log.log_end_offset == change.end_offset, "batches are cut off whole"
                else:
                    self._write(change)
            for chunk in ready.chunks:
                await self._receive(chunk)
        except (OSError, LogOfflineError) as error:
            self._directory.flusher.fail(f"the quorum's files in {self._log.path} cannot be written: {error}")
            self.failed(str(error))
            return
        if not self._failure:
            self._finish(ready)
            self._drain()

    def _write(self, batch: Batch) -> bool:
        """Append a batch, the leader's own or a fetched one, at its offset; False if that failed."""
        payload = batch.payload
        if isinstance(payload, tuple):
            payload = encode_control(payload, self._clock.now_ms())
        data = bytearray(payload)
        patch(data, batch.base_offset, batch.epoch)
        try:
            self._log.append_replicated([data])
        except (CorruptBatchError, LogOfflineError) as error:
            self._cannot_write(str(error))
            return False
        self.snapshots.appended_bytes += len(data)
        return True

    def _cannot_write(self, reason: str) -> None:
        self._directory.flusher.fail(f"the metadata log cannot be written: {reason}")
        self.failed(reason)

    def _finish(self, ready: Ready) -> None:
        """Send what depended on the disk, and tell everybody what is true now."""
        for message in ready.messages:
            self._send(message)
        for answer in ready.replies:
            reply = self._replies.pop(answer.token, None)
            if reply is not None and not reply.done():
                reply.set_result(answer.reply)
        if ready.high_watermark > self._high_watermark:
            self._high_watermark = self._log.high_watermark = ready.high_watermark
            self._resolve_appends()
            self.on_committed()
        self._tell_leadership()
        self._update_own_endpoints()
        self._wake(ready.wake_at_ms)

    def _resolve_appends(self) -> None:
        while self._appends and self._appends[0].end_offset <= self._high_watermark:
            append = self._appends.popleft()
            if append.epoch != self._raft.epoch or self._raft.role is not Role.LEADER:
                self._appends.appendleft(append)
                return
            if not append.done.done():
                append.done.set_result(append.base_offset)

    def _tell_leadership(self) -> None:
        raft = self._raft
        if raft.leader_id not in (NO_LEADER, self.node_id):
            self.former_leader_id = raft.leader_id
        while self._appends and (raft.role is not Role.LEADER or self._appends[0].epoch != raft.epoch):
            append = self._appends.popleft()
            if not append.done.done():
                append.done.set_exception(NotLeaderError("this node no longer leads the quorum"))
        is_active = raft.is_active
        if is_active != self._was_active or (is_active and raft.epoch != self._active_epoch):
            self._was_active, self._active_epoch = is_active, raft.epoch
            if len(raft.voters) > 1:
                log_line.info("quorum_leadership", epoch=raft.epoch, active=is_active)
            self.on_leadership(is_active)

    def _wake(self, at_ms: float) -> None:
        if at_ms == self._wake_at_ms and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_at_ms = at_ms
        if at_ms != NEVER:
            self._timer = self._timers.after(math.ceil(at_ms - self._now_ms()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._post(Tick())

    # -- peers -----------------------------------------------------------------------------------------------

    def _send(self, message: Send) -> None:
        self._spawn.start(self._call(message.to, message.request), name="quorum call")

    async def _call(self, to: int, request: PeerRequest) -> None:
        address = self._peers.address(self._raft, to)
        if address is None:
            self._post(Lost(to, request))
            return
        try:
            reply = await self._peers.call(
                address, request, self._directory.cluster_id or None, self._timeouts.request_ms
            )
        except PeerError as error:
            self._post(Lost(to, request, refused=not isinstance(error, PeerTimeoutError)))
        else:
            self._post(Answered(to, request, reply))

    # -- snapshots -------------------------------------------------------------------------------------------

    async def _receive(self, chunk: SnapshotChunk) -> None:
        """Keep a piece of a snapshot; the last one puts the snapshot in the log's place."""
        if not await self.snapshots.receive(chunk):
            return
        voters = (await self.snapshots.load(chunk.snapshot)).voters
        await self._log.restart_at(chunk.snapshot.end_offset)
        log_line.info("snapshot_installed", end_offset=chunk.snapshot.end_offset)
        self._events.appendleft(SnapshotInstalled(chunk.snapshot, voters))

    def newest_snapshot(self) -> SnapshotId | None:
        return self._raft.log.snapshot

    async def load_snapshot(self) -> Snapshot:
        """The newest snapshot, which holds everything that the log no longer does."""
        newest = self._raft.log.snapshot
        assert newest is not None, "a log that does not begin at 0 begins behind a snapshot"
        return await self.snapshots.load(newest)

    @property
    def wants_snapshot(self) -> bool:
        return self.snapshots.is_due and not self._failure

    async def take_snapshot(self, end_offset: int, values: Sequence[bytes]) -> None:
        """Keep `values`, which say what all committed records below `end_offset` say, as a snapshot."""
        earlier = self._raft.log.snapshot
        if end_offset <= (0 if earlier is None else earlier.end_offset) or end_offset > self._high_watermark:
            return
        if end_offset > self._log.recovery_point:
            return  # committed elsewhere first; the next look finds it flushed here, too
        epoch = self._log.epochs.epoch_at(end_offset - 1)
        snapshot = SnapshotId(end_offset, epoch)
        voters = self._raft.log.voters_below(end_offset)
        try:
            await self.snapshots.write(snapshot, voters, values, self._clock.now_ms())
        except OSError as error:
            self._cannot_write(f"a snapshot: {error}")
            return
        if earlier is not None and earlier.end_offset > self._log.log_start_offset:
            self._log.delete_records(earlier.end_offset)
            # a start that finds an earlier beginning of the log needs the snapshot that ends there
            await self._directory.checkpoint()
            if self._directory.failure:
                return
        await self.snapshots.remove_before(earlier or snapshot)
        self._post(SnapshotTaken(snapshot, earlier))

    # -- this node's address ---------------------------------------------------------------------------------

    def _update_own_endpoints(self) -> None:
        """Have the voters record say where this node listens now."""
        own = self._peers.own_endpoints
        recorded = self._raft.log.voters
        voter = None if recorded is None else recorded.voters.get(self.node_id)
        is_right = voter is None or voter.key != self._raft.key or voter.endpoints == own
        if is_right or not own or self._is_updating or self.leader_id is None:
            return
        if not self._directory.cluster_id:
            return
        assert voter is not None
        self._is_updating = True
        updated = msgspec.structs.replace(voter, endpoints=own)
        self._spawn.start(self._update_voter(updated), name="update voter")

    async def _update_voter(self, voter: Voter) -> None:
        try:
            leader = self.leader_endpoint
            if self._raft.role is Role.LEADER:
                await self.change_voters(UpdateVoterRequest(self.epoch, voter))
            elif leader is not None:
                message = update_to_wire(UpdateVoterRequest(self.epoch, voter), self._directory.cluster_id)
                await self._peers.link(leader).call(message, 0, self._timeouts.request_ms)
        except PeerError as error:
            log_line.info("voter_not_updated", reason=str(error))
        await asyncio.sleep(ASK_AGAIN_S)
        self._is_updating = False

    # -- metrics ---------------------------------------------------------------------------------------------

    def _declare_metrics(self, metrics: Registry) -> None:
        elections = metrics.counter("quorum_elections_total", "Elections that this node won").labels()

        def observe() -> None:
            elections.value = self._raft.elections

        metrics.on_scrape.append(observe)


def needs_disk(ready: Ready) -> bool:
    return ready.state is not None or bool(ready.chunks) or any(isinstance(c, Truncate) for c in ready.log)
