"""Consumers: one that chooses its partitions itself, and one that a classic group gives them to.

Both read each partition forward from a position, a fetch at a time. A *session* is a stretch in which a
consumer may count on that: between two seeks for the first, a generation for the second.
"""

from __future__ import annotations

import asyncio
from struct import Struct

import msgspec

from streamkit.broker.log.producers import marker_in
from streamkit.net.peer import PeerError
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from streamkit.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from streamkit.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from streamkit.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from streamkit.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
)
from streamkit.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from streamkit.protocol.records.batch import BatchHeader, Buffer, batches, check_batch
from streamkit.protocol.records.record import decode_records
from streamkit.simulation.workload.client import REQUEST_TIMEOUT_MS, Client
from streamkit.simulation.workload.coordinator import ELSEWHERE, Coordinator
from streamkit.simulation.workload.history import Commit, CommittedRead, History, Ownership, Poll

FETCH_VERSION = 12
MAX_WAIT_MS = 200
FETCH_BYTES = 16 * 1024
READ_UNCOMMITTED = 0
READ_COMMITTED = 1
SESSION_MS = 6000
REBALANCE_MS = 4000
HEARTBEAT_S = 1.0
INT = Struct(">i")


class Reader:
    """Reads partitions forward, whoever decided which."""

    def __init__(self, client: Client, topic: str, history: History, *, committed: bool = False) -> None:
        """`committed`: only what transactions have committed, of a topic that they write to."""
        self.client = client
        self.topic = topic
        self.history = history
        self._polls = history.committed_polls if committed else history.polls
        self._isolation_level = READ_COMMITTED if committed else READ_UNCOMMITTED

    async def fetch(self, partition: int, offset: int, *, session: str, assigned: bool) -> int | None:
        """Read once; the position afterwards, or None if there was no answer."""
        found = await self.records(partition, offset)
        if found is None:
            return None
        records, next_offset = found
        if records:
            at_s = asyncio.get_running_loop().time()
            self._polls.append(
                Poll(
                    consumer=self.client.name, session=session, assigned=assigned, partition=partition,
                    from_offset=offset, records=tuple(records), at_s=at_s,
                )
            )  # fmt: skip
        return next_offset

    async def records(self, partition: int, offset: int) -> tuple[list[tuple[int, str]], int] | None:
        """(offset, value) of what is there from `offset` on, and where to go on; None without an answer."""
        leader = await self.client.leader(self.topic, partition)
        if leader is None:
            await self.client.back_off()
            return None
        node, epoch = leader
        wanted = FetchPartition(
            partition=partition, current_leader_epoch=epoch, fetch_offset=offset,
            partition_max_bytes=FETCH_BYTES,
        )  # fmt: skip
        request = FetchRequest(
            max_wait_ms=MAX_WAIT_MS, min_bytes=1, isolation_level=self._isolation_level,
            topics=[FetchTopic(topic=self.topic, partitions=[wanted])],
        )  # fmt: skip
        try:
            response: FetchResponse = await self.client.ask(node, request, FETCH_VERSION)
        except PeerError:
            self.client.mistrust(self.topic, partition)
            await self.client.back_off()
            return None
        data = response.responses[0].partitions[0]
        if data.error_code != ErrorCode.NONE:
            self._refused(partition, offset, data.error_code)
            await self.client.back_off()
            return None
        records, next_offset = [], offset
        assert not isinstance(data.records, list), "records that were decoded are one buffer"
        aborted = AbortedTransactions(data)
        for header, batch in batches(data.records or b""):
            check_batch(batch)
            next_offset = max(next_offset, header.next_offset)
            is_left_out = aborted.covers(header, batch) or header.is_control
            for record in () if is_left_out else decode_records(batch):
                if record.offset >= offset:
                    records.append((record.offset, (record.value or b"").decode().rstrip()))
        return records, next_offset

    def _refused(self, partition: int, offset: int, code: int) -> None:
        self.client.mistrust(self.topic, partition)
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self.history.surprises.append(
                f"{self.client.name} is told that offset {offset} of partition {partition} does not exist"
            )


