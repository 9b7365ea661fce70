"""What a node keeps for the role that it has now; it is made anew with each transition and dropped after."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from streamkit.broker.raft.log_view import SnapshotId
from streamkit.broker.raft.messages import AddVoterRequest, FetchRequest, PeerRequest
from streamkit.broker.raft.replicas import Replicas
from streamkit.broker.raft.voters import VoterSet

NEVER: Final = float("inf")


class Role(Enum):
    UNATTACHED = "unattached"
    PROSPECTIVE = "prospective"
    CANDIDATE = "candidate"
    LEADER = "leader"
    FOLLOWER = "follower"
    RESIGNED = "resigned"


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Kafka's `controller.quorum.*` and what follows from them, in milliseconds."""

    election_ms: float = 1_000
    fetch_ms: float = 2_000
    election_backoff_max_ms: float = 1_000
    fetch_wait_ms: int = 500
    retry_ms: float = 50

    def ask_again_ms(self, asked: int) -> float:
        """How long to wait before looking for a leader again, after having asked so often in vain."""
        return self.retry_ms * min(1 << min(asked // 4, 3), 8)

    @property
    def request_ms(self) -> float:
        """How long an answer may take that the other side does not hold back."""
        return self.fetch_ms

    @property
    def check_quorum_ms(self) -> float:
        """A leader that a majority is silent to for so long resigns, later than followers leave it."""
        return self.fetch_ms * 1.5

    @property
    def begin_ms(self) -> float:
        """How long a voter may be silent before it is told again who leads."""
        return self.fetch_ms / 2

    @property
    def stagger_ms(self) -> float:
        """Voters that know at the same moment that there is no leader stand within this time."""
        return self.election_ms * 0.2


class Unattached(msgspec.Struct):
    """Knows no leader of its epoch: looks for one, and stands itself when the time is up."""

    deadline_ms: float
    asked: FetchRequest | None = None
    answer_by_ms: float = NEVER
    ask_at_ms: float = 0
    next_peer: int = 0
    leaderless: set[int] = msgspec.field(default_factory=set)
    """Voters that said they know of no leader either."""


class Election(msgspec.Struct):
    """A round of votes, for the right to stand (prospective) or for an epoch (candidate)."""

    deadline_ms: float
    granted: set[int]
    rejected: set[int] = msgspec.field(default_factory=set)
    unreachable: set[int] = msgspec.field(default_factory=set)
    """Voters at whose address nobody listens: not worth the wait, a later round asks them again."""
    ask_at_ms: dict[int, float] = msgspec.field(default_factory=dict)

    def is_won(self, voters: VoterSet) -> bool:
        return sum(1 for voter in voters if voter.key.id in self.granted) >= voters.majority

    def is_lost(self, voters: VoterSet) -> bool:
        hopeless = self.rejected | self.unreachable
        return sum(1 for voter in voters if voter.key.id not in hopeless) < voters.majority


class Download(msgspec.Struct):
    snapshot: SnapshotId
    position: int = 0


class Following(msgspec.Struct):
    leader_id: int
    deadline_ms: float
    in_flight: PeerRequest | None = None
    answer_by_ms: float = NEVER
    fetch_at_ms: float = 0
    has_fetched: bool = False
    is_suspect: bool = False
    """The leader's door is closed, or it said that it leads no more: others may stand with our consent."""
    download: Download | None = None

    def is_answered_by(self, request: PeerRequest) -> bool:
        return request is self.in_flight


class VoterChange(msgspec.Struct, frozen=True):
    """An asked-for change of the voters that is in the log at `offset`."""

    token: int
    offset: int


class Leading(msgspec.Struct):
    epoch_start: int
    replicas: Replicas
    change: VoterChange | None = None
    waiting: dict[int, tuple[AddVoterRequest, float]] = msgspec.field(default_factory=dict)
    """Token of an AddVoter whose replica has yet to catch up → the request and its deadline."""
    told_ms: dict[int, float] = msgspec.field(default_factory=dict)
    """When each voter was last told of this epoch."""


class Resigned(msgspec.Struct):
    deadline_ms: float
    tell: set[int]
    """Voters that still have to hear of it."""
