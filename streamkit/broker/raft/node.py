"""One node of the controller quorum: KRaft, every transition in this file.

The log is pulled. A follower fetches from the end of its log and names the epoch of its last record; the
leader answers with what follows, or with where the two logs part (the follower cuts its log there and asks
again), or with a snapshot if it no longer has what the follower needs. The offset of a fetch is at the same
time its acknowledgement: everything before it is on the follower's disk. The high watermark is what a
majority of the voters has so acknowledged, once it covers a record of the leader's own epoch: an older one
proves nothing (Raft §5.4.2), hence the leader change record that begins each epoch.

    unattached ──no leader in time──▶ prospective ──a majority would vote──▶ candidate ──majority──▶ leader
        ▲  │                              │                                      │                     │
        │  └──a leader is heard of──▶ follower ◀────────────────────────────────┘                     │
        └── whoever fails, loses its leader or meets a higher epoch ◀────── resigned ◀────────────────┘

*Prospective* asks whether it could win before it raises its epoch, so that a node that was cut off disturbs
nobody when it returns (KIP-996). A leader from which a majority has not fetched for a while *resigns*: it is
alone and does not know it. Resigning and stopping leaders name their successors, the longest log first.

A node that is no voter by the newest voters record (by id and directory, see `voters`) is an observer: it
follows and never stands, nor does it vote unless a candidate's newer record names it. Until a voters record
exists the configured voters count; the first leader writes one as soon as its epoch is committed.

Time and chance come in with each step: `now_ms` of a monotonic clock, `jitter` in [0, 1).
"""

from __future__ import annotations

from typing import Final