class AbortedTransactions:
    """Which batches of a fetch a reader of committed transactions leaves out, as clients find out."""

    def __init__(self, data: PartitionData) -> None:
        self._coming = sorted((one.first_offset, one.producer_id) for one in data.aborted_transactions or ())
        self._open: set[int] = set()

    def covers(self, header: BatchHeader, batch: Buffer) -> bool:
        """Whether this batch, the next one in the log, is of a transaction that was aborted."""
        while self._coming and self._coming[0][0] <= header.last_offset:
            self._open.add(self._coming.pop(0)[1])
        if header.is_control:
            marker = marker_in(batch)
            if marker is not None and not marker.committed:
                self._open.discard(header.producer_id)
        return header.is_transactional and header.producer_id in self._open


class AssignedConsumer:
    """Reads all partitions from the beginning, and now and then begins again somewhere."""

    def __init__(
        self, client: Client, topic: str, partitions: int, history: History, *, committed: bool = False
    ) -> None:
        self._reader = Reader(client, topic, history, committed=committed)
        self._positions = dict.fromkeys(range(partitions), 0)
        self._number = 0

    async def poll(self, partition: int) -> None:
        name = f"{self._reader.client.name}/{self._number}"
        position = await self._reader.fetch(
            partition, self._positions[partition], session=name, assigned=True
        )
        if position is not None:
            self._positions[partition] = position

    async def seek(self, partition: int) -> None:
        """Begin a new session, in the middle of what was read of this partition."""
        self._number += 1
        self._positions[partition] //= 2


class Membership(msgspec.Struct, frozen=True):
    member_id: str
    generation: int
    number: int
    """It is the same generation again when a member that was part of it joins, and begins anew."""


class GroupConsumer:
    """A member of a classic group: joins, heartbeats, reads what it is given and commits its positions."""

    def __init__(self, client: Client, topic: str, partitions: int, group: str, history: History) -> None:
        self._reader = Reader(client, topic, history)
        self._client = client
        self._topic = topic
        self._partition_count = partitions
        self._group = group
        self._history = history
        self._coordinator = Coordinator(client, group)
        self._member_id = ""
        self._membership: Membership | None = None
        self._positions: dict[int, int] = {}
        self._stale = False
        """The coordinator wants everybody to join again."""
        self._joined = 0
        self._heart: asyncio.Task[None] | None = None

    async def poll(self) -> None:
        """One step of a member's life: (re)join if it must, else read what it owns and commit."""
        if self._heart is None:
            self._heart = asyncio.get_running_loop().create_task(self._heartbeats())
        if self._membership is None or self._stale:
            await self._join()
        else:
            await self._read()
            await self.commit()

    async def heartbeat(self) -> None:
        membership = self._membership
        if membership is None:
            return
        request = HeartbeatRequest(
            group_id=self._group, generation_id=membership.generation, member_id=membership.member_id
        )
        response: HeartbeatResponse | None = await self._coordinator.ask(request, 3)
        if response is not None:
            self._told(response.error_code)

    async def commit(self) -> None:
        membership, positions = self._membership, dict(self._positions)
        if membership is None or not positions:
            return
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        partitions = [
            OffsetCommitRequestPartition(partition_index=partition, committed_offset=offset)
            for partition, offset in positions.items()
        ]
        request = OffsetCommitRequest(
            group_id=self._group, generation_id_or_member_epoch=membership.generation,
            member_id=membership.member_id,
            topics=[OffsetCommitRequestTopic(name=self._topic, partitions=partitions)],
        )  # fmt: skip
        response: OffsetCommitResponse | None = await self._coordinator.ask(request, 7)
        if response is None:
            return
        for answer in response.topics[0].partitions:
            if answer.error_code == ErrorCode.NONE:
                self._history.commits.append(
                    Commit(
                        member=membership.member_id, generation=membership.generation,
                        partition=answer.partition_index, offset=positions[answer.partition_index],
                        began_s=began_s, ended_s=loop.time(),
                    )
                )  # fmt: skip
            else:
                self._told(answer.error_code)

    # -- becoming a member

    async def _join(self) -> None:
        self._membership, self._stale = None, False
        self._positions = {}
        request = JoinGroupRequest(
            group_id=self._group, session_timeout_ms=SESSION_MS, rebalance_timeout_ms=REBALANCE_MS,
            member_id=self._member_id, protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="spread", metadata=subscription(self._topic))],
        )  # fmt: skip
        joined: JoinGroupResponse | None = await self._coordinator.ask(
            request, 5, REBALANCE_MS + REQUEST_TIMEOUT_MS
        )
        if joined is None:
            return
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self._member_id = joined.member_id
            return
        if joined.error_code != ErrorCode.NONE:
            self._told(joined.error_code)
            await self._client.back_off()
            return
        self._member_id = joined.member_id
        await self._sync(joined)

    async def _sync(self, joined: JoinGroupResponse) -> None:
        assignments = []
        if joined.leader == joined.member_id:
            members = sorted(member.member_id for member in joined.members)
            owned: dict[str, list[int]] = {member: [] for member in members}
            for partition in range(self._partition_count):
                owned[members[partition % len(members)]].append(partition)
            assignments = [
                SyncGroupRequestAssignment(member_id=member, assignment=assignment(self._topic, partitions))
                for member, partitions in owned.items()
            ]
        request = SyncGroupRequest(
            group_id=self._group, generation_id=joined.generation_id, member_id=joined.member_id,
            assignments=assignments,
        )  # fmt: skip
        response: SyncGroupResponse | None = await self._coordinator.ask(
            request, 3, REBALANCE_MS + REQUEST_TIMEOUT_MS
        )
        if response is None:
            return
        if response.error_code != ErrorCode.NONE:
            self._told(response.error_code)
            return
        partitions = assigned_partitions(response.assignment)
        self._history.ownerships.append(
            Ownership(
                member=joined.member_id, generation=joined.generation_id, partitions=tuple(partitions),
                at_s=asyncio.get_running_loop().time(),
            )
        )  # fmt: skip
        positions = await self._committed(joined.member_id, partitions)
        if positions is not None:
            self._positions = positions
            self._joined += 1
            self._membership = Membership(joined.member_id, joined.generation_id, self._joined)

    async def _committed(self, member_id: str, partitions: list[int]) -> dict[int, int] | None:
        if not partitions:
            return {}
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        request = OffsetFetchRequest(
            group_id=self._group,
            topics=[OffsetFetchRequestTopic(name=self._topic, partition_indexes=partitions)],
        )
        response: OffsetFetchResponse | None = await self._coordinator.ask(request, 5)
        if response is None or response.error_code != ErrorCode.NONE:
            return None
        found = {}
        for answer in response.topics[0].partitions:
            if answer.error_code != ErrorCode.NONE:
                return None
            found[answer.partition_index] = max(0, answer.committed_offset)
            self._history.committed_reads.append(
                CommittedRead(
                    member=member_id, partition=answer.partition_index, offset=answer.committed_offset,
                    began_s=began_s, ended_s=loop.time(),
                )
            )  # fmt: skip
        return found

    # -- being one

    async def _read(self) -> None:
        membership = self._membership
        assert membership is not None
        if not self._positions:
            await asyncio.sleep(HEARTBEAT_S / 2)
        for partition, offset in list(self._positions.items()):
            session = f"{membership.member_id}/{membership.number}"
            position = await self._reader.fetch(partition, offset, session=session, assigned=False)
            if self._membership is not membership:
                return
            if position is not None:
                self._positions[partition] = position

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self.heartbeat()

    def _told(self, code: int) -> None:
        if code == ErrorCode.UNKNOWN_MEMBER_ID:
            self._member_id, self._membership = "", None
        elif code == ErrorCode.ILLEGAL_GENERATION:
            self._membership = None
        elif code == ErrorCode.REBALANCE_IN_PROGRESS:
            self._stale = True
        elif code in ELSEWHERE:
            self._coordinator.mistrust()


def subscription(topic: str) -> bytes:
    """A consumer's subscription: version 0, the topics, no user data."""
    name = topic.encode()
    return b"\0\0" + INT.pack(1) + len(name).to_bytes(2, "big") + name + INT.pack(-1)


def assignment(topic: str, partitions: list[int]) -> bytes:
    """A consumer's assignment: version 0, the partitions of each topic, no user data."""
    name = topic.encode()
    return b"".join(
        (b"\0\0", INT.pack(1), len(name).to_bytes(2, "big"), name, INT.pack(len(partitions)),
         *map(INT.pack, partitions), INT.pack(-1))
    )  # fmt: skip


def assigned_partitions(data: bytes) -> list[int]:
    """The partitions of the only topic of an assignment; an empty one has none."""
    if not data:
        return []
    at = 6
    at += 2 + int.from_bytes(data[at : at + 2], "big")
    (count,) = INT.unpack_from(data, at)
    return [INT.unpack_from(data, at + 4 + 4 * number)[0] for number in range(count)]