from streamkit.broker.raft.log_view import LogPosition, LogView, SnapshotId
from streamkit.broker.raft.messages import (
    NO_LEADER,
    AddVoterRequest,
    Batch,
    BeginEpochRequest,
    ControlRecord,
    EndEpochRequest,
    EpochReply,
    FetchReply,
    FetchRequest,
    FetchSnapshotReply,
    FetchSnapshotRequest,
    KRaftVersion,
    LeaderChange,
    PeerRequest,
    RemoveVoterRequest,
    Reply,
    Request,
    UpdateVoterRequest,
    VoterChangeReply,
    VoteReply,
    VoteRequest,
    Voters,
)
from streamkit.broker.raft.ready import (
    Answer,
    Answered,
    ElectionState,
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
from streamkit.broker.raft.replicas import ParkedFetch, Replica, Replicas
from streamkit.broker.raft.roles import (
    NEVER,
    Download,
    Election,
    Following,
    Leading,
    Resigned,
    Role,
    Timeouts,
    Unattached,
    VoterChange,
)
from streamkit.broker.raft.voters import ReplicaKey, Voter, VoterSet
from streamkit.protocol.error_codes import ErrorCode
from streamkit.protocol.records.batch import Buffer

KRAFT_VERSION: Final = 1
BACKOFF_MS: Final = 50


class NotLeadingError(Exception):
    """Only the leader appends."""


class RaftNode:
    """Invariants: `high_watermark` never goes back nor beyond the log's end; nothing below it is cut off."""

    def __init__(
        self,
        key: ReplicaKey,
        *,
        state: ElectionState,
        log: LogView,
        configured_voters: VoterSet,
        timeouts: Timeouts,
        now_ms: float,
        jitter: float,
    ) -> None:
        self.key: Final = key
        self.log: Final = log
        self.high_watermark = 0 if log.snapshot is None else log.snapshot.end_offset
        self.role = Role.UNATTACHED
        self.elections = 0
        """How often this node became leader."""
        self._configured = configured_voters.with_directories([key])
        self._timeouts = timeouts
        self._state = self._persisted = state
        self._now_ms = now_ms
        self._jitter = jitter
        self._losses = 0
        self._asked = 0
        """How often a peer was asked for the leader since there was one."""
        self._installing = False
        self._unattached = Unattached(deadline_ms=0)
        self._election = Election(deadline_ms=0, granted=set())
        self._following = Following(leader_id=NO_LEADER, deadline_ms=0)
        self._leading = Leading(epoch_start=0, replicas=Replicas(key, now_ms))
        self._resigned = Resigned(deadline_ms=0, tell=set())
        self._log_changes: list[Batch | Truncate] = []
        self._chunks: list[SnapshotChunk] = []
        self._messages: list[Send] = []
        self._replies: list[Answer] = []
        self._begin()

    def __repr__(self) -> str:
        return (
            f"RaftNode({self.key.id}, {self.role.value} of {self.leader_id} in {self.epoch}, "
            f"[{self.log.start_offset}, {self.log.end_offset}), committed {self.high_watermark})"
        )

    # -- what it is now

    @property
    def epoch(self) -> int:
        return self._state.epoch

    @property
    def leader_id(self) -> int:
        """The leader of `epoch`, as far as this node knows; a node that resigned is none."""
        if self.role is Role.LEADER:
            return self.key.id
        return self._following.leader_id if self.role is Role.FOLLOWER else NO_LEADER

    @property
    def voters(self) -> VoterSet:
        recorded = self.log.voters
        return self._configured if recorded is None else recorded.voters

    @property
    def is_voter(self) -> bool:
        return self.voters.has(self.key)

    @property
    def is_active(self) -> bool:
        """It leads, and everything that was committed before it led is committed here."""
        return self.role is Role.LEADER and self.high_watermark > self._leading.epoch_start

    @property
    def epoch_start_offset(self) -> int:
        """Where the leader's own epoch begins in its log."""
        return self._leading.epoch_start

    @property
    def replicas(self) -> Replicas:
        """Who fetches from this leader."""
        return self._leading.replicas

    # -- the contract: step, append, ready

    def step(self, event: Event, now_ms: float, jitter: float) -> None:
        self._now_ms, self._jitter = now_ms, jitter
        match event:
            case Received():
                self._on_request(event.token, event.request)
            case Answered():
                self._on_reply(event.sender, event.request, event.reply)
            case Lost():
                self._on_lost(event)
            case Flushed():
                self.log.flushed_offset = min(event.offset, self.log.end_offset)
            case SnapshotInstalled():
                self._on_installed(event)
            case SnapshotTaken():
                self.log.snapshot = event.snapshot
                if event.trimmed_to is not None:
                    self.log.trim_to(event.trimmed_to)
            case Resign():
                if self.role is Role.LEADER:
                    self._become_resigned()
            case Tick():
                pass
        self._proceed()

    def append(self, payload: Buffer, count: int, now_ms: float) -> int:
        """Put an encoded batch of `count` records behind the leader's log; the offset of the first."""
        if self.role is not Role.LEADER:
            raise NotLeadingError
        self._now_ms = now_ms
        base_offset = self._append(payload, count)
        self._proceed()
        return base_offset

    def ready(self) -> Ready:
        """What is to be done now, once; see `ready` for the order."""
        changed = self._state != self._persisted
        self._persisted = self._state
        ready = Ready(
            state=self._state if changed else None,
            log=self._log_changes,
            chunks=self._chunks,
            messages=self._messages,
            replies=self._replies,
            high_watermark=self.high_watermark,
            wake_at_ms=self._wake_at_ms(),
        )
        self._log_changes, self._chunks, self._messages, self._replies = [], [], [], []
        return ready

    # -- transitions

    def _begin(self) -> None:
        """A node that led when it went down leads no more in that epoch, and says so."""
        if self._state.leader_id == self.key.id and len(self.voters) > 1:
            self._become_resigned()
        elif self._state.leader_id not in (NO_LEADER, self.key.id):
            self._become_follower(self.epoch, self._state.leader_id)
        else:
            self._become_unattached(self.epoch)
        self._proceed()

    def _become_unattached(self, epoch: int, deadline_ms: float | None = None) -> None:
        """No leader is known; `deadline_ms` is when to stand, an election timeout from now by default."""
        if deadline_ms is None:
            deadline_ms = self._election_deadline_ms()
            if self.role in (Role.PROSPECTIVE, Role.CANDIDATE):
                deadline_ms = min(deadline_ms, self._election.deadline_ms)
            elif self.role is Role.UNATTACHED and self._unattached.deadline_ms > self._now_ms:
                deadline_ms = min(deadline_ms, self._unattached.deadline_ms)
        self._leave_role()
        if epoch > self.epoch:
            self._state = ElectionState(epoch)
        elif self._state.leader_id != NO_LEADER:
            self._state = ElectionState(epoch, voted=self._state.voted)
        self.role = Role.UNATTACHED
        self._unattached = Unattached(deadline_ms=deadline_ms, next_peer=self._unattached.next_peer)

    def _become_prospective(self) -> None:
        self._leave_role()
        self.role = Role.PROSPECTIVE
        self._election = Election(deadline_ms=self._election_deadline_ms(), granted={self.key.id})

    def _become_candidate(self) -> None:
        self._leave_role()
        self._state = ElectionState(self.epoch + 1, voted=self.key)
        self.role = Role.CANDIDATE
        self._election = Election(deadline_ms=self._election_deadline_ms(), granted={self.key.id})

    def _become_leader(self) -> None:
        granting = tuple(voter.key for voter in self.voters if voter.key.id in self._election.granted)
        self._leave_role()
        self._state = ElectionState(self.epoch, self.key.id, self._state.voted)
        self.role = Role.LEADER
        self.elections += 1
        self._losses = self._asked = 0
        self._leading = Leading(epoch_start=self.log.end_offset, replicas=Replicas(self.key, self._now_ms))
        keys = tuple(voter.key for voter in self.voters)
        change = LeaderChange(leader_id=self.key.id, voters=keys, granting=granting)
        if self.log.voters is None and len(self.voters) == 1:
            self._append_control(change, KRaftVersion(KRAFT_VERSION), Voters(self.voters))
        else:
            self._append_control(change)

    def _become_follower(self, epoch: int, leader_id: int) -> None:
        self._leave_role()
        voted = self._state.voted if epoch == self.epoch else None
        self._state = ElectionState(epoch, leader_id, voted)
        self.role = Role.FOLLOWER
        self._losses = self._asked = 0
        self._following = Following(leader_id=leader_id, deadline_ms=self._now_ms + self._timeouts.fetch_ms)

    def _become_resigned(self) -> None:
        """Stop leading; the epoch stays, so an isolated leader does not raise it (R9)."""
        others = {voter.key.id for voter in self.voters} - {self.key.id}
        self._leave_role()
        self.role = Role.RESIGNED
        self._resigned = Resigned(deadline_ms=self._election_deadline_ms(), tell=others)

    def _leave_role(self) -> None:
        """Whoever waits for this leader is told that it is none; what is under way elsewhere is forgotten."""
        if self.role is not Role.LEADER:
            return
        self.role = Role.UNATTACHED
        leading = self._leading
        for parked in leading.replicas.parked.values():
            self._reply(parked.token, self._fetch_refused(ErrorCode.NOT_LEADER_OR_FOLLOWER))
        leading.replicas.parked.clear()
        if leading.change is not None:
            self._refuse_change(leading.change.token, ErrorCode.NOT_LEADER_OR_FOLLOWER, "leadership was lost")
            leading.change = None
        for token in leading.waiting:
            self._refuse_change(token, ErrorCode.NOT_LEADER_OR_FOLLOWER, "leadership was lost")
        leading.waiting.clear()

    def _observe(self, epoch: int, leader_id: int) -> None:
        """Somebody knows of this epoch, and perhaps of its leader."""
        is_other = leader_id not in (NO_LEADER, self.key.id)
        if epoch > self.epoch:
            if is_other:
                self._become_follower(epoch, leader_id)
            else:
                self._become_unattached(epoch)
        elif epoch == self.epoch and is_other and self.role not in (Role.LEADER, Role.FOLLOWER):
            self._become_follower(epoch, leader_id)

    def _lose_election(self) -> None:
        """Wait for longer after each loss, and never in step with others."""
        limit_ms = min(self._timeouts.election_backoff_max_ms, BACKOFF_MS * 2**self._losses)
        self._losses = min(self._losses + 1, 16)
        self._become_unattached(self.epoch, self._now_ms + limit_ms * (0.1 + self._jitter))

    def _election_deadline_ms(self) -> float:
        return self._now_ms + self._timeouts.election_ms * (1 + self._jitter)

    # -- what is due now

    def _proceed(self) -> None:
        """Do whatever is due, until a role is found in which nothing is."""
        while True:
            role = self.role
            match role:
                case Role.UNATTACHED:
                    self._proceed_unattached()
                case Role.PROSPECTIVE | Role.CANDIDATE:
                    self._proceed_election()
                case Role.FOLLOWER:
                    self._proceed_following()
                case Role.LEADER:
                    self._proceed_leading()
                case Role.RESIGNED:
                    self._proceed_resigned()
            if self.role is role:
                return

    def _wake_at_ms(self) -> float:
        match self.role:
            case Role.UNATTACHED:
                state = self._unattached
                ask = state.ask_at_ms if state.asked is None else state.answer_by_ms
                stand = state.deadline_ms if self._may_stand else NEVER
                return min(stand, ask if self._peers() else NEVER)
            case Role.PROSPECTIVE | Role.CANDIDATE:
                return min(self._election.deadline_ms, *self._election.ask_at_ms.values(), NEVER)
            case Role.FOLLOWER:
                following = self._following
                fetch = following.fetch_at_ms if following.in_flight is None else following.answer_by_ms
                leave = following.deadline_ms
                return min(leave, fetch if self._may_fetch else NEVER)
            case Role.LEADER:
                return self._leader_wakes_at_ms()
            case Role.RESIGNED:
                return self._resigned.deadline_ms

    @property
    def _may_stand(self) -> bool:
        return self.is_voter and not self._installing

    # -- unattached: look for a leader, then stand

    def _proceed_unattached(self) -> None:
        state = self._unattached
        if self._may_stand and (len(self.voters) == 1 or self._now_ms >= state.deadline_ms):
            self._become_prospective()
            return
        if state.asked is not None and self._now_ms >= state.answer_by_ms:
            state.asked = None
        peers = self._peers()
        if state.asked is None and peers and self._now_ms >= state.ask_at_ms:
            state.next_peer = (state.next_peer + 1) % len(peers)
            state.asked = self._fetch_request()
            state.answer_by_ms = self._now_ms + self._timeouts.request_ms
            self._send(peers[state.next_peer], state.asked)

    def _peers(self) -> tuple[int, ...]:
        """Whom to ask for the leader: the voters, and the configured ones in case they know better."""
        ids = dict.fromkeys((*self.voters.ids, *self._configured.ids))
        return tuple(replica_id for replica_id in ids if replica_id != self.key.id)

    def _asked_peer(self, sender: int, is_leaderless: bool) -> None:
        """A peer that was asked for the leader knows of none; when a majority knows of none, stand soon."""
        state = self._unattached
        state.asked = None
        self._asked += 1
        state.ask_at_ms = self._now_ms + self._timeouts.ask_again_ms(self._asked)
        if not is_leaderless or sender not in self.voters:
            return
        state.leaderless.add(sender)
        if len(state.leaderless) + 1 >= self.voters.majority:
            stand_ms = self._now_ms + self._timeouts.stagger_ms * self._jitter
            state.deadline_ms = min(state.deadline_ms, stand_ms)

    # -- elections

    def _proceed_election(self) -> None:
        election, voters = self._election, self.voters
        if election.is_won(voters):
            if self.role is Role.PROSPECTIVE:
                self._become_candidate()
            else:
                self._become_leader()
        elif election.is_lost(voters) or self._now_ms >= election.deadline_ms:
            self._lose_election()
        else:
            self._ask_for_votes(election)

    def _ask_for_votes(self, election: Election) -> None:
        for voter in self.voters:
            voter_id = voter.key.id
            if voter_id in election.granted or voter_id in election.rejected:
                continue
            if self._now_ms < election.ask_at_ms.get(voter_id, 0):
                continue
            election.ask_at_ms[voter_id] = self._now_ms + self._timeouts.election_ms / 4
            self._send(
                voter_id,
                VoteRequest(
                    epoch=self.epoch,
                    candidate=self.key,
                    voter=voter.key,
                    last=self.log.position,
                    pre_vote=self.role is Role.PROSPECTIVE,
                ),
            )

    def _on_vote(self, token: int, request: VoteRequest) -> None:
        refusal = self._refused_as_voter(request.voter)
        if refusal is ErrorCode.NONE and request.epoch < self.epoch:
            refusal = ErrorCode.FENCED_LEADER_EPOCH
        if refusal is not ErrorCode.NONE:
            self._reply(token, VoteReply(self.epoch, self.leader_id, error=refusal))
            return
        self._observe(request.epoch, NO_LEADER)
        granted = request.last >= self.log.position and (
            self._would_support() if request.pre_vote else self._may_vote_for(request.candidate)
        )
        if granted and not request.pre_vote:
            self._state = ElectionState(self.epoch, voted=request.candidate)
            self._become_unattached(self.epoch, self._election_deadline_ms())
        # whoever may stand is not to hear of the leader again that this node gave up
        leader_id = NO_LEADER if granted else self.leader_id
        self._reply(token, VoteReply(self.epoch, leader_id, granted))

    def _refused_as_voter(self, meant: ReplicaKey) -> ErrorCode:
        """Whether a request means another replica than this one by its voter (R10)."""
        if meant.id != self.key.id:
            return ErrorCode.INVALID_VOTER_KEY
        is_other = meant != self.key if meant.has_directory else not self.is_voter
        return ErrorCode.INVALID_VOTER_KEY if is_other else ErrorCode.NONE

    def _would_support(self) -> bool:
        """Whether an election would find this node without a living leader (KIP-996)."""
        if self.role is Role.FOLLOWER:
            return self._following.is_suspect or not self._following.has_fetched
        return self.role is not Role.LEADER

    def _may_vote_for(self, candidate: ReplicaKey) -> bool:
        if self.role not in (Role.UNATTACHED, Role.PROSPECTIVE):
            return False
        return self._state.voted is None or self._state.voted == candidate

    def _on_vote_reply(self, sender: int, request: VoteRequest, reply: VoteReply) -> None:
        is_current = (
            self.role is (Role.PROSPECTIVE if request.pre_vote else Role.CANDIDATE)
            and request.epoch == self.epoch
            and self.voters.key_of(sender) == request.voter
        )
        if is_current:
            (self._election.granted if reply.granted else self._election.rejected).add(sender)
            self._election.unreachable.discard(sender)
            self._election.ask_at_ms.pop(sender, None)

    # -- following

    @property
    def _may_fetch(self) -> bool:
        """A fetch tells that all before its offset is durable, so it waits until that is true."""
        return self.log.flushed_offset == self.log.end_offset and not self._installing

    def _proceed_following(self) -> None:
        following = self._following
        if self._now_ms >= following.deadline_ms and not self._installing:
            if self.is_voter:
                self._become_prospective()
            else:
                self._become_unattached(self.epoch)
            return
        if following.in_flight is not None and self._now_ms >= following.answer_by_ms:
            following.in_flight = None
        if following.in_flight is None and self._may_fetch and self._now_ms >= following.fetch_at_ms:
            download = following.download
            if download is None:
                following.in_flight = self._fetch_request()
            else:
                following.in_flight = FetchSnapshotRequest(
                    self.epoch, self.key, download.snapshot, download.position
                )
            wait_ms = self._timeouts.fetch_wait_ms + self._timeouts.request_ms
            following.answer_by_ms = self._now_ms + wait_ms
            self._send(following.leader_id, following.in_flight)

    def _fetch_request(self) -> FetchRequest:
        return FetchRequest(
            epoch=self.epoch,
            replica=self.key,
            last=self.log.position,
            high_watermark=self.high_watermark,
            max_wait_ms=self._timeouts.fetch_wait_ms,
        )

    def _on_fetch_reply(self, sender: int, request: FetchRequest, reply: FetchReply) -> None:
        if self.role is Role.UNATTACHED and request is self._unattached.asked:
            self._asked_peer(sender, reply.leader_id == NO_LEADER)
        if self.role is not Role.FOLLOWER or not self._following.is_answered_by(request):
            return
        following = self._following
        following.in_flight = None
        if reply.error is not ErrorCode.NONE or reply.epoch != self.epoch:
            following.fetch_at_ms = self._now_ms + self._timeouts.retry_ms
            if reply.leader_id != following.leader_id:
                self._suspect_leader()
            return
        self._heard_leader()
        if reply.diverging is not None:
            self._truncate(reply.diverging)
        elif reply.snapshot is not None:
            following.download = Download(reply.snapshot)
        else:
            self._append_fetched(reply)

    def _heard_leader(self) -> None:
        self._following.deadline_ms = self._now_ms + self._timeouts.fetch_ms
        self._following.has_fetched = True
        self._following.is_suspect = False

    def _suspect_leader(self) -> None:
        """The leader is gone by all signs: do not wait for the whole timeout, the pre-vote will tell."""
        following = self._following
        if not following.is_suspect:
            following.is_suspect = True
            leave_ms = self._now_ms + self._timeouts.retry_ms + self._timeouts.stagger_ms * self._jitter
            following.deadline_ms = min(following.deadline_ms, leave_ms)

    def _append_fetched(self, reply: FetchReply) -> None:
        for batch in reply.batches:
            if (
                batch.base_offset != self.log.end_offset
                or not self.log.last_epoch <= batch.epoch <= self.epoch
            ):
                break  # not what was asked for: the next fetch asks again
            self._log_changes.append(batch)
            self.log.append(batch.epoch, batch.next_offset, batch.voters)
        self.high_watermark = max(self.high_watermark, min(reply.high_watermark, self.log.end_offset))

    def _truncate(self, diverging: LogPosition) -> None:
        """Cut off what the leader does not have, by epochs on both sides (KIP-279).

        The leader's offset is a boundary of batches here only if both logs hold that epoch; else the next
        fetch, from the end of the epoch before it, will find where the logs part.
        """
        own = self.log.end_of(diverging.epoch)
        end_offset = min(diverging.offset, own.offset) if own.epoch == diverging.epoch else own.offset
        assert self.high_watermark <= end_offset < self.log.end_offset, "what is committed is never cut off"
        self.log.truncate_to(end_offset)
        self._log_changes.append(Truncate(end_offset))

    def _on_snapshot_reply(self, request: FetchSnapshotRequest, reply: FetchSnapshotReply) -> None:
        if self.role is not Role.FOLLOWER or not self._following.is_answered_by(request):
            return
        following = self._following
        following.in_flight = None
        download = following.download
        if reply.epoch != self.epoch or download is None:
            return
        end = reply.position + len(reply.data)
        is_next = reply.snapshot == download.snapshot and reply.position == download.position
        if reply.error is not ErrorCode.NONE or not is_next or (not reply.data and end < reply.size):
            following.download = None
            following.fetch_at_ms = self._now_ms + self._timeouts.retry_ms
            return
        self._heard_leader()
        is_last = end >= reply.size
        self._chunks.append(SnapshotChunk(download.snapshot, download.position, reply.data, is_last))
        download.position = end
        if is_last:
            self._installing = True
            following.download = None

    def _on_installed(self, event: SnapshotInstalled) -> None:
        assert self.role is not Role.LEADER, "a leader never loads a snapshot"
        self._installing = False
        self.log.begin_at(event.snapshot, event.voters)
        self.high_watermark = max(self.high_watermark, event.snapshot.end_offset)

    # -- leading

    def _proceed_leading(self) -> None:
        leading = self._leading
        heard_ms = leading.replicas.majority_heard_ms(self.voters, self._now_ms)
        if self._now_ms >= heard_ms + self._timeouts.check_quorum_ms:
            self._become_resigned()
            return
        self._commit()
        if self.role is not Role.LEADER:
            return
        self._change_voters()
        self._tell_voters()
        self._serve_parked()

    def _leader_wakes_at_ms(self) -> float:
        leading = self._leading
        times = [parked.deadline_ms for parked in leading.replicas.parked.values()]
        times += [deadline_ms for _, deadline_ms in leading.waiting.values()]
        if len(self.voters) > 1 or not self.is_voter:
            heard_ms = leading.replicas.majority_heard_ms(self.voters, self._now_ms)
            times.append(heard_ms + self._timeouts.check_quorum_ms)
            times += [self._tell_at_ms(voter.key) for voter in self.voters if voter.key.id != self.key.id]
        return min(times, default=NEVER)

    def _append(
        self, payload: Buffer | tuple[ControlRecord, ...], count: int, voters: VoterSet | None = None
    ) -> int:
        base_offset = self.log.end_offset
        batch = Batch(base_offset, base_offset + count, self.epoch, payload, voters)
        self._log_changes.append(batch)
        self.log.append(batch.epoch, batch.next_offset, voters)
        return base_offset

    def _append_control(self, *records: ControlRecord) -> int:
        """Append the protocol's own records; the offset of the last."""
        voters = next((record.voters for record in records if isinstance(record, Voters)), None)
        return self._append(records, len(records), voters) + len(records) - 1

    def _commit(self) -> None:
        offset = self._leading.replicas.majority_offset(self.voters, self.log.flushed_offset)
        if offset > self._leading.epoch_start and offset > self.high_watermark:
            self.high_watermark = offset
            self._answer_change()
            if not self.is_voter and self._are_voters_committed:
                self._become_resigned()

    def _tell_voters(self) -> None:
        """Tell voters who leads until they fetch, and again when they fall silent."""
        for voter in self.voters:
            if voter.key.id != self.key.id and self._now_ms >= self._tell_at_ms(voter.key):
                self._leading.told_ms[voter.key.id] = self._now_ms
                self._send(voter.key.id, BeginEpochRequest(self.epoch, self.key.id, voter.key))

    def _tell_at_ms(self, key: ReplicaKey) -> float:
        replica = self._leading.replicas.of_voter(key)
        told_ms = self._leading.told_ms.get(key.id)
        if told_ms is None and replica is None:
            return self._now_ms
        heard_ms = -1.0 if replica is None else replica.fetched_ms
        return max(heard_ms, -1.0 if told_ms is None else told_ms) + self._timeouts.begin_ms

    def _on_fetch(self, token: int, request: FetchRequest) -> None:
        refusal = self._refused_as_leader(request.epoch)
        if refusal is not ErrorCode.NONE:
            self._reply(token, self._fetch_refused(refusal))
            return
        replicas = self._leading.replicas
        earlier = replicas.parked.pop(request.replica, None)
        if earlier is not None:
            self._reply(earlier.token, self._fetch_reply())
        if not self._help_diverged(token, request):
            replicas.fetched(request.replica, request.last.offset, self.log.end_offset, self._now_ms)
            deadline_ms = self._now_ms + request.max_wait_ms
            replicas.parked[request.replica] = ParkedFetch(token, request, deadline_ms)

    def _refused_as_leader(self, epoch: int) -> ErrorCode:
        if epoch > self.epoch:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if self.role is not Role.LEADER:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return ErrorCode.FENCED_LEADER_EPOCH if epoch < self.epoch else ErrorCode.NONE

    def _help_diverged(self, token: int, request: FetchRequest) -> bool:
        """Answer a replica whose log is no prefix of this one, or ends before this one begins."""
        log, replicas = self.log, self._leading.replicas
        if log.needs_snapshot(request.last):
            self._reply(token, self._fetch_reply(snapshot=log.snapshot))
        elif (diverging := log.divergence(request.last)) is not None:
            self._reply(token, self._fetch_reply(diverging=diverging))
        else:
            return False
        replicas.heard(request.replica, self._now_ms)
        return True

    def _serve_parked(self) -> None:
        """Answer every fetch that waited for what is there now, or for long enough."""
        parked = self._leading.replicas.parked
        for key, fetch in list(parked.items()):
            request = fetch.request
            has_records = request.last.offset < self.log.end_offset
            has_news = has_records or request.high_watermark < self.high_watermark
            if not has_news and self._now_ms < fetch.deadline_ms:
                continue
            del parked[key]
            if not self._help_diverged(fetch.token, request):
                records_from = request.last.offset if has_records else -1
                self._reply(fetch.token, self._fetch_reply(records_from=records_from))

    def _fetch_reply(
        self,
        *,
        diverging: LogPosition | None = None,
        snapshot: SnapshotId | None = None,
        records_from: int = -1,
    ) -> FetchReply:
        return FetchReply(
            epoch=self.epoch,
            leader_id=self.leader_id,
            high_watermark=self.high_watermark,
            log_start_offset=self.log.start_offset,
            diverging=diverging,
            snapshot=snapshot,
            records_from=records_from,
        )

    def _fetch_refused(self, error: ErrorCode) -> FetchReply:
        return FetchReply(self.epoch, self.leader_id, error)

    def _on_fetch_snapshot(self, token: int, request: FetchSnapshotRequest) -> None:
        error = self._refused_as_leader(request.epoch)
        if error is ErrorCode.NONE:
            self._leading.replicas.heard(request.replica, self._now_ms)
            if request.snapshot != self.log.snapshot:
                error = ErrorCode.SNAPSHOT_NOT_FOUND
        self._reply(
            token,
            FetchSnapshotReply(
                self.epoch, self.leader_id, error, snapshot=request.snapshot, position=request.position
            ),
        )

    # -- resigning

    def _proceed_resigned(self) -> None:
        resigned = self._resigned
        if self._now_ms >= resigned.deadline_ms:
            self._become_unattached(self.epoch, self._now_ms)
            return
        request = EndEpochRequest(self.epoch, self.key.id, self._successors())
        for voter_id in sorted(resigned.tell):
            self._send(voter_id, request)
        resigned.tell.clear()

    def _successors(self) -> tuple[ReplicaKey, ...]:
        """The other voters, the most complete log first."""
        replicas = self._leading.replicas

        def behind(key: ReplicaKey) -> tuple[int, int]:
            replica = replicas.of_voter(key)
            return (0 if replica is None else -replica.end_offset, key.id)

        return tuple(sorted((v.key for v in self.voters if v.key.id != self.key.id), key=behind))

    def _on_begin_epoch(self, token: int, request: BeginEpochRequest) -> None:
        error = ErrorCode.NONE
        if request.epoch < self.epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        elif request.voter.has_directory and request.voter != self.key:
            error = ErrorCode.INVALID_VOTER_KEY
        else:
            self._observe(request.epoch, request.leader_id)
        self._reply(token, EpochReply(self.epoch, self.leader_id, error))

    def _on_end_epoch(self, token: int, request: EndEpochRequest) -> None:
        error = ErrorCode.NONE
        if request.epoch < self.epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        else:
            self._observe(request.epoch, NO_LEADER)
            if self.role is Role.FOLLOWER and self._following.leader_id == request.leader_id:
                self._succeed(request.candidates)
        self._reply(token, EpochReply(self.epoch, self.leader_id, error))

    def _succeed(self, candidates: tuple[ReplicaKey, ...]) -> None:
        """The first candidate stands now, each later one after a longer wait."""
        if self.key not in candidates:
            self._become_unattached(self.epoch)
            return
        place = candidates.index(self.key)
        wait_ms = place * self._timeouts.stagger_ms * (1 + self._jitter)
        self._become_unattached(self.epoch, self._now_ms + wait_ms)

    # -- changing the voters, one at a time (R8)

    @property
    def _are_voters_committed(self) -> bool:
        recorded = self.log.voters
        return recorded is not None and recorded.offset < self.high_watermark

    def _change_voters(self) -> None:
        """Write down who the voters are, as soon as that is known; then admit who waits for it."""
        self._expire_waiting()
        if not self.is_active or not (self.log.voters is None or self._are_voters_committed):
            return
        known = self.voters.with_directories(self._fetching_keys())
        if self.log.voters is None:
            self._append_control(KRaftVersion(KRAFT_VERSION), Voters(known))
        elif known != self.voters:
            self._append_control(Voters(known))
        else:
            self._admit_waiting()

    def _fetching_keys(self) -> list[ReplicaKey]:
        found = (self._leading.replicas.of_voter(voter.key) for voter in self.voters)
        return [replica.key for replica in found if replica is not None and replica.key.has_directory]

    def _admit_waiting(self) -> None:
        for token, (request, _) in self._leading.waiting.items():
            if self._has_caught_up(request.voter.key):
                del self._leading.waiting[token]
                self._append_change(token, self.voters.with_voter(request.voter), request.ack_when_committed)
                return

    def _has_caught_up(self, key: ReplicaKey) -> bool:
        """Whether a replica could vote without holding up the high watermark."""
        replica = self._leading.replicas.of_voter(key)
        return replica is not None and self._is_alive(replica) and replica.end_offset >= self.high_watermark

    def _is_alive(self, replica: Replica | None) -> bool:
        return replica is not None and self._now_ms - replica.fetched_ms < self._timeouts.fetch_ms

    def _are_alive(self, voters: VoterSet) -> bool:
        """Whether so many of them are alive that they can commit: voters that cannot are voters for ever."""
        alive = [
            voter
            for voter in voters
            if voter.is_same_replica(self.key) or self._is_alive(self._leading.replicas.of_voter(voter.key))
        ]
        return len(alive) >= voters.majority

    def _append_change(self, token: int, voters: VoterSet, ack_when_committed: bool = True) -> None:
        offset = self._append_control(Voters(voters))
        if ack_when_committed:
            self._leading.change = VoterChange(token, offset)
        else:
            self._reply(token, VoterChangeReply(self.epoch, self.leader_id))

    def _answer_change(self) -> None:
        change = self._leading.change
        if change is not None and change.offset < self.high_watermark:
            self._leading.change = None
            self._reply(change.token, VoterChangeReply(self.epoch, self.leader_id))

    def _expire_waiting(self) -> None:
        waiting = self._leading.waiting
        for token in [token for token, (_, at_ms) in waiting.items() if self._now_ms >= at_ms]:
            del waiting[token]
            self._refuse_change(token, ErrorCode.REQUEST_TIMED_OUT, "the new voter has not caught up")

    def _on_add_voter(self, token: int, request: AddVoterRequest) -> None:
        if not request.voter.key.has_directory:
            self._refuse_change(token, ErrorCode.INVALID_REQUEST, "a voter is added by its directory id")
        elif request.voter.key.id in self.voters:
            self._refuse_change(token, ErrorCode.DUPLICATE_VOTER, "a voter with this id exists")
        else:
            self._leading.waiting[token] = request, self._now_ms + request.timeout_ms

    def _on_remove_voter(self, token: int, request: RemoveVoterRequest) -> None:
        voter = self.voters.get(request.voter.id)
        if voter is None or voter.key != request.voter:
            self._refuse_change(token, ErrorCode.VOTER_NOT_FOUND, "no voter has this id and directory id")
        elif len(self.voters) == 1:
            self._refuse_change(token, ErrorCode.INVALID_REQUEST, "the last voter stays")
        elif not self._are_alive(remaining := self.voters.without(request.voter.id)):
            self._refuse_change(
                token, ErrorCode.REQUEST_TIMED_OUT, "too few of the voters that would remain are alive"
            )
        else:
            self._append_change(token, remaining)

    def _on_update_voter(self, token: int, voter: Voter) -> None:
        if not self.voters.has(voter.key):
            self._refuse_change(token, ErrorCode.VOTER_NOT_FOUND, "no voter has this id and directory id")
        elif self.voters.get(voter.key.id) == voter:
            self._reply(token, VoterChangeReply(self.epoch, self.leader_id))
        else:
            self._append_change(token, self.voters.with_voter(voter))

    def _on_voter_change(
        self, token: int, request: AddVoterRequest | RemoveVoterRequest | UpdateVoterRequest
    ) -> None:
        epoch = request.epoch if isinstance(request, UpdateVoterRequest) else self.epoch
        refusal = self._refused_as_leader(epoch)
        if refusal is not ErrorCode.NONE:
            self._refuse_change(token, refusal, "this node does not lead the quorum")
        elif isinstance(request, AddVoterRequest):
            self._on_add_voter(token, request)
        elif not self.is_active or not self._are_voters_committed:
            self._refuse_change(
                token, ErrorCode.REQUEST_TIMED_OUT, "another change of the voters is under way"
            )
        elif isinstance(request, RemoveVoterRequest):
            self._on_remove_voter(token, request)
        else:
            self._on_update_voter(token, request.voter)

    def _refuse_change(self, token: int, error: ErrorCode, message: str) -> None:
        self._reply(token, VoterChangeReply(self.epoch, self.leader_id, error, message))

    # -- dispatch

    def _on_request(self, token: int, request: Request) -> None:
        match request:
            case VoteRequest():
                self._on_vote(token, request)
            case BeginEpochRequest():
                self._on_begin_epoch(token, request)
            case EndEpochRequest():
                self._on_end_epoch(token, request)
            case FetchRequest():
                self._on_fetch(token, request)
            case FetchSnapshotRequest():
                self._on_fetch_snapshot(token, request)
            case AddVoterRequest() | RemoveVoterRequest() | UpdateVoterRequest():
                self._on_voter_change(token, request)

    def _on_reply(self, sender: int, request: PeerRequest, reply: Reply) -> None:
        is_consent = isinstance(reply, VoteReply) and reply.granted
        self._observe(reply.epoch, NO_LEADER if is_consent else reply.leader_id)
        match request, reply:
            case VoteRequest(), VoteReply():
                self._on_vote_reply(sender, request, reply)
            case FetchRequest(), FetchReply():
                self._on_fetch_reply(sender, request, reply)
            case FetchSnapshotRequest(), FetchSnapshotReply():
                self._on_snapshot_reply(request, reply)

    def _on_lost(self, event: Lost) -> None:
        """Try again soon; a follower whose leader's door is closed stops believing in it."""
        request, retry_at_ms = event.request, self._now_ms + self._timeouts.retry_ms
        if self.role is Role.FOLLOWER and self._following.is_answered_by(request):
            self._following.in_flight = None
            self._following.fetch_at_ms = retry_at_ms
            if event.refused:
                self._suspect_leader()
        elif self.role is Role.UNATTACHED and request is self._unattached.asked:
            self._asked_peer(event.receiver, is_leaderless=False)
        elif self.role in (Role.PROSPECTIVE, Role.CANDIDATE) and isinstance(request, VoteRequest):
            self._election.ask_at_ms[event.receiver] = retry_at_ms
            if event.refused:
                self._election.unreachable.add(event.receiver)
        elif self.role is Role.LEADER and isinstance(request, BeginEpochRequest):
            self._leading.told_ms[event.receiver] = retry_at_ms - self._timeouts.begin_ms

    def _send(self, to: int, request: PeerRequest) -> None:
        self._messages.append(Send(to, request))

    def _reply(self, token: int, reply: Reply) -> None:
        self._replies.append(Answer(token, reply))
